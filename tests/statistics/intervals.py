"""Intervals that only checks use: LoVT's own, and percentiles of resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A value with its interval, all in the metric's unit."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def lovt_interval(values: Sequence[float]) -> Interval:
    """Mean and 1.96 s / sqrt(n), the interval LoVT prints: with five runs it covers about 88 %, not 95 %."""
    mean, half = float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def percentile_interval(value: float, resampled: np.ndarray, confidence: float = 0.95) -> Interval:
    """Value of the split with the percentile interval of (n_resamples,) bootstrap values. Undefined resamples are left out.

    Raises:
        ValueError: the metric is undefined in more than one resample of twenty, so that the rest would be a selection.
    """
    tail = 100 * (1 - confidence) / 2
    kept = resampled[~np.isnan(resampled)]
    if len(kept) < 0.95 * len(resampled):
        raise ValueError(f"The metric is undefined in {len(resampled) - len(kept)} of {len(resampled)} resamples.")
    low, high = np.percentile(kept, [tail, 100 - tail])
    return Interval(float(value), float(low), float(high))
