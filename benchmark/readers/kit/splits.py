"""Split rules: pure functions from lists of ids to train, validation and test, and their checks.

No files are read here except LoVT's own CSV lists. All draws use NumPy's legacy generator: its streams are frozen, and the published lists
were made with it (docs/splits.md).
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmark.cards import SplitCounts, SplitRule
from benchmark.errors import DataError, SplitError
from benchmark.readers.base import SPLITS, Check, ids_digest
from benchmark.readers.kit.text import open_text

Splits = dict[str, tuple[str, ...]]
PatientOf = Callable[[str], str | None]
Given = TypeVar("Given")

_SUBSET = re.compile(r"(?P<split>[a-z]+)_(?P<percent>\d+)pct")
_SHOWN_IDS = 3
_SHOWN_HEX = 16


# ------------------------------------------------------------------------------------------------------------------- rules


@dataclass(frozen=True)
class Numbers:
    """What a rule draws with. A card may leave each out, so each is there or an error when asked for.

    Attributes:
        dataset: named by the sentence.

    Raises:
        SplitError: the rule does not give what is asked for.
    """

    rule: SplitRule
    dataset: str = ""

    @property
    def seed(self) -> int:
        return self._given("seed", self.rule.seed)

    @property
    def validation_share(self) -> float:
        return self._given("validation_share", self.rule.validation_share)

    @property
    def test_share(self) -> float:
        return self._given("test_share", self.rule.test_share)

    @property
    def patients(self) -> Mapping[str, Sequence[str]]:
        return self._given("patients", self.rule.patients)

    def _given(self, name: str, number: Given | None) -> Given:
        if number is None:
            where = f"{self.dataset}: " if self.dataset else ""
            raise SplitError(f"{where}split rule {self.rule.rule!r} needs {name}; mend the dataset card.")
        return number


def require_rule(rule: SplitRule, known: Collection[str], *needed: str, dataset: str = "") -> Numbers:
    """The rule's numbers. Raises SplitError unless the rule is one of `known` and has those it needs.

    Args:
        needed: of seed, validation_share, test_share and patients.
        dataset: named by the sentence.
    """
    where = f"{dataset}: " if dataset else ""
    if rule.rule not in known:
        raise SplitError(f"{where}there is no split rule {rule.rule!r} here; known: {', '.join(map(repr, known))}.")
    if any(getattr(rule, number) is None for number in needed):
        raise SplitError(f"{where}split rule {rule.rule!r} needs {', '.join(needed)}; mend the dataset card.")
    return Numbers(rule, dataset)


def split_by_rule(ids: Sequence[str], rule: SplitRule, patient_of: PatientOf) -> Splits:
    """Applies the rules that need ids and patients only: "permutation" and "patient-lists", and the variants of `variant_of`.

    Raises:
        SplitError: an unknown rule, a rule without its numbers, patients unknown where the rule needs them, or ids in two splits.
    """
    name = rule.rule.partition(",")[0].strip()
    if name == "permutation":
        numbers = require_rule(rule, (rule.rule,), "seed", "validation_share", "test_share")
        splits = permutation_split(ids, numbers.seed, numbers.validation_share, numbers.test_share)
    elif name == "patient-lists":
        splits = patient_lists(ids, patient_of, require_rule(rule, (rule.rule,), "patients").patients)
    else:
        raise SplitError(f"There is no split rule {name!r}; known are 'permutation' and 'patient-lists'.")
    return variant_of(splits, rule, patient_of)


def variant_of(splits: Splits, rule: SplitRule, patient_of: PatientOf) -> Splits:
    """The splits of a rule, which is checked to be disjoint, or what follows its name makes of them.

    ", patient-disjoint" drops images of test patients from training and validation, and ", size-matched" as many at random.

    Raises:
        SplitError: ids in two splits, an unknown variant, no known patient, or no seed to draw with.
    """
    variant = rule.rule.partition(",")[2].strip()
    check_disjoint(splits)
    if not variant:
        return splits
    disjoint = drop_patients_of_test(splits, patient_of)
    if variant == "patient-disjoint":
        return disjoint
    if variant == "size-matched":
        return size_matched(splits, disjoint, require_rule(rule, (rule.rule,), "seed").seed)
    raise SplitError(f"There is no variant {variant!r} of a split rule; known are 'patient-disjoint' and 'size-matched'.")


def permutation_split(ids: Sequence[str], seed: int, validation_share: float, test_share: float) -> Splits:
    """One random permutation of all ids: test first, validation next, train the rest.

    With seed 123 and shares of 0.2 this is LoVT's split of RSNA and SIIM, in content and order (docs/splits.md).
    """
    n_test, n_validation = round(test_share * len(ids)), round(validation_share * len(ids))
    drawn = [ids[i] for i in np.random.RandomState(seed).permutation(len(ids))]
    return {
        "train": tuple(drawn[n_test + n_validation :]),
        "validation": tuple(drawn[n_test : n_test + n_validation]),
        "test": tuple(drawn[:n_test]),
    }


def patient_lists(ids: Sequence[str], patient_of: PatientOf, patients: Mapping[str, Sequence[str]]) -> Splits:
    """Images of listed patients, in the order of the list; a patient's images keep the order of `ids`.

    Listed patients without an image are skipped, images of unlisted patients are in no split; the counts and digests of `check_digests`
    tell.

    Raises:
        SplitError: a patient listed in two splits, or not one listed patient present.
    """
    listed = Counter(patient for split in SPLITS for patient in patients.get(split, ()))
    twice = sorted(patient for patient, n in listed.items() if n > 1)
    if twice:
        raise SplitError(f"Patients listed more than once in the split lists: {_few(twice)}. Every patient belongs to one split.")
    images: dict[str, list[str]] = {}
    for sample_id in ids:
        patient = patient_of(sample_id)
        if patient is not None:
            images.setdefault(patient, []).append(sample_id)
    splits = {split: tuple(i for patient in patients.get(split, ()) for i in images.get(patient, ())) for split in SPLITS}
    if ids and not any(splits.values()):
        raise SplitError(
            f"None of the {len(images):,} patients found (such as {_few(sorted(images))}) is in the split lists "
            f"(such as {_few(list(listed))}). Is this the right dataset folder?"
        )
    return splits


def by_patient(ids: Iterable[str], patient_of: Callable[[str], str]) -> dict[str, list[str]]:
    """Patient -> images in the order of `ids`; patients in the order of their first image."""
    images: dict[str, list[str]] = {}
    for sample_id in ids:
        images.setdefault(patient_of(sample_id), []).append(sample_id)
    return images


def only_tested(ids: Iterable[str]) -> Splits:
    """Of releases that nothing trains on."""
    return {"train": (), "validation": (), "test": tuple(ids)}


def prefix(ids: Sequence[str], fraction: float) -> tuple[str, ...]:
    """The first round(n * fraction) ids: LoVT's 1 % and 10 % subsets, nested and in list order."""
    require_share(fraction)
    return tuple(ids[: round(len(ids) * fraction)])


