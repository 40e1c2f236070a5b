"""How sure a number is: intervals over runs and over patients, paired comparison of two methods, correction for many tests.

Everything works on values and on functions of image weights (`statistics.PooledMetric`); which numbers are compared, and the words for it,
belong to the report. How they are read: docs/reading-the-leaderboard.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from benchmark.errors import UsageError
from benchmark.metrics.statistics import PooledMetric, Statistics, pooled_metric, stack_statistics, values_in

# Fewer patients than this give a descriptive interval and no p-value.
FEWEST_CLUSTERS = 30
N_RESAMPLES = 1000

Weighted = Callable[[np.ndarray], float | None]


@dataclass(frozen=True)
class Interval:
    """A value with its interval, all in the metric's unit."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Comparison:
    """First method minus second.

    Attributes:
        difference: of the means over runs, with its t interval.
        v_seed, v_patient: the two variances of the difference.
        degrees_of_freedom: Satterthwaite's, of their sum.
        n_clusters: patients, or images where patients are unknown.
        p_value: two-sided, from the permutation within patients; None when the comparison is descriptive.
    """

    difference: Interval
    v_seed: float
    v_patient: float
    degrees_of_freedom: float
    n_clusters: int
    p_value: float | None

    @property
    def descriptive(self) -> bool:
        return self.p_value is None


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of the runs with its Student t interval (ddof 1).

    Raises:
        UsageError: fewer than two values.
    """
    mean, deviation, n = _spread(values)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * deviation / np.sqrt(n)
    return Interval(mean, float(mean - half), float(mean + half))


def lovt_interval(values: Sequence[float]) -> Interval:
    """Mean and 1.96 s / sqrt(n), the interval LoVT prints: with five runs it covers about 88 %, not 95 %.

    Raises:
        UsageError: fewer than two values.
    """
    mean, deviation, n = _spread(values)
    half = 1.96 * deviation / np.sqrt(n)
    return Interval(mean, float(mean - half), float(mean + half))


def distinct_runs(values: Sequence[float]) -> list[float]:
    """The values without repetitions, in order: identical runs are one run counted twice and shrink an interval for nothing."""
    return list(dict.fromkeys(values))


def resamples(clusters: Sequence | np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
    """Draws patients with replacement, as many as there are; all images of a patient come and go together.

    Two tasks over the same patients with the same seed draw the same patients, however their images are ordered.

    Args:
        clusters: (n_images,) patient of each image; the image itself where patients are unknown.

    Yields:
        (n_images,) int64 copies of each image.
    """
    patients, patient = np.unique(np.asarray(clusters), return_inverse=True)
    generator = np.random.default_rng(seed)
    for _ in range(n_resamples):
        yield np.bincount(generator.integers(len(patients), size=len(patients)), minlength=len(patients))[patient]


def cluster_bootstrap(
    metrics: Weighted | Sequence[Weighted], clusters: Sequence | np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Values of pooled metrics in resamples of the patients.

    Args:
        metrics: one function of image weights, or several evaluated on the same resamples.
        clusters: (n_images,) patient of each image.

    Returns:
        (n_resamples,) float64, or (n_resamples, n_metrics); NaN where a resample leaves a metric undefined.
    """
    several = [metrics] if callable(metrics) else list(metrics)
    drawn = np.array(list(resamples(clusters, n_resamples, seed)))
    table = np.stack([values_in(metric, drawn) for metric in several], axis=1)
    return table[:, 0] if callable(metrics) else table


def percentile_interval(value: float, resampled: np.ndarray, confidence: float = 0.95) -> Interval:
    """Value of the split with the percentile interval of (n_resamples,) bootstrap values. Undefined resamples are left out.

    Raises:
        UsageError: the metric is undefined in more than one resample of twenty, so that the rest would be a selection.
    """
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(_defined(resampled), [tail, 100 - tail])
    return Interval(float(value), float(low), float(high))


