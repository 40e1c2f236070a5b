"""How sure a number is: resamples of patients, variance of a difference, its interval and its p-value, correction for many tests.

Works on values and on functions of image weights; which numbers are compared, and the words for it, belong to the report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy import integrate, optimize, special, stats

from benchmark.errors import UsageError
from benchmark.metrics.spec import PooledMetric
from benchmark.metrics.statistics import values_in

# Below these nothing is tested: the variances are too poorly known. With fewer patients an interval is descriptive.
FEWEST_CLUSTERS = 30
FEWEST_WITH_FINDING = 15
FEWEST_RUNS = 3
RUNS_OF_FULL_POWER = 5
N_RESAMPLES = 1000

Weighted = Callable[[np.ndarray], float | None]
Component = tuple[float, float]  # a variance and its degrees of freedom


@dataclass(frozen=True)
class Comparison:
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
    seeds: Literal["shared", "independent"]
    p_value: float | None

    @property
    def low(self) -> float | None:
        return None if self.half_width is None else self.value - self.half_width

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else self.value + self.half_width

    @property
    def least_told_apart(self) -> float | None:
        """The difference whose two-part p is 0.05, before any correction for many tests; None where nothing is tested."""
        if self.p_value is None or self.seed is None or self.patient is None:
            return None
        return two_part_half_width(self.seed, self.patient)

    @property
    def low_power(self) -> bool:
        """Tested over so few runs that even large differences are rarely found."""
        return self.p_value is not None and self.n_runs < RUNS_OF_FULL_POWER


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
    first: Sequence[float],
    second: Sequence[float],
    seeds: Literal["shared", "independent"],
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
    if patient is not None and _is_testable(n_runs, patient[1] + 1, n_with_finding):
        p_value = two_part_p(value, seed, patient)
    return Comparison(value, half, seed, patient, n_runs, n_clusters, seeds, p_value)


def two_part_p(difference: float, seed: Component, patient: Component) -> float:
    """Two-sided p-value of a difference whose error has two independent components, each with its own Student t.

    Pr(|sqrt(V_seed) T + sqrt(V_patient) T'| >= |difference|), T and T' with the degrees of freedom of their part. One t of the summed
    variance with Satterthwaite's degrees of freedom is nearly right at 5 %, but rejects too often in the tails, where a correction for many
    tests reads it.

    Source: Behrens (1929) and Fisher (1935).
    """
    (of_seed, of_patient), size = (np.sqrt(part[0]) for part in (seed, patient)), abs(difference)
    if of_seed == 0 or of_patient == 0:
        spread, freedom = (of_seed, seed[1]) if of_patient == 0 else (of_patient, patient[1])
        return float(2 * stats.t.sf(size / spread, freedom)) if spread > 0 else float(difference == 0)

    # The functions behind `scipy.stats.t`, which spends a hundred times as long on checking its arguments.
    freedom = seed[1]
    scale = math.exp(special.gammaln((freedom + 1) / 2) - special.gammaln(freedom / 2)) / math.sqrt(freedom * math.pi)

    def beyond(u: float) -> float:
        density = scale * (1 + u * u / freedom) ** (-(freedom + 1) / 2)
        return special.stdtr(patient[1], (of_seed * u - size) / of_patient) * density

    # Cut where the two factors fall off, so that no piece hides a narrow peak.
    cuts = [-np.inf, *sorted({-50.0, 0.0, 50.0, size / of_seed}), np.inf]
    tail = sum(integrate.quad(beyond, low, high, epsabs=1e-14, epsrel=1e-8, limit=200)[0] for low, high in pairwise(cuts))
    return float(min(2 * tail, 1.0))


def two_part_half_width(seed: Component, patient: Component) -> float:
    """The difference whose `two_part_p` is 0.05."""
    most = sum(np.sqrt(variance) * stats.t.ppf(1 - 0.05 / 4, freedom) for variance, freedom in (seed, patient))
    return float(optimize.brentq(lambda size: two_part_p(size, seed, patient) - 0.05, 0.0, most)) if most > 0 else 0.0


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


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: step-down, monotone, at most 1."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted.tolist()


def _is_testable(n_runs: int, n_clusters: float, n_with_finding: int | None) -> bool:
    enough = n_with_finding is None or n_with_finding >= FEWEST_WITH_FINDING
    return n_runs >= FEWEST_RUNS and n_clusters >= FEWEST_CLUSTERS and enough


def _spread(values: Sequence[float] | np.ndarray) -> tuple[float, float, int]:
    """Mean, standard deviation (ddof 1), number."""
    if len(values) < 2:
        raise UsageError(f"An interval over runs needs at least two runs, found {len(values)}.")
    return float(np.mean(values)), float(np.std(values, ddof=1)), len(values)
