"""One method on one task, and two methods on it: values with their intervals, the p-value of a difference, and why there is none.

A score is the pooled metric over all test images. What is estimated is its mean over label draws, head seeds, data orders and test
patients, given the checkpoint and the learning rate that was chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import UsageError
from benchmark.statistics.interval import WithInterval
from benchmark.statistics.levels import (
    CHECKPOINTS,
    PATIENTS,
    RUNS,
    Level,
    Seeds,
    checkpoints_level,
    resampled_variance,
    run_component,
    seed_components,
    two_parts,
)
from benchmark.statistics.testable import FEWEST_CLUSTERS, has_low_power, why_untested
from benchmark.statistics.two_part import Components, satterthwaite, two_part_half_width, two_part_p


@dataclass(frozen=True)
class Scores:
    """One method on one task.

    Attributes:
        runs: (n,) float64 score of each run, in the metric's unit; of a recipe, each checkpoint's mean over runs.
        resampled: (R, n) float score of each run in resamples of the test patients, the same draws for every method on the task; NaN
            where a resample leaves the metric undefined. None without statistics per image.
        n_clusters: test patients, or images where patients are unknown; None without `resampled`.
        n_with_finding: of these, how many show the finding; None where unknown.
        drawn: another run would draw something anew. False for the one evaluation of fixed weights (zero-shot): it has no level of runs.
        unit: `RUNS`, or `CHECKPOINTS` where a recipe is judged and not a checkpoint.
    """

    runs: np.ndarray
    resampled: np.ndarray | None
    n_clusters: int | None
    n_with_finding: int | None = None
    drawn: bool = True
    unit: str = RUNS

    def __post_init__(self) -> None:
        if self.drawn is False and len(self.runs) != 1:
            raise UsageError(f"Where nothing is drawn there is one evaluation, found {len(self.runs)}: repetitions are not runs.")
        if (self.resampled is None) != (self.n_clusters is None):
            raise UsageError("Scores in resamples and the number of patients resampled come together; one of them is missing.")
        if self.resampled is not None and (self.resampled.ndim != 2 or self.resampled.shape[1] != len(self.runs)):
            raise UsageError(f"Resampled scores of {len(self.runs)} runs have shape (resamples, runs), found {self.resampled.shape}.")


@dataclass(frozen=True)
class Cell:
    """A method's own score on a task.

    Attributes:
        value: mean over runs.
        levels: sources of chance that the interval covers; empty without one.
        half_width: of the 95 % interval; None for one run of something that is drawn.
        n_clusters: as `Scores`.
    """

    value: float
    levels: tuple[Level, ...]
    half_width: float | None
    n_clusters: int | None

    @property
    def covers_patients(self) -> bool:
        return _covers(self.levels, PATIENTS)

    @property
    def descriptive(self) -> bool:
        """Over so few patients that the interval's coverage is not promised."""
        return self.n_clusters is not None and self.n_clusters < FEWEST_CLUSTERS


@dataclass(frozen=True)
class Difference(WithInterval):
    """First method minus second on one task.

    Attributes:
        value: difference of the means over runs.
        levels: sources of chance that the interval covers; empty without one.
        both: V_both, the variance that is counted with the runs and with the patients, because each run errs on patients of its own. It is
            stored and not subtracted: what is left would reject too often in the tails. None where it is unknown.
        seeds: how runs were compared.
        n_runs: of the method with fewer; None where neither draws anything.
        n_clusters: as `Scores`.
        half_width: the difference whose `p_value` would be 0.05; None where a method that is drawn has one run.
        p_value: two-part p, unadjusted; None where nothing is tested.
        untested: why there is no p-value, a sentence; empty where there is one.
    """

    value: float
    levels: tuple[Level, ...]
    both: float | None
    seeds: Seeds
    n_runs: int | None
    n_clusters: int | None
    half_width: float | None
    p_value: float | None
    untested: str

    @property
    def low_power(self) -> bool:
        """Tested over so few runs that even large differences are rarely found."""
        return self.p_value is not None and has_low_power(self.n_runs)

    @property
    def covers_patients(self) -> bool:
        return _covers(self.levels, PATIENTS)


def cells(scores: Sequence[Scores]) -> list[Cell]:
    """Own score and interval of many: V_seed = s^2 / n with n - 1 degrees of freedom, V_patient from its own resamples.

    Source: the two-part interval of `two_part_half_width`.
    """
    levels = [_levels_of_one(each) for each in scores]
    halves = _half_widths(levels)
    return [
        Cell(float(np.mean(each.runs)), () if half is None else tuple(found or ()), half, each.n_clusters)
        for each, found, half in zip(scores, levels, halves, strict=True)
    ]