def require_share(fraction: float) -> None:
    """Raises SplitError: no part of a list."""
    if not 0 < fraction <= 1:
        raise SplitError(f"A fraction of {fraction} of a list makes no sense; expected a number above 0 and at most 1.")


def drop_patients_of_test(splits: Splits, patient_of: PatientOf) -> Splits:
    """Keeps the test images and drops from train and validation every image of a test patient (docs/reading-the-leaderboard.md).

    Images without a known patient stay: nothing shows that they leak.

    Raises:
        SplitError: no test image has a known patient.
    """
    held_out = {patient for patient in map(patient_of, splits["test"]) if patient is not None}
    if not held_out:
        raise SplitError("The patients of this dataset are not known, so a patient-disjoint split cannot be made; use split 'lovt'.")
    kept = {split: tuple(i for i in ids if patient_of(i) not in held_out) for split, ids in splits.items() if split != "test"}
    return {**kept, "test": splits["test"]}


def size_matched(splits: Splits, disjoint: Splits, seed: int) -> Splits:
    """The control of `drop_patients_of_test`: drops as many images of each split, but at random; order is kept."""
    random = np.random.RandomState(seed)
    matched: Splits = {}
    for split in SPLITS:
        ids = splits[split]
        kept = np.sort(random.permutation(len(ids))[: len(disjoint[split])])
        matched[split] = tuple(ids[i] for i in kept)
    return matched


# ------------------------------------------------------------------------------------------------------------------ checks


def check_disjoint(splits: Splits) -> None:
    """Raises SplitError, naming ids, when an id stands twice in a split or in two splits."""
    for split, ids in splits.items():
        twice = sorted(i for i, n in Counter(ids).items() if n > 1)
        if twice:
            raise SplitError(f"{len(twice):,} ids stand more than once in split {split!r}: {_few(twice)}.")
    for one, other in combinations(splits, 2):
        shared = sorted(set(splits[one]) & set(splits[other]))
        if shared:
            raise SplitError(
                f"{len(shared):,} ids are in {one!r} and in {other!r}: {_few(shared)}. Training would see images it is tested on."
            )


def shared_patients(splits: Splits, patient_of: PatientOf) -> dict[tuple[str, str], int]:
    """How many known patients have images in both splits, for each pair of splits."""
    patients = {split: {patient_of(i) for i in ids} - {None} for split, ids in splits.items()}
    return {(one, other): len(patients[one] & patients[other]) for one, other in combinations(splits, 2)}


