"""NIH-CXR-LT: images of ChestX-ray14 with exactly one of twenty labels each, most of them rare; the release's four lists are its splits.

The release holds tables and no image. Images are ChestX-ray14's own files, in this folder or in the folder `nih-cxr` beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError
from benchmark.metrics.classification import one_hot
from benchmark.readers.base import Check
from benchmark.readers.kit import nih_tables as nih
from benchmark.readers.kit.checks import first_image_check, release_checks, split_checks, tolerated
from benchmark.readers.kit.holdout import sampled
from benchmark.readers.kit.image_reader import ImageReader
from benchmark.readers.kit.splits import Splits, check_disjoint, require_rule
from benchmark.readers.kit.tables import locate, read_table, rows_by_name

LISTS = ("train", "balanced-val", "balanced-test", "test")
TABLE = "nih-cxr-lt_single-label_{}.csv"
ID, PATIENT = "id", "subj_id"
BESIDE = "nih-cxr"
RULES = {"long-tailed test": "test", "balanced test": "balanced-test"}  # rule -> list that is the test set


class DatasetReader(ImageReader):
    """Images of the four lists. An id is NIH's own name of an image, and patients are NIH's. A balanced test list is part of the other."""

    completeness = "Are all twelve archives of ChestX-ray14 unpacked?"

    def open(self) -> None:
        base = self.folder_with(TABLE.format("train"))
        self._label: dict[str, int] = {}
        self._lists = {name: self._read(base / TABLE.format(name)) for name in LISTS}
        found = nih.find_images(base) or nih.find_images(self.root.parent / BESIDE)
        if not found:
            raise DataError(
                f"{self.card.name}: no images. Expected those of ChestX-ray14 in {base}, or in the folder {BESIDE} beside {self.root}."
            )
        self.images = locate(self._label, found, self.card.name, "the four lists")
        self._base = base if nih.find_images(base) else self.root.parent / BESIDE
        self.tables = tuple(base / TABLE.format(name) for name in LISTS)
        self.release = "four lists of single labels"

    def named(self, path: Path) -> str:
        """Tables by name, images by their place in ChestX-ray14: the same digest wherever both lie."""
        return path.name if path in self.tables else path.relative_to(self._base).as_posix()

    def patient_of(self, sample_id: str) -> str:
        return nih.patient_of(sample_id)

    def labels_of(self, sample_id: str) -> np.ndarray:
        return one_hot([self._label[sample_id]], len(self.card.classes))[0]

    def is_positive(self, sample_id: str) -> bool:
        return self.card.classes[self._label[sample_id]] != nih.NORMAL

    def split(self, rule: SplitRule) -> Splits:
        """The release's lists; the training list in the order MGCA draws its fractions from. Validation is the balanced list."""
        require_rule(rule, tuple(RULES), dataset=self.card.name)
        test = self._lists[RULES[rule.rule]]
        splits = {"train": tuple(sampled(self._lists["train"])), "validation": self._lists["balanced-val"], "test": test}
        check_disjoint(splits)
        return splits

    def checks(self) -> Iterable[Check]:
        counts = {"images": len(self._label)} | {f"{name}_images": len(ids) for name, ids in self._lists.items()}
        yield from release_checks(self, counts, "Is this the complete, unedited release?")
        yield from split_checks(self, patient_of=self.patient_of)
        train, test = ({self.patient_of(i) for i in self._lists[name]} for name in ("train", "test"))
        yield tolerated(self.card, "patients in the training and the test list", len(train & test))
        yield first_image_check(self)

    def _read(self, path: Path) -> tuple[str, ...]:
        """Ids of a list in file order; every row has one label, the same in all lists, and the patient of its name."""
        listed: dict[str, int] = {}
        for line, row in rows_by_name(read_table(path, self.card.name), (ID, *self.card.classes, PATIENT), self.card.name):
            where = f"{self.card.name}: {path.name} line {line:,}"
            sample_id = nih.id_of(row[ID], where)
            values = [row[name] for name in self.card.classes]
            there = [k for k, value in enumerate(values) if value in ("1", "1.0")]
            if len(there) != 1 or any(value not in ("0", "0.0", "1", "1.0") for value in values):
                raise DataError(f"{where} ({sample_id}): {len(there)} labels are 1; expected exactly one, and 0 in all others.")
            if row[PATIENT].zfill(8) != nih.patient_of(sample_id):
                raise DataError(f"{where} ({sample_id}): {PATIENT} is {row[PATIENT]!r}, another patient than the name says.")
            if sample_id in listed:
                raise DataError(f"{where}: image {sample_id} is listed a second time.")
            if self._label.setdefault(sample_id, there[0]) != there[0]:
                raise DataError(f"{where}: image {sample_id} has another label than in a list before.")
            listed[sample_id] = there[0]
        return tuple(listed)
