"""Boards whose truth is known: how often Holm's correction calls some difference of nothing one, and which rank bands hold the true rank.

Numbers are drawn from normal distributions where a benchmark has test images: what many tests do to a p-value depends on how its variances
err, which is drawn as it is, and not on the metric.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.statistics.bands import rank_bands
from benchmark.statistics.families import holm
from benchmark.statistics.headline import Headline, all_pairs
from benchmark.statistics.two_part import LEVEL, two_part_p

N_DATASETS, TASKS_PER_DATASET = 5, 3
N_PATIENTS = 200  # of every test split
SHARED_BY_TASKS = 0.5  # of the patients' variance: tasks of a dataset have the same patients
N_RESAMPLES = 200

# Of true headlines, and of the difference of two: a tenth of its variance comes from patients, the rest from runs.
SPREAD, ERROR, OF_PATIENTS = 0.5, 0.12, 0.1


def family_errors(ratio: float, n_runs: int, n_experiments: int, seed: int = 0) -> np.ndarray:
    """(N,) bool: Holm over 15 tasks finds a difference although there is none.

    Nothing is counted twice here, while each run's own errors on patients make real intervals wider.

    Args:
        ratio: standard deviation of a task's difference from its runs, over that from its patients.
    """
    rng = np.random.default_rng([seed, round(100 * ratio), n_runs])
    shape = (n_experiments, N_DATASETS, TASKS_PER_DATASET)
    common, own = rng.standard_normal((n_experiments, N_DATASETS, 1)), rng.standard_normal(shape)
    runs = ratio * np.sqrt(n_runs) * rng.standard_normal((*shape, n_runs))
    difference = np.sqrt(SHARED_BY_TASKS) * common + np.sqrt(1 - SHARED_BY_TASKS) * own + runs.mean(axis=-1)
    # A variance of 1, as 200 patients and 1,000 resamples know it.
    v_patient = rng.chisquare(N_PATIENTS - 1, shape) / (N_PATIENTS - 1) * rng.chisquare(999, shape) / 999
    p = two_part_p(difference, (runs.var(axis=-1, ddof=1) / n_runs, n_runs - 1), (v_patient, N_PATIENTS - 1))
    return np.array([min(holm(each.tolist())) <= LEVEL for each in p.reshape(n_experiments, -1)])


@dataclass(frozen=True)
class SeenBands:
    """Rank bands of N tables.

    Attributes:
        covered: (N,) share of rows whose band holds their true rank; of rows that are truly equal, all their ranks.
        width: (N,) mean number of ranks in a band.
        n_tied: (N,) rows tied for best.
        best_is_tied: (N,) bool: the truly best row is one of them.
    """

    covered: np.ndarray
    width: np.ndarray
    n_tied: np.ndarray
    best_is_tied: np.ndarray


def simulate_bands(n_rows: int, n_tables: int, spread: float = SPREAD, n_runs: int = 5, seed: int = 0) -> SeenBands:
    """Rank bands of rows whose true headlines have the standard deviation `spread` (0: all are equal)."""
    rng = np.random.default_rng([seed, n_rows, round(100 * spread), n_runs])
    tables = [_table(rng, n_rows, spread, n_runs) for _ in range(n_tables)]
    return SeenBands(*(np.array(each) for each in zip(*tables, strict=True)))


def _table(rng: np.random.Generator, n_rows: int, spread: float, n_runs: int) -> tuple[float, float, int, bool]:
    true = spread * rng.standard_normal(n_rows)
    of_patients = ERROR * np.sqrt(OF_PATIENTS * N_DATASETS / 2)
    of_run = ERROR * np.sqrt((1 - OF_PATIENTS) * n_runs * N_DATASETS / 2)
    rows = [_row(each, of_patients * rng.standard_normal(N_DATASETS), of_run, of_patients, n_runs, rng) for each in true]
    bands = rank_bands([row.value for row in rows], all_pairs(rows).p_values)
    covered = [
        band.best <= 1 + np.sum(true > each) and band.worst >= n_rows - np.sum(true < each) for band, each in zip(bands, true, strict=True)
    ]
    width = np.mean([band.worst - band.best + 1 for band in bands])
    best = bands[int(true.argmax())].best == 1
    return float(np.mean(covered)), float(width), sum(band.best == 1 for band in bands), best


def _row(true: float, errors: np.ndarray, of_run: float, of_patients: float, n_runs: int, rng: np.random.Generator) -> Headline:
    """A headline over five datasets, with the resamples that normal errors of patients leave."""
    runs = true + errors[:, None] + of_run * rng.standard_normal((N_DATASETS, n_runs))
    resampled = runs.mean(axis=1)[:, None] + of_patients * rng.standard_normal((N_DATASETS, N_RESAMPLES))
    names = [f"d{i}" for i in range(N_DATASETS)]
    by_dataset = dict(zip(names, runs.mean(axis=1).tolist(), strict=True))
    shares = [dict(zip(names, each / N_DATASETS, strict=True)) for each in (runs, resampled)]
    return Headline(by_dataset, by_dataset, float(runs.mean()), *shares, dict.fromkeys(names, N_PATIENTS))
