"""Differences of two rows, task by task: what pretraining adds, and what a leak of patients is worth.

The interval covers runs and, where both rows saw the same resamples, test patients: V_seed + V_patient, paired
(docs/reading-the-leaderboard.md). A difference exists only where both rows are complete and were made under one protocol, one scale and
the same kind of data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from benchmark.metrics.uncertainty import FEWEST_CLUSTERS, half_width, holm, seed_components
from benchmark.report import numbers
from benchmark.report.resampling import Resampled, difference_of
from benchmark.report.rows import Row

TESTED = (
    "p: for each backbone and task, the test that exchanging the two networks' predictions changes nothing (two-sided, 1,000 exchanges "
    "of all predictions of a patient, in all runs together), after Holm's correction over all tasks of that backbone in this table. "
    "No p-value under 30 test patients, or without per-image statistics of both."
)

PValueOf = Callable[[Row, Row], float | None]

LEAKY, DISJOINT = "size-matched", "patient-disjoint"


@dataclass(frozen=True)
class Compared:
    """A difference of two rows as fractions.

    Attributes:
        paired: the runs share their seeds and are compared one by one.
        patients: the difference in resamples of the test patients; None where the interval covers runs only.
    """

    difference: numbers.Difference
    paired: bool
    patients: Resampled | None

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
        p_value: Holm's adjusted p-value over the tasks of one backbone; None where nothing was tested.
    """

    trained: Row
    random: Row
    p_value: float | None = None

    @property
    def p_text(self) -> str:
        return numbers.DASH if self.p_value is None else f"{self.p_value:.3f}"


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
        p_value_of: (first, second) -> unadjusted p-value, or None where the pair cannot be tested. Adjusted here, by Holm, over all tasks
            on which one backbone is compared under one protocol and scale: one family of tests a backbone.
    """
    rows = [row for row in rows if row.mean is not None]
    untrained = {(_place(row), row.variant): row for row in rows if row.random}
    pairs = [(row, untrained.get((_place(row), row.variant))) for row in rows if not row.random]
    found = [Gain(*_difference(row, base), trained=row, random=base) for row, base in pairs if base is not None]
    return found if p_value_of is None else _tested(found, p_value_of)


def leaks(rows: Iterable[Row]) -> list[Leak]:
    """What the leak of patients is worth, for every backbone and task that was run on both splits."""
    rows = [row for row in rows if row.mean is not None]
    disjoint = {_but_split(row): row for row in rows if row.split == DISJOINT}
    pairs = [(row, disjoint.get(_but_split(row))) for row in rows if row.split == LEAKY]
    return [Leak(*_difference(row, base), leaky=row, disjoint=base) for row, base in pairs if base is not None]


def _tested(found: list[Gain], p_value_of: PValueOf) -> list[Gain]:
    raw = {i: p for i, gain in enumerate(found) if (p := p_value_of(gain.trained, gain.random)) is not None}
    families: dict[tuple, list[int]] = {}
    for i in raw:
        row = found[i].trained
        families.setdefault((row.label, row.protocol, row.scale, row.phantom), []).append(i)
    adjusted = {i: p for members in families.values() for i, p in zip(members, holm([raw[i] for i in members]), strict=True)}
    return [replace(gain, p_value=adjusted.get(i)) for i, gain in enumerate(found)]


def _place(row: Row) -> tuple:
    return (row.task, row.split, row.metric, row.protocol, row.scale, row.phantom, row.architecture)


def _but_split(row: Row) -> tuple:
    return (row.task, row.metric, row.protocol, row.scale, row.phantom, row.architecture, row.label)


def _difference(first: Row, second: Row) -> tuple[numbers.Difference, bool, Resampled | None]:
    """First minus second, whether its runs are paired, and its resamples."""
    seeds = [[(run.run, run.head_seed, run.order_seed) for run in row.runs] for row in (first, second)]
    paired = seeds[0] == seeds[1] and len(seeds[0]) > 1
    value = numbers.mean(first.values) - numbers.mean(second.values)
    if min(len(first.values), len(second.values)) < 2:
        return numbers.Difference(value, None), paired, None
    components = seed_components(first.values, second.values, "shared" if paired else "independent")
    patients = difference_of(first.resampled, second.resampled)
    v_patient = None if patients is None else patients.variance
    if patients is None or v_patient is None or patients.n_clusters < 2:
        return numbers.Difference(value, half_width(components)), paired, None
    return numbers.Difference(value, half_width([*components, (v_patient, patients.n_clusters - 1)])), paired, patients
