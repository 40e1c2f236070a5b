"""Resamples of patients, and what a report's rows say with them: the interval of a difference and its p-value.

Works on values and on functions of image weights; which numbers are compared, and the words for it, belong to the report. The p-value and
the rules of what is tested are those of the leaderboard (`two_part`, `testable`, `families`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmark.errors import UsageError
from benchmark.metrics.spec import PooledMetric
from benchmark.metrics.statistics import values_in
from benchmark.statistics.families import holm as holm
from benchmark.statistics.interval import WithInterval
from benchmark.statistics.levels import Seeds, seed_components
from benchmark.statistics.testable import FEWEST_CLUSTERS, has_low_power, why_untested
from benchmark.statistics.two_part import Component, satterthwaite, two_part_half_width, two_part_p

N_RESAMPLES = 1000

Weighted = Callable[[np.ndarray], float | None]


@dataclass(frozen=True)
class Comparison(WithInterval):
    """First method minus second on one task, in the metric's unit.

    Attributes:
        value: difference of the means over runs.
        half_width: of the 95 % t interval with Satterthwaite's degrees of freedom; None with fewer than two runs of a method.
        seed: variance of the difference from its runs; None with fewer than two.
        patient: variance of the difference from the choice of test patients; None where nothing was resampled.
        n_runs: of the method with fewer.
        n_clusters: patients, or images where patients are unknown; None where nothing was resampled.
        seeds: how runs were compared (`seed_components`).
        p_value: two-part p (`two_part_p`), unadjusted; None where nothing is tested.
    """

    value: float
    half_width: float | None
    seed: Component | None
    patient: Component | None
    n_runs: int
    n_clusters: int | None
    seeds: Seeds
    p_value: float | None

    @property
    def least_told_apart(self) -> float | None:
        """The difference whose two-part p is 0.05, before any correction for many tests; None where nothing is tested."""
        if self.p_value is None or self.seed is None or self.patient is None:
            return None
        return float(two_part_half_width(self.seed, self.patient))

    @property
    def low_power(self) -> bool:
        """Tested over so few runs that even large differences are rarely found."""
        return self.p_value is not None and has_low_power(self.n_runs)


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


def half_width(components: Sequence[tuple[float, float]]) -> float:
    """Half width of the 95 % t interval of a sum of independent variances, with Satterthwaite's degrees of freedom."""
    total, freedom = satterthwaite(components)
    return float(stats.t.ppf(0.975, freedom) * np.sqrt(total))


def compare(
    first: Sequence[float],
    second: Sequence[float],
    seeds: Seeds,
    patient: Component | None = None,
    n_with_finding: int | None = None,
) -> Comparison:
    """Compares two methods on one task, from their runs and from resamples of the test patients they share.

    Args:
        first, second: the metric of each run on the same test images.
        seeds: as `seed_components`.
        patient: variance over resamples of the difference of means, and the number of patients (or images) minus one.
        n_with_finding: test patients (or images) with the finding; None where unknown.

    Raises:
        UsageError: a method without a run, or shared seeds with unequal numbers of runs.
    """
    n_runs = min(len(first), len(second))
    if n_runs == 0:
        raise UsageError("A comparison needs a run of both methods.")
    value = math.fsum(first) / len(first) - math.fsum(second) / len(second)
    n_clusters = None if patient is None else round(patient[1]) + 1
    if n_runs < 2:
        return Comparison(value, None, None, patient, n_runs, n_clusters, seeds, None)
    components = seed_components(first, second, seeds)
    seed = satterthwaite(components)
    half = half_width(components if patient is None else [*components, patient])
    p_value = None
    if patient is not None and not why_untested(n_runs, n_clusters, n_with_finding):
        p_value = float(two_part_p(value, seed, patient))
    return Comparison(value, half, seed, patient, n_runs, n_clusters, seeds, p_value)


def paired_permutation(
    stacked: Sequence[PooledMetric], clusters: Sequence | np.ndarray, n_permutations: int = N_RESAMPLES, seed: int = 0
) -> float | None:
    """Two-sided p-value of the difference between two methods under exchange of their predictions within patients.

    Each permutation tosses a coin per patient; heads exchanges the predictions of all its images, in all runs. The p-value is
    (1 + permutations with a difference at least as large) / (1 + permutations), so it is never 0.

    Args:
        stacked: per run, the metric over `metrics.statistics.stack_statistics` of both methods: a function of 2 n_images weights, the first
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
