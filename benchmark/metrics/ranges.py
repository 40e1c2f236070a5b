"""What a metric's name alone says: which values it can have at all, and whether more of it is better. No definition lives here.

A share lies in [0, 1] and rises with quality, which is what nearly all are; a value outside the range was edited, or is a bug.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

SHARE = (0.0, 1.0)
_ROUNDING = 1e-9  # a mean of ones may come out above one
_INFINITE = math.inf
# Whole names, or the ending of a class's own (`<class>_mcc`).
_OTHERS = {
    "cnr": (-_INFINITE, _INFINITE),
    "negative_loss": (-_INFINITE, _INFINITE),  # what an epoch may be chosen by
    "cnr_abs": (0.0, _INFINITE),
    "mcc": (-1.0, 1.0),
    "kappa": (-1.0, 1.0),
    "n_phrases": (0.0, _INFINITE),
}
_FALLING = ("calibration_error", "brier", "lost_at_0.2", "duplicate_rate", "n_phrases")


@cache  # a record names the same few in every epoch
def range_of(metric: str) -> tuple[float, float]:
    """Least and largest value of a metric, both possible."""
    return next((both for name, both in _OTHERS.items() if _is(metric, name)), SHARE)


def falls_with_quality(metric: str) -> bool:
    """True of an error, and of what says nothing of quality: no task may be judged by it."""
    return any(_is(metric, name) for name in _FALLING)


def fault_of(metrics: Mapping[str, float]) -> str:
    """The first value that its metric cannot have, as a clause; empty when all can be."""
    for name, value in metrics.items():
        low, high = range_of(name)
        if not math.isfinite(value):
            return f"{name} is {value}, which is no number"
        if not low - _ROUNDING <= value <= high + _ROUNDING:
            return f"{name} is {value:g}, outside its range from {low:g} to {high:g}"
    return ""


def _is(metric: str, name: str) -> bool:
    """The metric itself, or a class's own."""
    return metric == name or metric.endswith(f"_{name}")
