"""Arrays behind the known values of the leaderboard's statistics: drawn in a fixed order from a seed, expected values beside the tests."""

from __future__ import annotations

import numpy as np

DATASET_OF_TASK = np.array([0, 0, 1, 1, 2])
PATIENTS_OF_DATASET = np.array([200, 150, 1000])
N_ROWS, N_PANEL = 6, 8


def two_methods() -> tuple[np.ndarray, np.ndarray]:
    """Micro-Dice in points of two methods, 5 paired runs, 60 patients: (2, 5) of the runs, (2, 5, 200) in resamples of the patients."""
    rng = np.random.default_rng(20)
    n_patients, n_runs, n_resamples = 60, 5, 200
    truth = rng.integers(200, 2000, n_patients).astype(float)
    skill = rng.normal(0.3, 0.8, n_patients)
    tp, fp = np.empty((2, n_runs, n_patients)), np.empty((2, n_runs, n_patients))
    for method in range(2):
        for run in range(n_runs):
            found = 1 / (1 + np.exp(-(skill + 0.3 * method + rng.normal(0, 0.1) + rng.normal(0, 0.4, n_patients))))
            tp[method, run] = np.rint(found * truth)
            fp[method, run] = np.rint((1 - found) * 300)
    weights = np.stack([np.bincount(rng.integers(n_patients, size=n_patients), minlength=n_patients) for _ in range(n_resamples)])
    whole, drawn = (100 * 2 * (tp @ w) / ((tp + fp + truth) @ w) for w in (np.ones(n_patients), weights.T))
    return whole, drawn


def board() -> tuple[np.ndarray, np.ndarray]:
    """Scores of 6 rows, then 8 of the panel, on 5 tasks: (14, 5, 5) by row, run and task; (400, 14, 5) means over runs in resamples."""
    rng = np.random.default_rng(30)
    n_tasks, n_runs, n_resamples = len(DATASET_OF_TASK), 5, 400
    everyone = N_ROWS + N_PANEL
    true = 40 + 2 * rng.standard_normal((everyone, 1)) + rng.standard_normal((everyone, n_tasks))
    runs = true[:, None] + 0.5 * rng.standard_normal((1, n_runs, n_tasks)) + 0.8 * rng.standard_normal((everyone, n_runs, n_tasks))
    of_patients = 1.0 * rng.standard_normal((n_resamples, 1, n_tasks))
    return runs, runs.mean(1) + of_patients + 0.6 * rng.standard_normal((n_resamples, everyone, n_tasks))
