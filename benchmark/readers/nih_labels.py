"""NIH ChestX-ray14 as whole-image labels: fourteen findings, text-mined, on the official lists.

The release cuts its images into `train_val_list.txt` and `test_list.txt` and goes no further: which of the former validate is a rule of
LOBE's, by patient. Boxes: `nih_cxr`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, SplitError
from benchmark.readers.base import Check
from benchmark.readers.kit import nih_tables as nih
from benchmark.readers.kit.checks import count_checks, first_image_check, phantom_checks, split_checks, tolerated
from benchmark.readers.kit.holdout import sampled
from benchmark.readers.kit.image_reader import ImageReader
from benchmark.readers.kit.nih_tables import ENTRY_TABLES, NORMAL, TEST_LIST, TRAIN_VAL_LIST, patient_of
from benchmark.readers.kit.splits import Splits, by_patient, check_disjoint, require_rule
from benchmark.readers.kit.tables import locate

RULE = "official test, validation by patient"
SMALLEST_VALIDATION = 32  # of a corpus large enough for it; the release's tenth is 8,652


class DatasetReader(ImageReader):
    """Every image of the two official lists. Patients are known: the number before the underscore."""

    def open(self) -> None:
        base = self.folder_with(*ENTRY_TABLES)
        self._entries, self._entry_path = nih.read_entries(base, self.card.name)
        self.warnings += nih.earlier_table(self._entry_path, self.card.name)
        needed_for = "The official split is made of the two lists."
        self._lists = {name: nih.read_list(base / name, self.card.name, needed_for) for name in (TRAIN_VAL_LIST, TEST_LIST)}
        self._require_lists()
        listed = (*self._lists[TRAIN_VAL_LIST], *self._lists[TEST_LIST])
        known: dict[tuple[str, ...], np.ndarray] = {}  # of 112,120 rows few say something else
        for i in listed:
            if self._entries[i].findings not in known:
                known[self._entries[i].findings] = labels = self._parsed(i, self._entries[i])
                labels.setflags(write=False)
        self._labels = {i: known[self._entries[i].findings] for i in listed}
        self.images = locate(listed, nih.find_images(base), self.card.name, f"{TRAIN_VAL_LIST} and {TEST_LIST}")
        unlisted = len(self._entries) - len(listed)
        if unlisted:
            self.warnings.append(f"{self.card.name}: {unlisted:,} images of {self._entry_path.name} are in no official list and left out.")
        self.tables = (self._entry_path, base / TRAIN_VAL_LIST, base / TEST_LIST)
        self.release = f"labels of {nih.year_of(self._entry_path)}, images {nih.layout(base, self.images)}"

    def patient_of(self, sample_id: str) -> str:
        return patient_of(sample_id)

    def view_of(self, sample_id: str) -> str | None:
        return self._entries[sample_id].view

    def sex_of(self, sample_id: str) -> str | None:
        return self._entries[sample_id].sex

    def age_decade_of(self, sample_id: str) -> int | None:
        return self._entries[sample_id].age_decade

    def labels_of(self, sample_id: str) -> np.ndarray:
        return self._labels[sample_id]

    def split(self, rule: SplitRule) -> Splits:
        numbers = require_rule(rule, (RULE,), "seed", "validation_share", dataset=self.card.name)
        splits = official_split(self._lists[TRAIN_VAL_LIST], self._lists[TEST_LIST], numbers.seed, numbers.validation_share)
        check_disjoint(splits)
        return splits

    def checks(self) -> Iterable[Check]:
        counts = self._counts()
        if self.phantom is not None:
            # The corpus is one for both readers: counts of boxes are the other's. Its ids are in the order of the label table.
            mine = {name: n for name, n in self.phantom.get("counts", {}).items() if name in counts}
            yield from phantom_checks({**self.phantom, "counts": mine}, counts, tuple(self._entries))
        else:
            hint = f"Counts are those of {ENTRY_TABLES[0]}. Was the file edited or cut? Fetch it again from the NIH."
            yield from count_checks(self.card.expected, counts, hint)
            yield from split_checks(self, patient_of=patient_of)
        patients = [{patient_of(i) for i in listed} for listed in self._lists.values()]
        yield tolerated(self.card, "patients in both official lists", len(patients[0] & patients[1]))
        yield first_image_check(self)

    def _require_lists(self) -> None:
        """Every listed image has its labels and stands in one list."""
        both = set(self._lists[TRAIN_VAL_LIST]) & set(self._lists[TEST_LIST])
        if both:
            raise DataError(
                f"{self.card.name}: {len(both):,} images are in {TRAIN_VAL_LIST} and in {TEST_LIST}, for example {min(both)}. "
                "Training would see images it is tested on; fetch both lists again."
            )
        for name, listed in self._lists.items():
            if not listed:
                raise DataError(f"{self.card.name}: {name} lists no image. Fetch the file again.")
            unknown = [i for i in listed if i not in self._entries]
            if unknown:
                raise DataError(
                    f"{self.card.name}: {len(unknown):,} of {len(listed):,} images of {name} have no row in {self._entry_path.name}, "
                    f"for example {', '.join(unknown[:3])}. Do the files belong together?"
                )

    def _parsed(self, sample_id: str, entry: nih.Entry) -> np.ndarray:
        """(C,) int8 of 1 and 0: the table names what is there, and a finding it does not name counts as absent."""
        where = f"{self.card.name}: {self._entry_path.name} line {entry.line:,} ({sample_id})"
        if entry.findings == (NORMAL,):
            return np.zeros(len(self.card.classes), np.int8)
        foreign = [f for f in entry.findings if f not in self.card.classes]
        if foreign:
            expected = f"{NORMAL!r} alone or some of {', '.join(self.card.classes)}"
            raise DataError(f"{where}: the label {foreign[0]!r} of {'|'.join(entry.findings)!r}; expected {expected}.")
        return np.array([name in entry.findings for name in self.card.classes], np.int8)

    def _counts(self) -> dict[str, int]:
        views = Counter(self._entries[i].view for i in self.ids)
        counts = {
            "images": len(self.ids),
            "patients": len({patient_of(i) for i in self.ids}),
            "train_val_list": len(self._lists[TRAIN_VAL_LIST]),
            "test_list": len(self._lists[TEST_LIST]),
            "view_pa": views["PA"],
            "view_ap": views["AP"],
        }
        absent = {f"labels_{name.lower()}": 0 for name in self.card.classes}
        return counts | absent | nih.label_counts(self._entries[i] for i in self.ids)


def official_split(train_val: Sequence[str], test: Sequence[str], seed: int, validation_share: float) -> Splits:
    """The official test list, and whole patients of the other list for validation until it has its share of images; the rest trains.

    Patients stand in the order of their first image in the list and are then permuted, so that the split follows from the release alone.
    A small corpus gives a third of its images, up to 32, where that is more than its share. The training list comes in the order MGCA draws
    its fractions from (`holdout.sampled`): 1 % lies within 10 %.

    Raises:
        SplitError: a share that leaves nothing to train with, or nothing to validate with.
    """
    images = by_patient(train_val, patient_of)
    patients = list(images)
    n_validation = max(round(validation_share * len(train_val)), min(SMALLEST_VALIDATION, len(train_val) // 3))
    held: list[str] = []
    kept: list[str] = []
    for index in np.random.RandomState(seed).permutation(len(patients)):
        (held if len(held) < n_validation else kept).extend(images[patients[index]])
    if not held or not kept:
        raise SplitError(
            f"A validation share of {validation_share} of {len(train_val):,} images of {len(patients):,} patients leaves {len(kept):,} to "
            f"train and {len(held):,} to validate with."
        )
    return {"train": tuple(sampled(kept)), "validation": tuple(held), "test": tuple(test)}
