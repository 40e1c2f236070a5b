"""Resamples of test patients: how far a pooled metric moves with other patients of the same kind.

A patient's copies follow from the patient's name and nothing else, so one list of draws serves all tasks, runs and backbones, and patients
whom two datasets have in common come and go together in both. What variances and intervals follow: `levels`, `difference`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from benchmark.metrics.statistics import values_in

N_RESAMPLES = 1000

Weighted = Callable[[np.ndarray], float | None]

# Below entry k of these, out of 2^64, a uniform number stands for at most k copies: Poisson(1), cut at 20 (beyond it lies 1e-19).
_SHARES = np.cumsum(np.exp(-1.0) / np.cumprod(np.r_[1.0, np.arange(1, 20)]))
_LIMITS = np.array([int(share * 2**64) for share in _SHARES if share < 1], np.uint64)
_PATIENTS_AT_ONCE = 128  # whose numbers fit into a core's cache


@lru_cache(maxsize=32)
def resamples(clusters: tuple[str, ...], n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Draws patients anew; all images of a patient come and go together.

    Each patient stands in a resample a Poisson number of times, 1 on average: as in draws with replacement, but without their fixed total,
    so that a patient's copies do not depend on who else is tested.

    Args:
        clusters: patient of each image; the image itself where patients are unknown.

    Returns:
        (n_resamples, n_images) uint8 copies of each image, read-only; remembered.

    Source: docs/sources.md, Poisson.
    """
    patients, patient = np.unique(np.asarray(clusters, str), return_inverse=True)
    of_patients = copies(patients.tolist(), n_resamples)
    drawn = np.ascontiguousarray(of_patients[:, patient])
    drawn.flags.writeable = False
    return drawn


def copies(patients: Sequence[str], n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """(n_resamples, n_patients) uint8: how often each patient stands in each resample."""
    seeds = np.array([int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") for name in patients], np.uint64)
    steps = np.arange(1, n_resamples + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    found = np.zeros((n_resamples, len(seeds)), np.uint8)
    for start in range(0, len(seeds), _PATIENTS_AT_ONCE):
        chosen = slice(start, start + _PATIENTS_AT_ONCE)
        uniform = _mixed(seeds[None, chosen] + steps[:, None])
        for limit in _LIMITS:  # a search in so short a list takes twenty times as long
            found[:, chosen] += uniform >= limit
    return found


def cluster_bootstrap(metric: Weighted, clusters: Sequence[str], n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """(n_resamples,) float64 values of a pooled metric in resamples of the patients; NaN where a resample leaves it undefined.

    Args:
        metric: function of image weights.
        clusters: patient of each image.
    """
    return values_in(metric, resamples(tuple(clusters), n_resamples))


def _mixed(state: np.ndarray) -> np.ndarray:
    """uint64 numbers whose bits do not depend on each other: SplitMix64's output function (Steele and others, OOPSLA 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
