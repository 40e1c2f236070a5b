"""Order among backbones: rank bands from intervals, and the headline against a frozen panel.

Pure arithmetic. Which rows may be ranked at all (complete, unlimited, not phantom, not contaminated) is decided by the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import UsageError

SMALLEST_PANEL = 6
Z_LIMIT = 3.0


@dataclass(frozen=True)
class RankBand:
    """Ranks a row may hold, 1 the best: `best` to `worst`. Rows whose intervals overlap are not told apart."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


@dataclass(frozen=True)
class PanelScale:
    """Median and interquartile range of one task's scores over the reference panel, frozen per leaderboard version."""

    median: float
    iqr: float


@dataclass(frozen=True)
class Headline:
    """Panel z-scores of one row: per task (clipped to +-3), their mean per dataset, and the mean over datasets."""

    by_task: dict[str, float]
    by_dataset: dict[str, float]
    value: float


def rank_bands(low: Sequence[float], high: Sequence[float], higher_is_better: bool = True) -> list[RankBand]:
    """Rank bands of rows with the given interval ends.

    A row's best rank counts the rows whose interval lies wholly above its own, its worst rank those wholly below; touching ends overlap.
    Overlap is not transitive: two rows that do not overlap each other may share ranks with a third between them.

    Raises:
        UsageError: an end is missing (NaN), or low exceeds high.
    """
    bottom, top = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if bottom.shape != top.shape or not np.all(bottom <= top):
        raise UsageError("Rank bands need a complete interval with low <= high for every row.")
    if not higher_is_better:
        bottom, top = -top, -bottom
    n_above = (bottom[None, :] > top[:, None]).sum(axis=1)
    n_below = (top[None, :] < bottom[:, None]).sum(axis=1)
    return [RankBand(1 + int(a), len(bottom) - int(b)) for a, b in zip(n_above, n_below, strict=True)]


def panel_scale(scores: Sequence[float]) -> PanelScale:
    """Scale of one task from the panel's scores (quartiles by linear interpolation).

    Raises:
        UsageError: fewer than six backbones, or scores that do not spread.
    """
    if len(scores) < SMALLEST_PANEL:
        raise UsageError(f"A reference panel needs at least {SMALLEST_PANEL} backbones, found {len(scores)}; show dataset columns instead.")
    first, median, third = np.percentile(scores, [25, 50, 75])
    if not third > first:
        raise UsageError(f"The panel's scores have an interquartile range of {third - first}; they give no scale.")
    return PanelScale(float(median), float(third - first))


def headline(
    scores: Mapping[str, float], panel: Mapping[str, PanelScale], datasets: Mapping[str, str], lower_is_better: frozenset[str] = frozenset()
) -> Headline:
    """The headline of one row: z = (score - panel median) / panel IQR, clipped to +-3, averaged within datasets, then over datasets.

    Args:
        scores: task -> score; all tasks of the panel, no gaps.
        panel: task -> scale.
        datasets: task -> dataset.
        lower_is_better: tasks whose sign is turned.

    Raises:
        UsageError: the row lacks a task of the panel, or has one more: there is no average over gaps.
    """
    if set(scores) != set(panel):
        missing, strange = sorted(set(panel) - set(scores)), sorted(set(scores) - set(panel))
        raise UsageError(f"A headline needs exactly the panel's tasks; missing: {missing or 'none'}, unknown: {strange or 'none'}.")
    by_task = {
        task: float(np.clip((score - panel[task].median) / panel[task].iqr * (-1 if task in lower_is_better else 1), -Z_LIMIT, Z_LIMIT))
        for task, score in scores.items()
    }
    names = dict.fromkeys(datasets[task] for task in by_task)
    by_dataset = {name: float(np.mean([z for task, z in by_task.items() if datasets[task] == name])) for name in names}
    return Headline(by_task, by_dataset, float(np.mean(list(by_dataset.values()))))