def differences(compared: Iterable[tuple[Scores, Scores, Seeds]]) -> list[Difference]:
    """First minus second, for many pairs at once.

    V_seed is s_d^2 / n with n - 1 degrees of freedom where the protocol gives run r of both the same label draw and seed ("shared"), else
    s_A^2 / n_A + s_B^2 / n_B with Satterthwaite's. V_patient is the variance, over resamples of the patients, of the mean over runs of the
    difference, with one degree of freedom less than there are patients. V_both = sum over runs of the variance, over resamples, of a run's
    difference from the mean over runs, divided by n (n - 1).

    Raises:
        UsageError: a method without a run, methods over other resamples, shared seeds with unequal numbers of runs or among checkpoints, or
            a recipe of two checkpoints.
    """
    pairs = list(compared)
    levels = [_levels_of_two(*pair) for pair in pairs]
    values = [float(np.mean(first.runs)) - float(np.mean(second.runs)) for first, second, _ in pairs]
    n_runs = [min((len(each.runs) for each in pair[:2] if each.drawn), default=None) for pair in pairs]
    n_clusters = [None if any(each.n_clusters is None for each in pair[:2]) else pair[0].n_clusters for pair in pairs]
    n_with = [min((each.n_with_finding for each in pair[:2] if each.n_with_finding is not None), default=None) for pair in pairs]
    covered = [None if not _covers(found or (), PATIENTS) else n for found, n in zip(levels, n_clusters, strict=True)]
    untested = [why_untested(*numbers) for numbers in zip(n_runs, covered, n_with, strict=True)]
    halves = _half_widths(levels)
    p = two_part_p(values, *_parts(levels))
    return [
        Difference(
            values[i],
            tuple(levels[i] or ()),
            _both(*pairs[i]),
            pairs[i][2],
            n_runs[i],
            n_clusters[i],
            halves[i],
            None if untested[i] else float(p[i]),
            untested[i],
        )
        for i in range(len(pairs))
    ]


def difference(first: Scores, second: Scores, seeds: Seeds) -> Difference:
    """One of `differences`."""
    return differences([(first, second, seeds)])[0]


def _covers(levels: Sequence[Level], name: str) -> bool:
    return any(level.name == name for level in levels)


def _levels_of_one(scores: Scores) -> list[Level] | None:
    """Runs and patients; None where one run of something drawn says nothing of another."""
    if len(scores.runs) == 0:
        raise UsageError("A cell needs a run.")
    if scores.drawn and len(scores.runs) < 2:
        return None
    return _own(scores) + _patients(
        None if scores.resampled is None else scores.resampled.mean(axis=1, dtype=np.float64), scores.n_clusters
    )


def _levels_of_two(first: Scores, second: Scores, seeds: Seeds) -> list[Level] | None:
    drawn = [each for each in (first, second) if each.drawn]
    if min(len(first.runs), len(second.runs)) == 0:
        raise UsageError("A comparison needs a run of both methods.")
    if any(len(each.runs) < 2 for each in drawn):
        return None
    resampled = None
    if first.resampled is not None and second.resampled is not None:
        if (len(first.resampled), first.n_clusters) != (len(second.resampled), second.n_clusters):
            raise UsageError(
                f"Two methods are compared on the same resamples of the same patients; the first has {len(first.resampled)} of "
                f"{first.n_clusters}, the second {len(second.resampled)} of {second.n_clusters}. Resample both anew from one list."
            )
        resampled = first.resampled.mean(axis=1, dtype=np.float64) - second.resampled.mean(axis=1, dtype=np.float64)
    return _drawn(drawn, seeds) + _patients(resampled, first.n_clusters)


def _drawn(methods: Sequence[Scores], seeds: Seeds) -> list[Level]:
    """Levels of what one or two methods draw in training; one of each unit."""
    units = [each.unit for each in methods]
    if seeds == "shared" and len(methods) == 2:
        if CHECKPOINTS in units:
            raise UsageError("Checkpoints of two recipes share no seeds: compare them as independent.")
        return [Level(RUNS, *satterthwaite(seed_components(list(methods[0].runs), list(methods[1].runs), "shared")))]
    own = [level for each in methods for level in _own(each)]
    return [Level(unit, *satterthwaite([level.component for level in own if level.name == unit])) for unit in dict.fromkeys(units)]


def _own(scores: Scores) -> list[Level]:
    """What one method draws in training."""
    if not scores.drawn:
        return []
    return [checkpoints_level(list(scores.runs)) if scores.unit == CHECKPOINTS else Level(RUNS, *run_component(scores.runs))]


def _patients(resampled: np.ndarray | None, n_clusters: int | None) -> list[Level]:
    """The level of the test patients; none where too few resamples define the metric."""
    variance = None if resampled is None else resampled_variance(resampled)
    return [] if variance is None or n_clusters is None or n_clusters < 2 else [Level(PATIENTS, variance, n_clusters - 1)]


def _half_widths(levels: Sequence[Sequence[Level] | None]) -> list[float | None]:
    """None without a level: nothing known is not nothing uncertain."""
    drawn, patients = _parts(levels)
    found = two_part_half_width(drawn, patients)
    return [float(half) if known else None for known, half in zip(levels, found, strict=True)]


def _parts(levels: Sequence[Sequence[Level] | None]) -> tuple[Components, Components]:
    """`two_parts` of many: both with (N,) variances and (N,) degrees of freedom."""
    table = np.array([two_parts(found or ()) for found in levels], np.float64).reshape(-1, 2, 2)
    return (table[:, 0, 0], table[:, 0, 1]), (table[:, 1, 0], table[:, 1, 1])


def _both(first: Scores, second: Scores, seeds: Seeds) -> float | None:
    drawn = [each.resampled for each in (first, second) if each.drawn]
    tables = [each for each in drawn if each is not None and each.shape[1] > 1]
    if not tables or len(tables) < len(drawn):
        return None
    if seeds == "shared" and len(tables) == 2:
        tables = [tables[0] - tables[1]]
    found = [_interaction(table) for table in tables]
    return None if any(each is None for each in found) else float(sum(each for each in found if each is not None))


def _interaction(resampled: np.ndarray) -> float | None:
    """Variance of the mean over runs that comes from each run's own errors on patients, of (R, n) scores."""
    n_runs = resampled.shape[1]
    each = [resampled_variance(run) for run in (resampled - resampled.mean(axis=1, keepdims=True, dtype=np.float64)).T]
    known = [variance for variance in each if variance is not None]
    return sum(known) / (n_runs * (n_runs - 1)) if len(known) == n_runs else None