def check_digests(
    splits: Splits,
    expected: Mapping[str, SplitCounts],
    n_boxes: Callable[[str], int] | None = None,
    positive: Callable[[str], bool] | None = None,
    patient_of: PatientOf | None = None,
) -> list[Check]:
    """Compares splits with a card's sizes and digests, one line each.

    Args:
        splits: as made from the folder.
        expected: by split name, or by `<split>_<p>pct` for the first p per cent of a split.
        n_boxes, positive, patient_of: per id; a number that cannot be computed without one of them is left out.
    """
    checks: list[Check] = []
    for name, counts in expected.items():
        ids = _subset(splits, name)
        if ids is None:
            checks.append(Check(f"{name}: images", f"{counts.n_images:,}", "no such split", "error"))
            continue
        checks.append(compare(f"{name}: images", counts.n_images, len(ids)))
        if counts.n_positive is not None and positive is not None:
            checks.append(compare(f"{name}: positive images", counts.n_positive, sum(map(positive, ids))))
        if counts.n_boxes is not None and n_boxes is not None:
            checks.append(compare(f"{name}: boxes", counts.n_boxes, sum(map(n_boxes, ids))))
        if counts.n_patients is not None and patient_of is not None:
            checks.append(compare(f"{name}: patients", counts.n_patients, len({patient_of(i) for i in ids} - {None})))
        if counts.sha256_sorted is not None:
            checks.append(compare(f"{name}: ids", counts.sha256_sorted, ids_digest(ids)))
        if counts.sha256_ordered is not None:
            hint = "The ids are right but not their order: was the label file sorted or re-saved?"
            checks.append(compare(f"{name}: order of ids", counts.sha256_ordered, ids_digest(ids, ordered=True), hint))
    return checks


def compare(what: str, expected: int | str, found: int | str, hint: str = "") -> Check:
    """One line of a verification; digests are shown by their first 16 digits. The hint is kept only when the two differ."""
    if expected == found:
        return Check(what, _shown(expected), _shown(found), "ok")
    return Check(what, _shown(expected), _shown(found), "error", hint or "Is this the complete, unedited release?")


def _subset(splits: Splits, name: str) -> tuple[str, ...] | None:
    if name in splits:
        return splits[name]
    match = _SUBSET.fullmatch(name)
    if match is None or match["split"] not in splits:
        return None
    return prefix(splits[match["split"]], int(match["percent"]) / 100)


def _shown(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value[:_SHOWN_HEX]


def _few(ids: Iterable[str]) -> str:
    listed = list(ids)
    return ", ".join(listed[:_SHOWN_IDS]) + (f" and {len(listed) - _SHOWN_IDS:,} more" if len(listed) > _SHOWN_IDS else "")


# --------------------------------------------------------------------------------------------------------- LoVT's own lists


@dataclass(frozen=True)
class LovtLists:
    """LoVT's committed lists of one dataset.

    Attributes:
        splits: ids in file order.
        boxes_xywh: id -> (n, 4) float64 in original pixels; empty for lists without boxes.
        labels: id -> (n,) int64, the class column as written.
    """

    splits: Splits
    boxes_xywh: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def lovt_csv(folder: Path) -> LovtLists:
    """Reads `train.csv`, `validation.csv` and `test.csv` of a folder: header `ID` or `ID,boxes,classes`, boxes `x;y;w;h` joined by `|`.

    Raises:
        DataError: a missing file, other columns, quoting that does not close, or a cell that does not parse, with its line.
    """
    splits: Splits = {}
    boxes: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    for split in SPLITS:
        path = folder / f"{split}.csv"
        if not path.is_file():
            raise DataError(f"No list {path}. Expected train.csv, validation.csv and test.csv in LoVT's format.")
        try:
            with open_text(path, "split lists") as handle:
                rows = csv.reader(handle, strict=True)
                header = next(rows, [])
                if header not in (["ID"], ["ID", "boxes", "classes"]):
                    raise DataError(f"{path}: columns {','.join(header) or '(none)'}, expected ID or ID,boxes,classes.")
                ids = []
                for row in rows:
                    if len(row) != len(header):
                        raise DataError(f"{path}, line {rows.line_num:,}: {len(row)} fields, expected {len(header)}.")
                    ids.append(row[0])
                    if len(row) == 3:
                        boxes[row[0]], labels[row[0]] = _lovt_boxes(row[1], row[2], f"{path}, line {rows.line_num:,}")
        except csv.Error as error:
            raise DataError(f"{path} is not a readable table ({error}). Expected a list in LoVT's format.") from None
        splits[split] = tuple(ids)
    return LovtLists(splits, boxes, labels)


def _lovt_boxes(boxes: str, classes: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        parsed = [[float(number) for number in box.split(";")] for box in boxes.split("|") if box]
        labels = [int(label) for label in classes.split("|") if label]
    except ValueError as error:
        raise DataError(f"{where}: boxes {boxes!r} or classes {classes!r} do not parse ({error}).") from None
    if len(parsed) != len(labels) or any(len(box) != 4 for box in parsed):
        raise DataError(f"{where}: {len(parsed)} boxes and {len(labels)} classes, expected as many of both and four numbers a box.")
    return np.array(parsed, dtype=np.float64).reshape(-1, 4), np.array(labels, dtype=np.int64)