def satterthwaite(components: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Sum of independent variances and its degrees of freedom, from (variance, degrees of freedom) pairs. Infinite for a sum of zero."""
    total = sum(variance for variance, _ in components)
    spread = sum(variance**2 / freedom for variance, freedom in components)
    return total, (total**2 / spread if spread > 0 else float("inf"))


def half_width(components: Sequence[tuple[float, float]]) -> float:
    """Half width of the 95 % t interval of a sum of independent variances, with Satterthwaite's degrees of freedom."""
    total, freedom = satterthwaite(components)
    return float(stats.t.ppf(0.975, freedom) * np.sqrt(total))


def seed_components(first: Sequence[float], second: Sequence[float], seeds: Literal["shared", "independent"]) -> list[tuple[float, float]]:
    """V_seed of the difference of two means over runs, as (variance, degrees of freedom) pairs.

    Args:
        seeds: "shared" when run i of both used the same subset and seed: s_d^2 / n of the paired differences; otherwise
            s_A^2 / n_A and s_B^2 / n_B.

    Raises:
        UsageError: fewer than two runs, or shared seeds with unequal numbers of runs.
    """
    if seeds == "independent":
        return [(deviation**2 / n, n - 1) for _, deviation, n in (_spread(first), _spread(second))]
    if len(first) != len(second):
        raise UsageError(f"Shared seeds pair the runs one by one, but there are {len(first)} and {len(second)}.")
    _, deviation, n = _spread(np.subtract(first, second))
    return [(deviation**2 / n, n - 1)]


def compare(
    first: Sequence[Statistics],
    second: Sequence[Statistics],
    metric: str,
    clusters: Sequence | np.ndarray,
    seeds: Literal["shared", "independent"],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Paired comparison of two methods on one task.

    The variance of the difference is V_seed + V_patient: V_seed from the runs (`seed_components`), V_patient from the cluster bootstrap
    of the difference averaged over runs. The interval is a t interval with Satterthwaite's degrees of freedom; the p-value comes from
    exchanging the two methods' predictions within patients (`paired_permutation`).

    Args:
        first, second: statistics of each run on the same test images, in the same order. With unequal numbers of runs the permutation
            pairs the first ones.
        metric: a name of `statistics.pooled_metrics`.
        clusters: (n_images,) patient of each image.

    Raises:
        UsageError: fewer than two runs, unequal images, or a metric undefined on this split.
    """
    metrics_a, metrics_b = ([pooled_metric(run, metric) for run in runs] for runs in (first, second))
    everything = np.ones(len(clusters), np.int64)
    values_a, values_b = ([_value(m, everything, metric) for m in metrics] for metrics in (metrics_a, metrics_b))

    def difference_in(weights: np.ndarray) -> float:
        return _mean(metrics_a, weights) - _mean(metrics_b, weights)

    n_clusters = len(np.unique(np.asarray(clusters)))
    by_seed = seed_components(values_a, values_b, seeds)
    v_patient = float(np.var(_defined(cluster_bootstrap(difference_in, clusters, n_resamples, seed)), ddof=1))
    components = [*by_seed, (v_patient, n_clusters - 1)]
    _, freedom = satterthwaite(components)
    difference = float(np.mean(values_a) - np.mean(values_b))
    half = half_width(components)
    p_value = None
    if n_clusters >= FEWEST_CLUSTERS:
        stacked = [pooled_metric(stack_statistics(a, b), metric) for a, b in zip(first, second, strict=False)]
        p_value = paired_permutation(stacked, clusters, n_resamples, seed)
    return Comparison(
        Interval(difference, difference - half, difference + half), sum(v for v, _ in by_seed), v_patient, freedom, n_clusters, p_value
    )


def paired_permutation(
    stacked: Sequence[PooledMetric], clusters: Sequence | np.ndarray, n_permutations: int = N_RESAMPLES, seed: int = 0
) -> float | None:
    """Two-sided p-value of the difference between two methods under exchange of their predictions within patients.

    Each permutation tosses a coin per patient; heads exchanges the predictions of all its images, in all runs. The p-value is
    (1 + permutations with a difference at least as large) / (1 + permutations), so it is never 0.

    Args:
        stacked: per run, the metric over `statistics.stack_statistics` of both methods: a function of 2 n_images weights, the first
            method's images first.
        clusters: (n_images,) patient of each image.

    Returns:
        None under 30 patients: too few to test.
    """
    patients, patient = np.unique(np.asarray(clusters), return_inverse=True)
    if len(patients) < FEWEST_CLUSTERS:
        return None

    generator = np.random.default_rng(seed)
    # One toss a patient; the first line exchanges nobody and is the observed difference.
    tosses = [np.zeros(len(patients)), *(generator.integers(0, 2, len(patients)) for _ in range(n_permutations))]
    exchanged = np.array(tosses, np.int8)[:, patient]
    kept = 1 - exchanged
    differences = [
        values_in(metric, np.concatenate([kept, exchanged], axis=1)) - values_in(metric, np.concatenate([exchanged, kept], axis=1))
        for metric in stacked
    ]
    observed, *drawn = np.abs(np.mean(differences, axis=0))
    # Sums of floats in another order differ in the last digits; an exchange of equal predictions must count as equal.
    return float((1 + np.count_nonzero(np.array(drawn) >= observed - 1e-12)) / (1 + n_permutations))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: step-down, monotone, at most 1."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted.tolist()


def reproduction_verdict(difference: Interval, margin: float) -> Literal["equivalent", "different", "undecided"]:
    """Equivalent when the interval lies within +-margin (fixed beforehand), else different when it excludes 0, else undecided."""
    if -margin <= difference.low and difference.high <= margin:
        return "equivalent"
    return "different" if difference.low > 0 or difference.high < 0 else "undecided"


def _spread(values: Sequence[float] | np.ndarray) -> tuple[float, float, int]:
    """Mean, standard deviation (ddof 1), number."""
    if len(values) < 2:
        raise UsageError(f"An interval over runs needs at least two runs, found {len(values)}.")
    return float(np.mean(values)), float(np.std(values, ddof=1)), len(values)


def _value(metric: Weighted, weights: np.ndarray, name: str) -> float:
    value = metric(weights)
    if value is None:
        raise UsageError(f"Metric {name!r} is undefined on this split; nothing can be compared.")
    return value


def _mean(metrics: Sequence[Weighted], weights: np.ndarray) -> float:
    """Mean over runs; NaN when one of them is undefined for these weights."""
    values = [metric(weights) for metric in metrics]
    return float("nan") if None in values else float(np.mean(values))


def _defined(resampled: np.ndarray) -> np.ndarray:
    kept = resampled[~np.isnan(resampled)]
    if len(kept) < 0.95 * len(resampled):
        n_undefined = len(resampled) - len(kept)
        raise UsageError(f"The metric is undefined in {n_undefined} of {len(resampled)} resamples; too few positives to resample.")
    return kept
