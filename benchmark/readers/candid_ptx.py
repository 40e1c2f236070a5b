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
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, PartialRelease
from benchmark.imaging.dicom import read_dicom
from benchmark.readers.base import Check, Verdict
from benchmark.readers.kit.checks import first_sample_check, release_checks
from benchmark.readers.kit.coded import CodedReader
from benchmark.readers.kit.rle import EMPTY
from benchmark.readers.kit.splits import Splits, by_patient, permutation_split, require_rule
from benchmark.readers.kit.tables import Table, read_table, rows_by_name
from benchmark.readers.kit.unnamed import read_unnamed
from benchmark.readers.kit.walk import files_in, the_one_needed

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


class DatasetReader(CodedReader):
    """Images with a row, ids are SOP instance ids. The patient is the part of `filename` before the first underscore."""

    side = SIDE

    def open(self) -> None:
        base = self.folder_with(TABLE)
        self.tables = (base / TABLE,)
        there = [base / name for name in IMAGE_FOLDERS if (base / name).is_dir()]
        otherwise = f"no folder {' or '.join(IMAGE_FOLDERS)} beside {TABLE}. Unpack the images there."
        folder = the_one_needed(self.card.name, "the folder of images", there, otherwise)
        self._labels = self._read(read_table(base / TABLE, self.card.name))
        self.codes = {sample_id: label.codes for sample_id, label in self._labels.items()}
        present = {path.name for path in files_in(folder)}
        missing = sum(i not in present for i in self._labels)
        if missing:
            raise PartialRelease(
                f"{self.card.name}: {missing:,} of {len(self._labels):,} images of {TABLE} are not in {folder.name}. Files are named by "
                "SOPInstanceUID, without ending. Is the download complete?"
            )
        self.images = {sample_id: folder / sample_id for sample_id in self._labels}
        self._n_without_row = len(present - self._labels.keys() - self._two_patients)
        self.release = f"images in {folder.name}"
        if self.phantom is None:
            self.warnings.append(f"{self.card.name}: {UNVERIFIED}.")
        if self._two_patients:
            self.warnings.append(f"{self.card.name}: {len(self._two_patients):,} images stand under two patients and are left out.")

    def patient_of(self, sample_id: str) -> str:
        return self._labels[sample_id].patient

    def where_of(self, sample_id: str) -> str:
        return self._where(self._labels[sample_id].line)

    def row_of(self, line: int, sample_id: str) -> str:
        return self._where(line)

    def decode(self, sample_id: str) -> np.ndarray:
        return read_unnamed(read_dicom, self.images[sample_id], self.where_of(sample_id)).pixels

    def split(self, rule: SplitRule) -> Splits:
        """LOBE's own, the release has none: sorted patients in random order, test first, then validation, then train.

        Shares are of patients; a patient's images keep the order of the table.
        """
        numbers = require_rule(rule, (RULE,), "seed", "validation_share", "test_share", dataset=self.card.name)
        images = by_patient(self._labels, self.patient_of)
        members = permutation_split(sorted(images), numbers.seed, numbers.validation_share, numbers.test_share)
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
        if self.phantom is None:  # one image of two patients is known and may be all: what is left out still counts as one of the release
            counts["images"] += len(self._two_patients)
        yield from release_checks(self, counts, "The table was edited or cut; fetch it again.")
        if self.phantom is None:
            yield Check("variant of the run-length codes", "relative, down the columns", "not verified", "unknown", "Look at some masks.")
            verdict: Verdict = "warning" if self._two_patients else "ok"
            yield Check(TWO_PATIENTS, "at least 1 is known", f"{len(self._two_patients):,}", verdict)
        yield self.check_codes()
        yield first_sample_check(self)

    def _read(self, table: Table) -> dict[str, _Label]:
        rows: dict[str, list[tuple[int, str, str]]] = {}
        for line, row in rows_by_name(table, COLUMNS, self.card.name):
            name, sample_id, code = (row[column] for column in COLUMNS)
            patient, underscore, _ = name.partition("_")
            if not patient or not underscore:
                raise DataError(f"{self._where(line)}: the filename does not begin with a patient and an underscore.")
            if not sample_id or Path(sample_id).name != sample_id or sample_id in (".", ".."):
                raise DataError(f"{self._where(line)}: the SOPInstanceUID is empty or no file name.")
            if not _CODE.fullmatch(code):
                raise DataError(f"{self._where(line)}: EncodedPixels is neither {EMPTY} nor whole numbers. Are the columns shifted?")
            rows.setdefault(sample_id, []).append((line, patient, code))
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

    def _where(self, line: int) -> str:
        return f"{self.card.name}: {TABLE} line {line:,}"
