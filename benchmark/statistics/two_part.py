"""The two-part p: how often chance alone makes a difference at least as large, when its error has two sources of unequal certainty.

Each source, runs and test patients, has its own variance and its own degrees of freedom, hence its own Student t. Works on arrays, since a
leaderboard tests every pair of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

LEVEL = 0.05  # of a test, and one minus the coverage of an interval

Component = tuple[float, float]  # a variance and its degrees of freedom
Components = tuple[ArrayLike, ArrayLike]  # the same for many at once

# 128 nodes leave a relative error of 3e-7 at one degree of freedom, and below 1e-9 from two on (tests/statistics/test_two_part.py).
_N_NODES = 128
_LEFT_OUT = 1e-11  # share of p beyond the outermost nodes
_ROWS_AT_ONCE = 4096
_MOST_FREEDOM = 1e7  # a Student t with more is a normal distribution in all digits that count
_LEAST = 1e-280
_CLOSE = 1e-9  # of log p, where a half width is found


def satterthwaite(components: Sequence[Component]) -> Component:
    """Sum of independent variances and its degrees of freedom, from (variance, degrees of freedom) pairs. Infinite for a sum of zero.

    V = sum of V_i, f = V^2 / sum of (V_i^2 / f_i).

    Source: docs/sources.md, Satterthwaite.
    """
    total, freedom = satterthwaite_of_many(components)
    return float(total), float(freedom)


def satterthwaite_of_many(components: Sequence[Components]) -> tuple[np.ndarray, np.ndarray]:
    """`satterthwaite` of (...) sums at once; the i-th pair holds the i-th component of every sum."""
    variances = np.array([variance for variance, _ in components], np.float64)
    total = variances.sum(axis=0)
    spread = np.sum([np.square(variance) / freedom for variance, freedom in components], axis=0)
    return total, np.divide(total**2, spread, out=np.full(np.shape(total), np.inf), where=spread > 0)


def two_part_p(difference: ArrayLike, first: Components, second: Components) -> np.ndarray:
    """Two-sided p-value of a difference whose error has two independent parts, each with its own Student t.

    p = Pr(|sqrt(V_1) T_1 + sqrt(V_2) T_2| >= |difference|), T_1 and T_2 independent with f_1 and f_2 degrees of freedom; a part of variance
    0 leaves the plain t of the other. One t of the summed variance with Satterthwaite's degrees of freedom is nearly right at 5 %, but
    rejects too often in the tails, where a correction for many tests reads it.

    Computed as a mean of plain tails instead of the convolution of the two densities. T_i is a normal variable over the root of X_i / f_i,
    X_i chi-square; B = X_1 / (X_1 + X_2) is Beta(f_1 / 2, f_2 / 2) and independent of the sum, so

        p = E[Pr(|T| >= |difference| / sqrt((V_1 f_1 / B + V_2 f_2 / (1 - B)) / f))],   T with f = f_1 + f_2 degrees of freedom.

    Nothing is subtracted and the integrand is smooth in log(B / (1 - B)), so the trapezoidal rule converges exponentially: p far below 1e-8
    and variances of any ratio keep their digits.

    Args:
        difference: (...) estimate, in any unit.
        first, second: variances, in that unit squared, and degrees of freedom, at least 1; each broadcast with `difference`.

    Returns:
        (...) float64 in [0, 1]; NaN where an argument is. 1 for a difference of 0, 0 for another whose variances are both 0.

    Source: docs/sources.md, Behrens-Fisher.
    """
    given = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in (difference, *first, *second)))
    shape = given[0].shape
    size, v_first, f_first, v_second, f_second = (np.ravel(each) for each in given)
    size = np.abs(size)
    f_first, f_second = np.minimum(f_first, _MOST_FREEDOM), np.minimum(f_second, _MOST_FREEDOM)
    p = np.full(len(size), np.nan)
    known = ~np.isnan(size + v_first + v_second)
    alone = known & ((v_first == 0) | (v_second == 0))
    variance, freedom = np.where(v_second == 0, v_first, v_second), np.where(v_second == 0, f_first, f_second)
    p[alone] = _tail(size[alone], variance[alone], freedom[alone])
    both = np.flatnonzero(known & ~alone)
    for start in range(0, len(both), _ROWS_AT_ONCE):
        rows = both[start : start + _ROWS_AT_ONCE]
        p[rows] = _mean_tail(size[rows], v_first[rows], f_first[rows], v_second[rows], f_second[rows])
    return p.reshape(shape)


def two_part_half_width(first: Components, second: Components, level: float = LEVEL) -> np.ndarray:
    """The difference whose `two_part_p` is `level`: half width of the interval that covers 1 - `level`.

    Args:
        first, second: as for `two_part_p`.

    Returns:
        (...) float64 in the unit of the difference; 0 where both variances are 0, NaN where one is.
    """
    given = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in (*first, *second)))
    shape = given[0].shape
    v_first, f_first, v_second, f_second = (np.ravel(each) for each in given)
    alone = [_quantile(v, f, level) for v, f in ((v_first, f_first), (v_second, f_second))]
    found = np.where(v_second == 0, alone[0], alone[1])
    found[np.isnan(v_first + v_second)] = np.nan
    both = np.flatnonzero((v_first > 0) & (v_second > 0))
    v_first, f_first, v_second, f_second = (each[both] for each in (v_first, f_first, v_second, f_second))
    # p lies between half of the larger plain tail and the sum of both tails at shares of the difference.
    low = np.maximum(*(_quantile(v, f, 2 * level) for v, f in ((v_first, f_first), (v_second, f_second))))
    high = np.add(*(_quantile(v, f, level / 2) for v, f in ((v_first, f_first), (v_second, f_second))))

    def above(size: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.log(two_part_p(size, (v_first[rows], f_first[rows]), (v_second[rows], f_second[rows])) / level)

    found[both] = _falling_root(above, low, high)
    return found.reshape(shape)


def _tail(size: np.ndarray, variance: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Pr(|sqrt(variance) T| >= size), T with `freedom` degrees of freedom: 1 where size is 0, else 0 where the variance is."""
    scaled = variance * freedom
    with np.errstate(invalid="ignore"):
        share = np.where(size > 0, scaled / (scaled + size * size), 1.0)
    return special.betainc(freedom / 2, 0.5, share)


