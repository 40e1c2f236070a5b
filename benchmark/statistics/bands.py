"""Rank bands: which ranks a row may hold, and which rows are tied for best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import UsageError
from benchmark.statistics.families import holm_per_row
from benchmark.statistics.two_part import LEVEL


@dataclass(frozen=True)
class RankBand:
    """Ranks a row may hold, 1 the best: `best` to `worst`, with 95 % confidence for this row."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def rank_bands(values: Sequence[float], p_values: np.ndarray, n_gone: int = 0) -> list[RankBand]:
    """Rank bands of rows: best = 1 + rows significantly above, worst = K - rows significantly below.

    Significance is by Holm's correction over the K - 1 comparisons of that row alone, so a band speaks of its own row: "A above B" needs
    the correction over all pairs (`families.holm_all_pairs`).

    Args:
        values: (K,) headlines, higher is better.
        p_values: (K, K) unadjusted p of their differences, symmetric; the diagonal is not read.
        n_gone: rows that were ranked beside these and are shown no more. They hold no rank, and are corrected for: whoever withdraws all
            but the luckiest of many has tried as often.

    Raises:
        UsageError: a value or p is missing (NaN), or the shapes do not fit.
    """
    points = np.asarray(values, np.float64)
    if np.isnan(points).any() or np.shape(p_values) != (len(points), len(points)):
        raise UsageError(
            f"Rank bands of {len(points)} rows need a value for each and a p-value for every pair; p-values have shape "
            f"{np.shape(p_values)}. Rows without a headline have no band: leave them out."
        )
    apart = holm_per_row(p_values, n_gone) <= LEVEL
    above, below = points[None, :] > points[:, None], points[None, :] < points[:, None]
    n_above, n_below = ((apart & side).sum(axis=1) for side in (above, below))
    return [RankBand(1 + int(a), len(points) - int(b)) for a, b in zip(n_above, n_below, strict=True)]


def tied_for_best(names: Sequence[str], bands: Sequence[RankBand]) -> list[str]:
    """Names of all rows whose band begins at 1, in alphabetical order: within a tie, order says nothing."""
    return sorted((name for name, band in zip(names, bands, strict=True) if band.best == 1), key=lambda name: (name.casefold(), name))
