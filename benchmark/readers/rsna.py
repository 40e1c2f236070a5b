"""RSNA Pneumonia Detection Challenge, stage 2: one DICOM per id, one label row per box.

The order of first appearance in the label file is kept, because LoVT's split is a permutation of it. The release's `patientId` is an image:
real patients are known only through RSNA's own mapping to NIH ChestX-ray14, where that file lies beside the labels. A phantom names them
in its report table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, SplitError
from benchmark.imaging.dicom import read_dicom
from benchmark.readers.base import Check
from benchmark.readers.kit.blanks import is_empty
from benchmark.readers.kit.boxed import BoxedReader
from benchmark.readers.kit.boxes import numbers_of
from benchmark.readers.kit.checks import first_image_check, release_checks, split_checks
from benchmark.readers.kit.generated import PHANTOM_REPORTS
from benchmark.readers.kit.holdout import SORTED, sorted_holdout
from benchmark.readers.kit.splits import Splits, split_by_rule
from benchmark.readers.kit.tables import cells_of, locate, read_table, require_columns
from benchmark.readers.kit.text import read_json
from benchmark.readers.kit.walk import find_files

SIDE = 1024  # rows and columns of every image of the release; boxes are in these pixels
LABELS = "stage_2_train_labels.csv"
TRAIN_IMAGES, TEST_IMAGES = "stage_2_train_images", "stage_2_test_images"
STAGE_1_LABELS = "stage_1_train_labels.csv"
COLUMNS = ("patientId", "x", "y", "width", "height", "Target")

# RSNA's mapping to NIH. Name and keys as public users of the file read them; the file itself was not at hand: not verified.
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
MAPPING_ID, MAPPING_NIH = "subset_img_id", "img_id"

# Known copies that are not the release: (label rows, ids) -> name (docs/sources.md, RSNA).
KNOWN_COPIES = {(30_142, 26_605): "truncated public copy (30,142 of 30,227 rows, 26,605 of 26,684 ids)"}

_TARGETS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}


@dataclass(frozen=True)
class RsnaLabels:
    """The label file.

    Attributes:
        ids: in order of first appearance.
        boxes_xywh: id -> (n, 4) float64 in pixels of the 1024 x 1024 image, in file order; (0, 4) for negatives.
        n_rows: data rows.
        separator: "," or ";".
    """

    ids: tuple[str, ...]
    boxes_xywh: dict[str, np.ndarray]
    n_rows: int
    separator: str


class DatasetReader(BoxedReader):
    """RSNA stage 2 with its label file as released or re-saved with semicolons.

    The view is in the DICOM header, which is read with the pixels: samples have none.
    """

    side = SIDE

    def open(self) -> None:
        stage_1 = f"This is stage 1 ({STAGE_1_LABELS}), which has fewer images and other boxes; stage 2 is needed."
        self._base = self.folder_with(LABELS, look_alikes={STAGE_1_LABELS: stage_1})
        self._labels = read_labels(self._base / LABELS, self.card.name)
        form = "as released" if self._labels.separator == "," else "re-saved with semicolons"
        self._copy = KNOWN_COPIES.get((self._labels.n_rows, len(self._labels.ids)))
        self.release = self._copy or f"stage 2, labels {form}"
        if self._copy is not None:
            self.warnings.append(f"{self.card.name}: {LABELS} is the {self.release}; splits made from it are not the published ones.")
        if (self._base / STAGE_1_LABELS).exists():
            self.warnings.append(f"{self.card.name}: {STAGE_1_LABELS} beside {LABELS} is not read; stage 1 has other boxes.")
        self.boxes = {i: (boxes, np.zeros(len(boxes), np.int64)) for i, boxes in self._labels.boxes_xywh.items()}
        self._find_images()
        self._mapped_to_none = False
        patients_file, self._patients = self._read_patients()
        self.tables = (self._base / LABELS, *([patients_file] if patients_file is not None else []))

    def labels_of(self, sample_id: str) -> np.ndarray:
        return np.array([self.is_positive(sample_id)], np.int8)

    def patient_of(self, sample_id: str) -> str | None:
        return self._patients.get(sample_id)

    def decided(self) -> str:
        """Images that the mapping names no patient of were those of one patient once: same files, another result."""
        return "mapped to none: no patient" if self._mapped_to_none else ""

    def split(self, rule: SplitRule) -> Splits:
        """LoVT's permutation, or the hold-out of sorted ids; variants that need patients need RSNA's mapping file."""
        if rule.rule == SORTED:
            return sorted_holdout(self.ids, rule)
        if "," in rule.rule and not self._patients:
            raise SplitError(
                f"{self.card.name}: the split {rule.rule!r} needs to know the patients, and {MAPPING} is not beside {LABELS}. "
                "It is RSNA's own mapping of its images to NIH ChestX-ray14; put it there, or use the split lovt."
            )
        return split_by_rule(self.ids, rule, self.patient_of)

    def checks(self) -> Iterable[Check]:
        counts = {
            "label_rows": self._labels.n_rows,
            "images": len(self.ids),
            "image_files": self._n_files,
            "boxes": sum(map(self.n_boxes, self.ids)),
            "positives": sum(map(self.is_positive, self.ids)),
            "unlabelled_images": self._n_unlabelled,
        }
        if self._patients:
            counts["patients"] = len(set(self._patients.values()))
        if self.phantom is None:
            hint = "Fetch the complete stage_2_train_labels.csv." if self._copy else ""
            yield Check("release", "stage 2", self.release, "error" if self._copy else "ok", hint)
        yield from release_checks(self, counts, "Is this the complete, unedited stage 2 release?")
        yield from split_checks(self, self.n_boxes, self.is_positive, split=self._split_with_all)
        if self.phantom is None:
            known = f"{len(self._patients):,} of {len(self.ids):,} images"
            hint = f"Put RSNA's {MAPPING} beside {LABELS} for patient-disjoint splits."
            yield Check("patients known", MAPPING, known, "ok" if self._patients else "unknown", "" if self._patients else hint)
        yield first_image_check(self)

    def _split_with_all(self, rule: SplitRule) -> Splits:
        return {"all": self.ids, **self.split(rule)}

    def _find_images(self) -> None:
        train, test = find_files(self._base / TRAIN_IMAGES, ".dcm"), find_files(self._base / TEST_IMAGES, ".dcm")
        both = {i: (*paths, *test.get(i, ())) for i, paths in train.items()}
        self._n_files = len(train)
        self.images = locate(self._labels.ids, both, self.card.name, f"{LABELS} (folder {TRAIN_IMAGES})")
        self._n_unlabelled = len({*train, *test} - set(self.ids))
        unlabelled = [i for i in train if i not in self._labels.boxes_xywh]
        if unlabelled:
            left_out = f"{len(unlabelled):,} images have no row in {LABELS} and are left out, first {unlabelled[0]}"
            self.warnings.append(f"{self.card.name}: {left_out}.")

    def _read_patients(self) -> tuple[Path | None, dict[str, str]]:
        """The file that names patients, and image id -> patient; (None, {}) where no file does."""
        if (self._base / MAPPING).exists():
            return self._base / MAPPING, self._read_mapping(self._base / MAPPING)
        generated = self.phantom_patients()
        return (self.root / PHANTOM_REPORTS, generated) if generated else (None, {})

    def _read_mapping(self, path: Path) -> dict[str, str]:
        """Image id -> NIH patient (first part of the NIH file name); an entry without that name tells of no patient."""
        patients: dict[str, str] = {}
        try:
            for number, entry in enumerate(read_json(path, self.card.name, list), start=1):
                image, patient = entry[MAPPING_ID], str(entry[MAPPING_NIH]).split("_")[0]
                if is_empty(patient):
                    self._mapped_to_none |= image in self.images
                elif patients.setdefault(image, patient) != patient:
                    raise DataError(
                        f"{self.card.name}: {path.name} entry {number:,} gives an image another patient than an entry before it. Fetch the "
                        "file again, or remove it to go without patients."
                    )
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{self.card.name}: {path.name} is not RSNA's mapping to NIH ({type(error).__name__}: {error}); expected a list of entries "
                f"with {MAPPING_ID} and {MAPPING_NIH}. Fetch it again, or remove it to go without patients."
            ) from None
        known = {i: patients[i] for i in self.ids if i in patients}
        if not known:
            raise DataError(f"{self.card.name}: {path.name} maps none of the {len(self.ids):,} images. Is it the mapping of this release?")
        return known

    def decode(self, sample_id: str) -> np.ndarray:
        return read_dicom(self.images[sample_id], sample_id).pixels


def read_labels(path: Path, dataset: str = "rsna") -> RsnaLabels:
    """Parses the label file, comma- or semicolon-separated.

    Raises:
        DataError: other columns, a cell that is not a number, a box that is incomplete, empty, repeated or outside the image, or an id
            that is both negative and positive; each with its line.
    """
    table = read_table(path, dataset, re_saved=";")
    names = {name.strip() for name in table.header}
    if {"patientId", "Target"} <= names and not {"x", "y"} <= names:
        raise DataError(
            f"{dataset}: {path.name} has the columns {', '.join(map(str.strip, table.header))}; expected {', '.join(COLUMNS)}. "
            "It is one of the public copies without boxes: fetch the file of the release."
        )
    require_columns(table, COLUMNS, dataset)
    boxes: dict[str, list[tuple[float, ...]]] = {}
    first_line: dict[str, int] = {}
    for line, cells in cells_of(table, len(COLUMNS), dataset):
        sample_id, *coordinates, target = (cell.strip() for cell in cells)
        where = f"{path.name} line {line:,}"
        if not sample_id:
            raise DataError(f"{dataset}: {where}: the patientId is empty.")
        box = _box(coordinates, target, f"{dataset}: {where} ({sample_id})")
        if sample_id not in boxes:
            boxes[sample_id], first_line[sample_id] = [], line
        elif box is None or not boxes[sample_id]:
            raise DataError(_repeated(dataset, sample_id, where, first_line[sample_id], box is None, not boxes[sample_id]))
        if box is None:
            continue
        _require_inside(box, len(boxes[sample_id]) + 1, sample_id, dataset, where)
        if box in boxes[sample_id]:
            raise DataError(f"{dataset}: {where}: the same box of patient {sample_id} once more. The original release has no such row.")
        boxes[sample_id].append(box)
    arrays = {i: np.array(listed, dtype=np.float64).reshape(-1, 4) for i, listed in boxes.items()}
    return RsnaLabels(tuple(boxes), arrays, len(table.rows), table.separator)


def _box(cells: list[str], target: str, where: str) -> tuple[float, ...] | None:
    """x, y, width, height; None for a negative row."""
    if target not in _TARGETS:
        raise DataError(f"{where}: Target is {target!r}, expected 0 or 1.")
    filled = sum(cell != "" for cell in cells)
    if _TARGETS[target] == 0 and filled == 0:
        return None
    if filled != 4:
        found = f"{filled} of x, y, width, height are filled and Target is {target}"
        raise DataError(f"{where}: {found}; expected all four with 1, none with 0.")
    if _TARGETS[target] == 0:
        raise DataError(f"{where}: a box, but Target is 0.")
    box = numbers_of(cells, "x, y, width, height", where)
    if box[2] <= 0 or box[3] <= 0:
        raise DataError(f"{where}: a box of {box[2]:g} x {box[3]:g} pixels is empty.")
    return box


def _require_inside(box: tuple[float, ...], number: int, sample_id: str, dataset: str, where: str) -> None:
    x, y, width, height = box
    for text, leaves in (
        (f"x = {x:,g} < 0", x < 0),
        (f"y = {y:,g} < 0", y < 0),
        (f"x + width = {x + width:,g} > {SIDE:,}", x + width > SIDE),
        (f"y + height = {y + height:,g} > {SIDE:,}", y + height > SIDE),
    ):
        if leaves:
            raise DataError(
                f"{dataset}: box {number} of patient {sample_id} leaves the image ({text}), {where}.\n"
                f"The original release has no such box: is this an edited copy? Compare with `lobe data verify {dataset}`."
            )


def _repeated(dataset: str, sample_id: str, where: str, first_line: int, is_negative: bool, was_negative: bool) -> str:
    if is_negative and was_negative:
        return f"{dataset}: {where}: patient {sample_id} is listed as negative once more, first in line {first_line:,}."
    return (
        f"{dataset}: {where}: patient {sample_id} is both negative and positive, first in line {first_line:,}. "
        "In the original release Target is constant within an id."
    )
