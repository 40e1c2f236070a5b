"""Differences of two rows, task by task: what pretraining adds, and what a leak of patients is worth.

The interval covers what either row draws and, where both rows saw the same resamples, test patients, paired. A difference exists only
where both rows are complete and were made under one protocol, one scale and the same kind of data.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.report import numbers
from benchmark.report.covered import covered
from benchmark.report.rows import Row
from benchmark.statistics.difference import Difference, Scores
from benchmark.statistics.difference import differences as differences_of
from benchmark.statistics.families import holm_by_family
from benchmark.statistics.levels import RUNS, Seeds
from benchmark.statistics.verdict import verdict

TESTED = (
    "p: how often a difference at least as large comes from the choice of runs and of test patients alone (two-sided; the error of either "
    "has its own Student t), after Holm's correction over all tasks of that backbone in this table. Higher and lower mean a p of at most "
    "0.05. Not tested: under three runs, under 30 test patients, under 15 test images with the finding, or without per-image statistics "
    "of both. With three or four runs even large differences are rarely found (low power)."
)

LEAKY, DISJOINT = "size-matched", "patient-disjoint"


@dataclass(frozen=True)
class Compared:
    """A difference of two rows as fractions.

    Attributes:
        by_patient: patients were resampled, not images.
        adjusted_p: two-part p after Holm's correction for its family; None where nothing is tested.
    """

    difference: Difference
    by_patient: bool
    adjusted_p: float | None

    @property
    def paired(self) -> bool:
        """The runs share their seeds and are compared one by one."""
        return self.difference.seeds == "shared"

    @property
    def text(self) -> str:
        half = self.difference.half_width
        return numbers.signed_points(100 * self.difference.value, None if half is None else 100 * half)

    @property
    def reading(self) -> str:
        """What the test says, in words, so that colour need not."""
        return self.difference.untested or verdict(self.difference.value, self.adjusted_p)

    @property
    def p_text(self) -> str:
        if self.adjusted_p is None:
            return numbers.DASH
        return numbers.p_value(self.adjusted_p) + " (low power)" * self.difference.low_power

    @property
    def covers(self) -> str:
        """What the interval covers, and how runs were compared."""
        runs = "runs paired by seed" if self.paired else "independent runs"
        found = covered(self.difference.levels, self.difference.n_clusters, self.by_patient, runs)
        return ", ".join(found) + " only" * (len(found) == 1) if found else "no interval"


@dataclass(frozen=True)
class Gain(Compared):
    """Pre-trained minus untrained."""

    trained: Row
    random: Row


@dataclass(frozen=True)
class Leak(Compared):
    """Size-matched minus patient-disjoint: same test images, as many training images, with and without those of test patients."""

    leaky: Row
    disjoint: Row


def compare(first: Row, second: Row) -> Compared:
    """First minus second, for any two complete rows of one task and metric; a family of one."""
    (found,) = compare_all([(first, second)], family_of=lambda first, second: None)
    return found


def compare_all(pairs: Sequence[tuple[Row, Row]], family_of: Callable[[Row, Row], Hashable]) -> list[Compared]:
    """First minus second of each pair of complete rows.

    Args:
        family_of: pair -> the family of tests whose p-values Holm corrects together.
    """
    found = differences_of(_comparable(first, second) for first, second in pairs)
    raw = {i: one.p_value for i, one in enumerate(found)}
    adjusted = holm_by_family(raw, lambda i: family_of(*pairs[i]))
    by_patient = [all(row.resampled is None or row.resampled.by_patient for row in pair) for pair in pairs]
    return [Compared(one, by_patient[i], adjusted[i]) for i, one in enumerate(found)]


def gains(rows: Iterable[Row]) -> list[Gain]:
    """Differences to the untrained row of the same architecture and settings; rows without such a partner are left out.

    One family of tests for each backbone, protocol, scale and kind of data.
    """
    rows = [row for row in rows if row.mean is not None]
    untrained = {(_place(row), row.settings): row for row in rows if row.random}
    pairs = [(row, base) for row in rows if not row.random and (base := untrained.get((_place(row), row.settings))) is not None]
    return [Gain(**vars(one), trained=row, random=base) for (row, base), one in zip(pairs, compare_all(pairs, _family), strict=True)]


def leaks(rows: Iterable[Row]) -> list[Leak]:
    """What the leak of patients is worth, for every backbone and task that was run on both splits. Families as of `gains`."""
    rows = [row for row in rows if row.mean is not None]
    disjoint = {_place_without_split(row): row for row in rows if row.split == DISJOINT}
    pairs = [(row, base) for row in rows if row.split == LEAKY and (base := disjoint.get(_place_without_split(row))) is not None]
    return [Leak(**vars(one), leaky=row, disjoint=base) for (row, base), one in zip(pairs, compare_all(pairs, _family), strict=True)]


def seeds_of(first: Row, second: Row) -> Seeds:
    """Whether the protocol gave run i of both the same label draw and seeds. Checkpoints of two recipes share nothing."""
    runs = all(row.drawn and row.unit == RUNS and len(row.runs) > 1 for row in (first, second))
    return "shared" if runs and first.seeds == second.seeds else "independent"


def tested_alike(rows: Sequence[Row]) -> np.ndarray:
    """(N, N) bool: whether resamples of two rows can be subtracted: of one version of their task, of the same test images and patients and,
    where both have one split, of one release.

    Another digest of a dataset's one split is another ground truth, or other pixels. Two splits have digests of their own.
    """
    tests = _equal((row.task_version, None if row.resampled is None else row.resampled.test) for row in rows)
    found: np.ndarray = tests & (~_equal(row.split for row in rows) | _equal(row.dataset_digest for row in rows))
    return found


def _equal(values: Iterable[Hashable]) -> np.ndarray:
    """(N, N) bool: which of N values equal which."""
    places: dict[Hashable, int] = {}
    codes = np.array([places.setdefault(value, len(places)) for value in values])
    equal: np.ndarray = codes[:, None] == codes
    return equal


def _comparable(first: Row, second: Row) -> tuple[Scores, Scores, Seeds]:
    """What is subtracted; of rows that were not tested alike without their resamples."""
    scores = first.scores, second.scores
    if not tested_alike((first, second))[0, 1]:
        scores = tuple(Scores(one.runs, None, None, one.n_with_finding, one.drawn) for one in scores)  # type: ignore[assignment]
    return (*scores, seeds_of(first, second))


def _family(first: Row, second: Row) -> Hashable:
    return (first.label, first.protocol, first.scale, first.phantom)


def _place(row: Row) -> tuple:
    return (row.task, row.task_version, row.split, row.metric, row.protocol, row.scale, row.phantom, row.architecture)


def _place_without_split(row: Row) -> tuple:
    return (row.task, row.task_version, row.metric, row.protocol, row.scale, row.phantom, row.architecture, row.label)