def _mean_tail(size: np.ndarray, v_first: np.ndarray, f_first: np.ndarray, v_second: np.ndarray, f_second: np.ndarray) -> np.ndarray:
    """The mean over B of `two_part_p`, for (K,) rows whose variances are both positive."""
    # Whatever the other part is, it adds to this one in half of all cases: p is at least half of either plain tail.
    least = np.maximum(_tail(size, v_first, f_first), _tail(size, v_second, f_second)) / 2
    beyond = np.maximum(_LEFT_OUT * least, _LEAST)
    # Both ends of log(B / (1 - B)), each from its own tail: 1 - B may be far smaller than the digits of B.
    left, right = (np.maximum(special.betaincinv(a / 2, b / 2, beyond), _LEAST) for a, b in ((f_first, f_second), (f_second, f_first)))
    left, right = np.log(left) - np.log1p(-left), np.log1p(-right) - np.log(right)
    logit = left[:, None] + (right - left)[:, None] * np.linspace(0, 1, _N_NODES)
    of_first, of_second = (each[:, None] for each in (f_first, f_second))
    log_density = of_first / 2 * special.log_expit(logit) + of_second / 2 * special.log_expit(-logit)
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    # 1 / B = 1 + exp(-logit), 1 / (1 - B) = 1 + exp(logit); `_tail` multiplies by the degrees of freedom that the mean is divided by.
    scaled = (v_first * f_first)[:, None] * (1 + np.exp(-logit)) + (v_second * f_second)[:, None] * (1 + np.exp(logit))
    freedom = of_first + of_second
    tails = _tail(np.broadcast_to(size[:, None], logit.shape), scaled / freedom, np.broadcast_to(freedom, logit.shape))
    return (density * tails).sum(axis=1) / density.sum(axis=1)


def _quantile(variance: np.ndarray, freedom: np.ndarray, level: float) -> np.ndarray:
    """The size whose `_tail` is `level`."""
    return np.sqrt(variance) * special.stdtrit(np.minimum(freedom, _MOST_FREEDOM), 1 - level / 2)


def _falling_root(function: Callable[[np.ndarray, np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Zeros of falling functions in [low, high], all at once: false position that halves the value of an end that stays (Illinois).

    Args:
        function: (points, rows) -> values of the functions of these rows; a row that is found is not asked again.
    """
    found = low.copy()
    rows = np.arange(len(low))
    at_low, at_high = function(low, rows), function(high, rows)
    side = np.zeros(len(low))
    for _ in range(60):
        if not len(rows):
            break
        point = np.where(at_low > at_high, (low * at_high - high * at_low) / (at_high - at_low), low)
        value = function(point, rows)
        right = value > 0  # the zero lies right of the point
        at_low, at_high = (
            np.where(right, value, np.where(side < 0, at_low / 2, at_low)),
            np.where(right, np.where(side > 0, at_high / 2, at_high), value),
        )
        low, high = np.where(right, point, low), np.where(right, high, point)
        side = np.where(right, 1.0, -1.0)
        found[rows] = point
        left = (np.abs(value) >= _CLOSE) & (high - low > 1e-13 * high)
        rows, low, high, at_low, at_high, side = (each[left] for each in (rows, low, high, at_low, at_high, side))
    return found
