"""Intervals over runs, and numbers as people read them.

Fractions come in, per cent goes out, with as many digits as the uncertainty justifies. Nothing here knows records or tables; intervals that
resample patients live in `metrics`, because they need predictions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from benchmark.statistics.interval import WithInterval

DASH = "–"
_POWERS = np.array([float(f"1e{exponent}") for exponent in range(309)])  # exact up to 1e22, which a power that is computed need not be


@dataclass(frozen=True)
class Difference(WithInterval):
    """A difference of two means (same unit as the values) with the half width of its 95 % interval; None without a spread."""

    value: float
    half_width: float | None


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def standard_deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1); needs two values."""
    centre = mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


def t_half_width(values: Sequence[float]) -> float | None:
    """Half width of the 95 % t interval of the mean over runs; None for fewer than two."""
    n = len(values)
    if n < 2:
        return None
    return float(special.stdtrit(n - 1, 0.975)) * standard_deviation(values) / math.sqrt(n)


def decimals_for(half_width: float | None) -> int:
    """Decimals an uncertainty justifies: two of its digits up to 3.54, else one (the Particle Data Group's rule); at most two decimals."""
    if half_width is None or half_width <= 0 or not math.isfinite(half_width):
        return 1
    exponent = math.floor(math.log10(half_width))
    leading = round(half_width / 10.0**exponent, 2)
    digits = 2 if leading < 3.55 or leading >= 9.5 else 1
    if leading >= 9.5:
        exponent += 1
    return min(2, max(0, digits - 1 - exponent))


def percent(value: float, half_width: float | None = None) -> str:
    """`16.4 ± 1.3` from fractions; without an interval one decimal and no `±`."""
    return points(100 * value, None if half_width is None else 100 * half_width)


def points(value: float, half_width: float | None = None) -> str:
    """The same for numbers already in per cent."""
    decimals = decimals_for(half_width)
    if half_width is None:
        return f"{_unsigned_zero(value, decimals):.{decimals}f}"
    return f"{_unsigned_zero(value, decimals):.{decimals}f} ± {half_width:.{decimals}f}"


def signed_points(value: float, half_width: float | None = None) -> str:
    """A difference in percentage points: `+2.1 ± 0.8`."""
    text = points(value, half_width)
    return text if text.startswith("-") else f"+{text}"


def significant(values: ArrayLike, digits: int) -> Any:
    """What a page draws or computes with: lists of `values` in so many significant digits, None where one is not finite.

    As `float(f"{value:.{digits}g}")` of each, but of all at once: the pages of a large leaderboard hold millions. JSON has no NaN.
    """
    given = np.asarray(values, np.float64)
    known = np.isfinite(given) & (given != 0)
    size = np.where(known, np.abs(given), 1.0)
    shift = digits - 1 - np.floor(np.log10(size)).astype(int)
    power = _POWERS[np.minimum(np.abs(shift), len(_POWERS) - 1)]
    rounded = np.where(shift < 0, np.rint(given / power) * power, np.rint(given * power) / power)
    found = np.where(known, rounded, given).astype(object)
    found[~np.isfinite(given)] = None
    return found.tolist()


def p_value(p: float) -> str:
    """Three decimals; what would round to nothing is under 0.001, since no p is 0."""
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


def _unsigned_zero(value: float, decimals: int) -> float:
    """-0.04 printed with one decimal is 0.0, not -0.0."""
    return 0.0 if round(value, decimals) == 0 else value
