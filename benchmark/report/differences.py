"""Differences of two rows, task by task: what pretraining adds, and what a leak of patients is worth.

The interval covers runs and, where both rows saw the same resamples, test patients: V_seed + V_patient, paired. A difference exists only
where both rows are complete and were made under one protocol, one scale and the same kind of data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from benchmark.report import numbers
from benchmark.report.resampling import Resampled, difference_of
from benchmark.report.rows import Row
from benchmark.statistics.uncertainty import FEWEST_CLUSTERS, Comparison, holm
from benchmark.statistics.uncertainty import compare as compare_runs

TESTED = (
    "p, runs and patients: how often a difference at least as large comes from the choice of runs and of test patients alone (two-sided; "
    "the error of either has its own Student t). No p-value under three runs, under 30 test patients, under 15 test images with the "
    "finding, or without per-image statistics of both; with three or four runs even large differences are rarely found (low power). "
    "Told apart from: the difference whose p, before the correction, is 0.05. "
    "p, these runs: how often exchanging the two networks' predictions gives one (two-sided, 1,000 exchanges of all predictions of a "
    "patient, in all runs together); it says nothing of other runs. "
    "Both after Holm's correction over all tasks of that backbone in this table."
)

PValueOf = Callable[[Row, Row], float | None]

LEAKY, DISJOINT = "size-matched", "patient-disjoint"


@dataclass(frozen=True)
class Compared:
    """A difference of two rows as fractions.

    Attributes:
        patients: the difference in resamples of the test patients; None where the interval covers runs only.
    """

    difference: Comparison
    patients: Resampled | None

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
        """What the interval says, in words, so that colour need not."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None:
            return "no interval: one run"
        word = "higher" if low > 0 else "lower" if high < 0 else "not told apart"
        few = self.patients is not None and self.patients.n_clusters < FEWEST_CLUSTERS
        return f"{word} (descriptive)" if few else word

    @property
    def covers(self) -> str:
        """What the interval covers, and how runs were compared."""
        runs = "runs paired by seed" if self.paired else "independent runs"
        if self.difference.half_width is None or self.patients is None:
            return f"{runs} only"
        return f"{runs}, {self.patients.n_clusters} test {'patients' if self.patients.by_patient else 'images'}"


@dataclass(frozen=True)
class Gain(Compared):
    """Pre-trained minus untrained.

    Attributes:
        p_value: of exchanging the predictions of these very runs, Holm's adjusted over the tasks of one backbone; None where not tested.
        two_part_p: of runs and patients (`Comparison.p_value`), adjusted likewise.
    """

    trained: Row
    random: Row
    p_value: float | None = None
    two_part_p: float | None = None

    @property
    def p_text(self) -> str:
        return numbers.DASH if self.p_value is None else f"{self.p_value:.3f}"

    @property
    def two_part_text(self) -> str:
        if self.two_part_p is None:
            return numbers.DASH
        return f"{self.two_part_p:.3f}" + " (low power)" * self.difference.low_power

    @property
    def least_told_apart_text(self) -> str:
        least = self.difference.least_told_apart
        return numbers.DASH if least is None else numbers.percent(least)

    @property
    def tested(self) -> bool:
        return self.p_value is not None or self.two_part_p is not None


@dataclass(frozen=True)
class Leak(Compared):
    """Size-matched minus patient-disjoint: same test images, as many training images, with and without those of test patients."""

    leaky: Row
    disjoint: Row


def compare(first: Row, second: Row) -> Compared:
    """First minus second, for any two complete rows of one task and metric."""
    return Compared(*_difference(first, second))


def gains(rows: Iterable[Row], p_value_of: PValueOf | None = None) -> list[Gain]:
    """Differences to the untrained row of the same architecture; rows without such a partner are left out.

    Args:
        p_value_of: (first, second) -> unadjusted p-value of these very runs, or None where the pair cannot be tested. Adjusted here, by
            Holm, over all tasks on which one backbone is compared under one protocol and scale: one family of tests a backbone.
    """
    rows = [row for row in rows if row.mean is not None]
    untrained = {(_place(row), row.variant): row for row in rows if row.random}
    pairs = [(row, untrained.get((_place(row), row.variant))) for row in rows if not row.random]
    found = [Gain(*_difference(row, base), trained=row, random=base) for row, base in pairs if base is not None]
    by_runs_and_patients = _adjusted(found, [gain.difference.p_value for gain in found])
    by_exchange = _adjusted(found, [None if p_value_of is None else p_value_of(gain.trained, gain.random) for gain in found])
    return [replace(gain, p_value=by_exchange[i], two_part_p=by_runs_and_patients[i]) for i, gain in enumerate(found)]


def leaks(rows: Iterable[Row]) -> list[Leak]:
    """What the leak of patients is worth, for every backbone and task that was run on both splits."""
    rows = [row for row in rows if row.mean is not None]
    disjoint = {_place_without_split(row): row for row in rows if row.split == DISJOINT}
    pairs = [(row, disjoint.get(_place_without_split(row))) for row in rows if row.split == LEAKY]
    return [Leak(*_difference(row, base), leaky=row, disjoint=base) for row, base in pairs if base is not None]


def _adjusted(found: Sequence[Gain], raw: Sequence[float | None]) -> list[float | None]:
    """Holm's p-values, one family per backbone, protocol, scale and kind of data; what was not tested belongs to none."""
    families: dict[tuple, dict[int, float]] = {}
    for i, p in enumerate(raw):
        if p is not None:
            row = found[i].trained
            families.setdefault((row.label, row.protocol, row.scale, row.phantom), {})[i] = p
    adjusted = {i: p for family in families.values() for i, p in zip(family, holm(list(family.values())), strict=True)}
    return [adjusted.get(i) for i in range(len(raw))]


def _place(row: Row) -> tuple:
    return (row.task, row.split, row.metric, row.protocol, row.scale, row.phantom, row.architecture)


def _place_without_split(row: Row) -> tuple:
    return (row.task, row.metric, row.protocol, row.scale, row.phantom, row.architecture, row.label)


def _difference(first: Row, second: Row) -> tuple[Comparison, Resampled | None]:
    """First minus second, and its resamples."""
    seeds = [[(run.run, run.head_seed, run.order_seed) for run in row.runs] for row in (first, second)]
    paired = seeds[0] == seeds[1] and len(seeds[0]) > 1
    patients = difference_of(first.resampled, second.resampled) if min(len(first.values), len(second.values)) > 1 else None
    v_patient = None if patients is None else patients.variance
    if patients is None or v_patient is None or patients.n_clusters < 2:
        return compare_runs(first.values, second.values, "shared" if paired else "independent"), None
    known = [row.n_with_finding for row in (first, second) if row.n_with_finding is not None]
    patient = (v_patient, patients.n_clusters - 1)
    return compare_runs(first.values, second.values, "shared" if paired else "independent", patient, min(known, default=None)), patients
