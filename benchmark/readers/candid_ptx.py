"""CANDID-PTX: pneumothorax masks as run-length codes over a folder of DICOM files without ending.

Only the table of pneumothorax is read; tubes, fractures and report texts are not. The agreement lets nothing leave: an error names table
and line, never an image or a patient, and quotes no cell, since in a shifted row any cell may hold a report.

Not verified against the files: that codes are relative and run down the columns, as SIIM-ACR's. Absolute codes would run far beyond the
last pixel, which is an error; rows for columns cannot be told from the code, and every record carries a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, ImageError, PartialRelease, SplitError
from benchmark.imaging.dicom import read_dicom
from benchmark.readers.base import Check, Reader, Sample
from benchmark.readers.kit.checks import count_checks, first_sample_check, phantom_checks
from benchmark.readers.kit.rle import EMPTY, decode_relative, runs_relative
from benchmark.readers.kit.splits import Splits, compare
from benchmark.readers.kit.tables import Table, cells_of, read_table
from benchmark.readers.kit.unnamed import read_unnamed
from benchmark.readers.kit.walk import files_in, first_folder_with, the_one

SIDE = 1024  # rows and columns of every image and mask
TABLE = "Pneumothorax_reports.csv"
IMAGE_FOLDERS = ("dataset", "chest_radiographs")
COLUMNS = ("filename", "SOPInstanceUID", "EncodedPixels")
RULE = "patients permuted"
UNVERIFIED = "run-length codes are read as SIIM-ACR's (relative, down the columns), which was not verified for this release"
TWO_PATIENTS = "images of two patients, left out"

_CODE = re.compile(r"-1|\d+(\s+\d+)*")


@dataclass(frozen=True)
class _Label:
    """Rows of one image: its patient, and (line, code) of each mask; no code for an image without one."""

    line: int
    patient: str
    codes: tuple[tuple[int, str], ...]


class DatasetReader(Reader):
    """Images with a row, ids are SOP instance ids. The patient is the part of `filename` before the first underscore."""

    def open(self) -> None:
        base = first_folder_with(self.root, (TABLE,), self.card.name)
        if base is None:
            raise DataError(f"{self.card.name}: no {TABLE} in {self.root}. Unpack the release there; it is its table of pneumothorax.")
        self._table = base / TABLE
        folder = the_one(self.card.name, "the folder of images", [base / name for name in IMAGE_FOLDERS if (base / name).is_dir()])
        if folder is None:
            raise DataError(f"{self.card.name}: no folder {' or '.join(IMAGE_FOLDERS)} beside {TABLE}. Unpack the images there.")
        self._folder = folder
        self._labels = self._read(read_table(self._table, self.card.name))
        present = {path.name for path in files_in(folder)}
        missing = sum(i not in present for i in self._labels)
        if missing:
            raise PartialRelease(
                f"{self.card.name}: {missing:,} of {len(self._labels):,} images of {TABLE} are not in {folder.name}. Files are named by "
                "SOPInstanceUID, without ending. Is the download complete?"
            )
        self._n_without_row = len(present - self._labels.keys() - self._two_patients)
        self.release = f"images in {folder.name}"
        if self.phantom is None:
            self.warnings.append(f"{self.card.name}: {UNVERIFIED}.")
        if self._two_patients:
            self.warnings.append(f"{self.card.name}: {len(self._two_patients):,} images stand under two patients and are left out.")

    @property
    def ids(self) -> tuple[str, ...]:
        """SOP instance ids in order of first appearance in the table, without those of two patients."""
        return tuple(self._labels)

    def sample(self, sample_id: str) -> Sample:
        if sample_id not in self._labels:
            raise DataError(f"{self.card.name}: an id that no row of {TABLE} names was asked for.")
        label = self._labels[sample_id]
        return Sample(
            id=sample_id,
            patient_id=label.patient,
            image=partial(self._image, sample_id),
            masks=partial(self._masks, sample_id),
            boxes_xywh=np.zeros((0, 4)),
            box_labels=np.zeros(0, np.int64),
            files=(self._folder / sample_id,),
            positive=bool(label.codes),
        )

    def label_files(self) -> tuple[Path, ...]:
        return (self._table,)

    def image_files(self) -> tuple[Path, ...]:
        return tuple(self._folder / sample_id for sample_id in self._labels)

    def split(self, rule: SplitRule) -> Splits:
        """LOBE's own, the release has none: sorted patients in random order, test first, then validation, then train.

        Shares are of patients; a patient's images keep the order of the table.
        """
        if rule.rule != RULE:
            raise SplitError(f"{self.card.name}: there is one split rule, {RULE!r}; found {rule.rule!r}.")
        if rule.seed is None or rule.validation_share is None or rule.test_share is None:
            raise SplitError(f"Split rule {rule.rule!r} needs seed, validation_share and test_share; mend the dataset card.")
        images: dict[str, list[str]] = {}
        for sample_id, label in self._labels.items():
            images.setdefault(label.patient, []).append(sample_id)
        patients = sorted(images)
        drawn = [patients[k] for k in np.random.RandomState(rule.seed).permutation(len(patients))]
        n_test, n_validation = round(rule.test_share * len(drawn)), round(rule.validation_share * len(drawn))
        members = {"train": drawn[n_test + n_validation :], "validation": drawn[n_test : n_test + n_validation], "test": drawn[:n_test]}
        return {split: tuple(i for patient in chosen for i in images[patient]) for split, chosen in members.items()}

    def checks(self) -> Iterable[Check]:
        labels = self._labels.values()
        counts = {
            "images": len(labels),
            "positives": sum(bool(label.codes) for label in labels),
            "negatives": sum(not label.codes for label in labels),
            "masks": sum(len(label.codes) for label in labels),
            "patients": len({label.patient for label in labels}),
            "files_without_row": self._n_without_row,
            "images_of_two_patients": len(self._two_patients),
        }
        if self.phantom is not None:
            yield from phantom_checks(self.phantom, counts, self.ids)
        else:
            # One image of two patients is known and may be all: what is left out still counts as an image of the release.
            found = counts | {"images": counts["images"] + len(self._two_patients)}
            yield from count_checks(self.card.expected, found, "The table was edited or cut; fetch it again.")
            yield Check("variant of the run-length codes", "relative, down the columns", "not verified", "unknown", "Look at some masks.")
            verdict = "warning" if self._two_patients else "ok"
            yield Check(TWO_PATIENTS, "at least 1 is known", f"{len(self._two_patients):,}", verdict)
        yield self._check_codes(counts["masks"])
        yield first_sample_check(self)

    def _check_codes(self, n_codes: int) -> Check:
        """Every code of the table, without drawing masks."""
        try:
            for label in self._labels.values():
                for line, code in label.codes:
                    runs_relative(code, SIDE * SIDE, self._where(line))
        except DataError as error:
            return Check("run-length codes", f"{n_codes:,} readable", str(error), "error", "Fetch the table again.")
        return compare("run-length codes readable", n_codes, n_codes)

    def _read(self, table: Table) -> dict[str, _Label]:
        header = [name.strip() for name in table.header]
        missing = [name for name in COLUMNS if header.count(name) != 1]
        if missing:
            raise DataError(f"{self.card.name}: {TABLE} does not have one column {missing[0]}. Expected {', '.join(COLUMNS)}.")
        rows: dict[str, list[tuple[int, str, str]]] = {}
        for line, cells in cells_of(table, len(header), self.card.name):
            name, sample_id, code = (cells[header.index(column)].strip() for column in COLUMNS)
            patient, underscore, _ = name.partition("_")
            if not patient or not underscore:
                raise DataError(f"{self._where(line)}: the filename does not begin with a patient and an underscore.")
            if not sample_id or Path(sample_id).name != sample_id or sample_id in (".", ".."):
                raise DataError(f"{self._where(line)}: the SOPInstanceUID is empty or no file name.")
            if not _CODE.fullmatch(code):
                raise DataError(f"{self._where(line)}: EncodedPixels is neither {EMPTY} nor whole numbers. Are the columns shifted?")
            rows.setdefault(sample_id, []).append((line, patient, code))
        if not rows:
            raise DataError(f"{self.card.name}: {TABLE} has a header and no rows. Fetch the file again.")
        # Whose image it is decides the split: with two answers there is none.
        kept = {i: listed for i, listed in rows.items() if len({patient for _, patient, _ in listed}) == 1}
        self._two_patients = rows.keys() - kept.keys()
        return {i: self._label(listed) for i, listed in kept.items()}

    def _label(self, rows: list[tuple[int, str, str]]) -> _Label:
        seen: dict[str, int] = {}
        for line, _, code in rows:
            if code in seen:
                raise DataError(f"{self._where(line)}: the same image and EncodedPixels as in line {seen[code]:,}. Each mask has one row.")
            seen[code] = line
        if EMPTY in seen and len(rows) > 1:
            other = next(line for line, _, code in rows if code != EMPTY)
            raise DataError(f"{self._where(seen[EMPTY])}: {EMPTY} here and a mask of the same image in line {other:,}.")
        codes = () if EMPTY in seen else tuple((line, code) for line, _, code in rows)
        return _Label(rows[0][0], rows[0][1], codes)

    def _image(self, sample_id: str) -> np.ndarray:
        where = self._where(self._labels[sample_id].line)
        pixels = read_unnamed(read_dicom, self._folder / sample_id, where).pixels
        self._require_size(pixels.shape, where)
        return pixels

    def _masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(1, 1024, 1024) bool: the union of the image's masks, which may overlap."""
        label = self._labels[sample_id]
        self._require_size(shape, self._where(label.line))
        union = np.zeros((SIDE, SIDE), dtype=bool)
        for line, code in label.codes:
            union |= decode_relative(code, SIDE, SIDE, self._where(line))
        return union[None]

    def _require_size(self, shape: tuple[int, ...], where: str) -> None:
        if tuple(shape) != (SIDE, SIDE):
            raise ImageError(
                f"{where}: the image has {shape[0]:,} rows x {shape[1]:,} columns, and the masks are drawn on {SIDE} x {SIDE}. "
                "Is this a resized copy? LOBE needs the original size."
            )

    def _where(self, line: int) -> str:
        return f"{self.card.name}: {TABLE} line {line:,}"
