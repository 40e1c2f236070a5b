"""Order among backbones: the headline against a frozen panel, differences of headlines, and rank bands from them.

Pure arithmetic on scores. Which rows may be ranked at all (complete, unlimited, not phantom, not contaminated) is decided by the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import UsageError
from benchmark.statistics.uncertainty import Component, holm, satterthwaite, two_part_half_width, two_part_p

SMALLEST_PANEL = 8
Z_LIMIT = 3.0
LEVEL = 0.05  # at which two rows are told apart


@dataclass(frozen=True)
class PanelScale:
    """Median and interquartile range of one task's scores over the reference panel, frozen per leaderboard version."""

    median: float
    iqr: float


@dataclass(frozen=True)
class Measured:
    """One task of one row. Its metric rises with quality: no card may be judged by another (`metrics.spec.rises`).

    Attributes:
        dataset: whose test patients it is scored on.
        runs: (n,) score of each run.
        resampled: (R,) mean over runs in resamples of the dataset's patients, the same draws for all tasks and rows; undefined nowhere.
        n_patients: of the dataset's test split.
    """

    dataset: str
    runs: np.ndarray
    resampled: np.ndarray
    n_patients: int


@dataclass(frozen=True)
class Headline:
    """How far a row lies above the panel's median, in units of the panel's own spread.

    Attributes:
        by_task: z = (mean score - panel median) / panel IQR, clipped to +-3.
        by_dataset: mean z over the tasks of a dataset.
        value: mean over datasets.
        runs: dataset -> (n,) mean over its tasks of each run's z, clipped tasks held at 0.
        resampled: dataset -> (R,) mean z in resamples of its patients, clipped in each.
        n_patients: dataset -> test patients.
    """

    by_task: dict[str, float]
    by_dataset: dict[str, float]
    value: float
    runs: dict[str, np.ndarray]
    resampled: dict[str, np.ndarray]
    n_patients: dict[str, int]

    @property
    def n_clipped(self) -> int:
        return sum(abs(z) == Z_LIMIT for z in self.by_task.values())

    @property
    def half_width(self) -> float:
        """Of the 95 % interval over runs and patients; the panel is held fixed."""
        return two_part_half_width(*_variances(self.runs, self.resampled, self.n_patients))


@dataclass(frozen=True)
class RankBand:
    """Ranks a row may hold, 1 the best: `best` to `worst`, with 95 % confidence for this row."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def panel_scale(scores: Sequence[float]) -> PanelScale:
    """Scale of one task from the panel's mean scores (quartiles by linear interpolation).

    Raises:
        UsageError: fewer than eight backbones, or scores that do not spread.
    """
    if len(scores) < SMALLEST_PANEL:
        raise UsageError(f"A reference panel needs at least {SMALLEST_PANEL} backbones, found {len(scores)}; show dataset columns instead.")
    first, median, third = np.percentile(scores, [25, 50, 75])
    if not third > first:
        raise UsageError(f"The panel's scores have an interquartile range of {third - first}; they give no scale.")
    return PanelScale(float(median), float(third - first))


def headline(measured: Mapping[str, Measured], panel: Mapping[str, PanelScale]) -> Headline:
    """The headline of one row.

    Args:
        measured: task -> its scores; all tasks of the panel, no gaps.
        panel: task -> scale.

    Raises:
        UsageError: the row lacks a task of the panel, or has one more: there is no average over gaps.
    """
    if set(measured) != set(panel):
        missing, strange = sorted(set(panel) - set(measured)), sorted(set(measured) - set(panel))
        raise UsageError(f"A headline needs exactly the panel's tasks; missing: {missing or 'none'}, unknown: {strange or 'none'}.")
    by_task, runs, resampled = {}, {}, {}
    for task, one in measured.items():
        each, drawn = ((np.asarray(scores, np.float64) - panel[task].median) / panel[task].iqr for scores in (one.runs, one.resampled))
        by_task[task] = float(np.clip(each.mean(), -Z_LIMIT, Z_LIMIT))
        runs[task] = each if abs(by_task[task]) < Z_LIMIT else np.zeros(len(each))
        resampled[task] = np.clip(drawn, -Z_LIMIT, Z_LIMIT)
    tasks_of: dict[str, list[str]] = {}
    for task, one in measured.items():
        tasks_of.setdefault(one.dataset, []).append(task)
    by_dataset = {name: float(np.mean([by_task[task] for task in tasks])) for name, tasks in tasks_of.items()}
    return Headline(
        by_task,
        by_dataset,
        float(np.mean(list(by_dataset.values()))),
        {name: np.mean([runs[task] for task in tasks], axis=0) for name, tasks in tasks_of.items()},
        {name: np.mean([resampled[task] for task in tasks], axis=0) for name, tasks in tasks_of.items()},
        {name: measured[tasks[0]].n_patients for name, tasks in tasks_of.items()},
    )


def p_of_difference(first: Headline, second: Headline) -> float:
    """Two-part p of the difference of two headlines whose runs share seeds, unadjusted: run by run, resample by resample."""
    runs = {name: first.runs[name] - second.runs[name] for name in first.runs}
    resampled = {name: first.resampled[name] - second.resampled[name] for name in first.resampled}
    return two_part_p(first.value - second.value, *_variances(runs, resampled, first.n_patients))


def rank_bands(values: Sequence[float], p_values: np.ndarray) -> list[RankBand]:
    """Rank bands of rows: a row's best rank counts the rows significantly above it, its worst rank those significantly below.

    Significance is by Holm's correction over the differences of that row alone, so a band speaks of its own row: "A above B" needs a
    correction over all pairs. Rows whose band begins at 1 are tied for best.

    Args:
        values: (K,) headlines, higher is better.
        p_values: (K, K) unadjusted p of their differences, symmetric; the diagonal is not read.

    Raises:
        UsageError: a value or p is missing (NaN), or the shapes do not fit.
    """
    points, p = np.asarray(values, np.float64), np.asarray(p_values, np.float64)
    n_rows = len(points)
    others = ~np.eye(n_rows, dtype=bool)
    if p.shape != (n_rows, n_rows) or np.isnan(points).any() or np.isnan(p[others]).any():
        raise UsageError(f"Rank bands of {n_rows} rows need a value for each and a p-value for every pair; p-values have shape {p.shape}.")
    bands = []
    for row in range(n_rows):
        told_apart = np.zeros(n_rows, bool)
        told_apart[others[row]] = np.array(holm(p[row][others[row]].tolist()), np.float64) <= LEVEL
        n_above, n_below = (int(np.count_nonzero(told_apart & side)) for side in (points > points[row], points < points[row]))
        bands.append(RankBand(1 + n_above, n_rows - n_below))
    return bands


def _variances(
    runs: Mapping[str, np.ndarray], resampled: Mapping[str, np.ndarray], n_patients: Mapping[str, int]
) -> tuple[Component, Component]:
    """V_seed and V_patient of a mean over datasets, each with its degrees of freedom."""
    n_datasets = len(runs)
    seed = [(float(np.var(each, ddof=1)) / len(each) / n_datasets**2, len(each) - 1) for each in runs.values()]
    patient = [(float(np.var(drawn, ddof=1)) / n_datasets**2, n_patients[name] - 1) for name, drawn in resampled.items()]
    return satterthwaite(seed), satterthwaite(patient)
