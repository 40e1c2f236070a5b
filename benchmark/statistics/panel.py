"""The reference panel of a leaderboard version: median and spread of each task's scores.

Frozen with the version, so that no entrant moves another's headline. How it is stored: `benchmark.cards.panels`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from benchmark.cards.panels import Panel as Panel
from benchmark.cards.panels import PanelScale as PanelScale
from benchmark.errors import UsageError

SMALLEST_PANEL = 8
FEWEST_RELIABLE = 0.7  # a task of less reliability orders the panel mostly by chance and stays out of the headline


def panel_scale(scores: Sequence[float], *, rises: bool = True) -> PanelScale:
    """Scale of one task from the panel's mean scores: median and interquartile range, quartiles by linear interpolation.

    Raises:
        UsageError: fewer than eight backbones, or scores that do not spread.
    """
    if len(scores) < SMALLEST_PANEL:
        raise UsageError(f"A reference panel needs at least {SMALLEST_PANEL} backbones, found {len(scores)}; show dataset columns instead.")
    first, median, third = np.percentile(scores, [25, 50, 75])
    if not third > first:
        raise UsageError(f"The panel's scores have an interquartile range of {third - first}; they give no scale.")
    return PanelScale(float(median), float(third - first), rises)


def freeze_panel(scores: Mapping[str, Mapping[str, float]], untrained: Collection[str], falling: Collection[str] = ()) -> Panel:
    """The panel of a leaderboard version.

    Args:
        scores: row -> task -> mean score over runs; every row has every task.
        untrained: rows with random weights; they are anchors and would widen every scale.
        falling: tasks whose lowest score is the best.

    Raises:
        UsageError: a row lacks a task that another has, fewer than eight trained rows, or a task whose scores do not spread.
    """
    trained = {row: by_task for row, by_task in scores.items() if row not in untrained}
    tasks = list(dict.fromkeys(task for by_task in trained.values() for task in by_task))
    gaps = [
        f"{row}: {', '.join(missing)}" for row, by_task in trained.items() if (missing := [task for task in tasks if task not in by_task])
    ]
    if gaps:
        raise UsageError(f"A panel has no gaps. Measure, or leave the row out: {'; '.join(gaps)}.")
    if len(trained) < SMALLEST_PANEL:
        raise UsageError(
            f"A reference panel needs at least {SMALLEST_PANEL} trained backbones, found {len(trained)}; show dataset columns instead."
        )
    scales = {}
    for task in tasks:
        try:
            scales[task] = panel_scale([by_task[task] for by_task in trained.values()], rises=task not in falling)
        except UsageError as error:
            raise UsageError(f"{task}: {error}") from None
    return Panel(MappingProxyType(scales), tuple(trained))


def reliability(scores: Sequence[float], difference_variances: Sequence[float]) -> float:
    """Share of the panel's spread on a task that is no chance: 1 - mean V / (2 s^2), at most 1.

    A task enters a headline only from `FEWEST_RELIABLE` on.

    Args:
        scores: (M,) mean score of each row of the panel.
        difference_variances: V = V_seed + V_patient of the differences between its rows.

    Raises:
        UsageError: fewer than two rows, or rows that do not differ.
    """
    spread = float(np.var(scores, ddof=1)) if len(scores) > 1 else 0.0
    if not spread > 0 or len(difference_variances) == 0:
        raise UsageError("Reliability needs rows that differ, and the variance of their differences.")
    return 1 - float(np.mean(difference_variances)) / (2 * spread)
