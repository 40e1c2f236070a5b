"""COVIDx with three classes (lists 9A): one line per image, official train and test lists, pictures of any size and kind.

Lists have no header, and ids of some sources contain blanks: lines are read from the right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, PartialRelease
from benchmark.metrics.classification import one_hot
from benchmark.readers.base import Check, Sample
from benchmark.readers.kit.checks import first_image_check, release_checks, split_checks
from benchmark.readers.kit.holdout import hold_out, sampled
from benchmark.readers.kit.image_reader import ImageReader
from benchmark.readers.kit.splits import Numbers, Splits, require_rule
from benchmark.readers.kit.tables import require_inside
from benchmark.readers.kit.text import numbered_lines
from benchmark.readers.kit.walk import names_in, the_one_needed

LISTS = {"train": ("train.txt", "train_COVIDx9A.txt"), "test": ("test.txt", "test_COVIDx9A.txt")}
RULE = "covidx"
COVID = "COVID-19"


@dataclass(frozen=True)
class ListedImage:
    """One image of a list."""

    patient_id: str
    name: str
    label: str


class DatasetReader(ImageReader):
    """COVIDx 9A. An image's id is its file name; patients are those of the lists."""

    def open(self) -> None:
        self.tables = tuple(map(self._list_file, LISTS))
        listed = (read_list(path, self.card.name, self.card.classes) for path in self.tables)
        self._lists = dict(zip(LISTS, listed, strict=True))
        self._lines = {line.name: line for subset in LISTS for line in self._lists[subset]}
        n_listed = sum(map(len, self._lists.values()))
        if len(self._lines) < n_listed:
            raise DataError(f"{self.card.name}: {n_listed - len(self._lines):,} file names stand in both lists or twice in one.")
        self.images = {line.name: self.root / subset / line.name for subset in LISTS for line in self._lists[subset]}
        present = {subset: names_in(self.root / subset) for subset in LISTS}
        missing = [line.name for subset in LISTS for line in self._lists[subset] if line.name not in present[subset]]
        if missing:
            raise PartialRelease(
                f"{self.card.name}: {len(missing):,} of {n_listed:,} listed images are not in train/ and test/, "
                f"for example {', '.join(missing[:3])}. Is the download complete and unpacked?"
            )
        self.release = "lists 9A (three classes)"

    def sample(self, sample_id: str) -> Sample:
        """Of the three classes one is the finding."""
        return replace(super().sample(sample_id), positive=self.is_positive(sample_id))

    def patient_of(self, sample_id: str) -> str:
        return self._lines[sample_id].patient_id

    def labels_of(self, sample_id: str) -> np.ndarray:
        return one_hot([self.card.classes.index(self._lines[sample_id].label)], len(self.card.classes))[0]

    def is_positive(self, sample_id: str) -> bool:
        return self._lines[sample_id].label == COVID

    def split(self, rule: SplitRule) -> Splits:
        """MGCA's: the official train list cut by image, without regard to patients; the official test list."""
        require_rule(rule, (RULE,), "seed", "validation_share", dataset=self.card.name)
        return mgca_split([line.name for line in self._lists["train"]], [line.name for line in self._lists["test"]], rule)

    def checks(self) -> Iterable[Check]:
        counts = {
            "images": len(self._lines),
            "train_list": len(self._lists["train"]),
            "test_list": len(self._lists["test"]),
            "positives": sum(map(self.is_positive, self._lines)),
        }
        counts |= {f"train_{name.lower()}": sum(line.label == name for line in self._lists["train"]) for name in self.card.classes}
        yield from release_checks(self, counts, "Are these the lists 9A of COVID-Net?")
        yield from split_checks(self, positive=self.is_positive, patient_of=self.patient_of)
        yield first_image_check(self)

    def _list_file(self, subset: str) -> Path:
        there = [self.root / name for name in LISTS[subset] if (self.root / name).is_file()]
        otherwise = f"neither {' nor '.join(LISTS[subset])} is in {self.root}. It is part of COVID-Net's labels."
        return the_one_needed(self.card.name, f"the {subset} list", there, otherwise)


def read_list(path: Path, dataset: str, classes: Iterable[str]) -> tuple[ListedImage, ...]:
    """Lines `patient file class source`, one blank between fields, read from the right.

    Raises:
        DataError: fewer than four fields, or another class, with the line.
    """
    known, lines = tuple(classes), []
    for number, text in numbered_lines(path, dataset):
        where = f"{dataset}: {path.name} line {number:,}"
        fields = text.rstrip().rsplit(" ", 3)
        if len(fields) < 4:
            raise DataError(f"{where} has {len(fields)} fields, expected patient, file, class and source.")
        if fields[2] not in known:
            raise DataError(f"{where}: class {fields[2]!r}, expected {', '.join(known)}: are these lists 9A?")
        require_inside(fields[1], where)
        lines.append(ListedImage(fields[0], fields[1], fields[2]))
    if not lines:
        raise DataError(f"{dataset}: {path.name} is empty.")
    return tuple(lines)


def mgca_split(train: list[str], test: list[str], rule: SplitRule) -> Splits:
    """train_test_split(train_size=1 - validation_share, random_state=seed) of the train list, by image."""
    numbers = Numbers(rule)
    n_train = int(round(1 - numbers.validation_share, 9) * len(train))
    kept, held = hold_out(train, len(train) - n_train, numbers.seed)
    return {"train": tuple(sampled(kept)), "validation": tuple(held), "test": tuple(test)}
