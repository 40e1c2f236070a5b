"""The simulation draws what it says and would notice statistics that do not hold: the miniature of the leaderboard's study."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.statistics.two_part import two_part_p
from tests.statistics.simulated_boards import family_errors, simulate_bands
from tests.statistics.simulation import METRICS, WORLDS, Metric, Setting, average_precision, monte_carlo_error, simulate, true_score

N = 200
ALLOWED = 0.05 + 2 * monte_carlo_error(N)


def test_average_precision_of_a_worked_example() -> None:
    # Four boxes; thresholds mark 1, 3 and 6, of which 1, 2 and 3 are right: precision 1, 2/3, 1/2 at recall 1/4, 1/2, 3/4.
    true, marked = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [3.0], [6.0]])
    assert average_precision(true, marked, np.array([4.0])) == pytest.approx((1 + 2 / 3 + 1 / 2) / 4)
    # Precision is made to fall: a poor start counts as well as what follows.
    assert average_precision(np.array([[0.0], [2.0]]), np.array([[1.0], [2.0]]), np.array([2.0])) == pytest.approx(1.0)
    assert average_precision(np.array([[1.0], [2.0]]), np.array([[2.0], [2.0]]), np.array([2.0])) == pytest.approx(1.0)
    assert average_precision(np.zeros((2, 1)), np.zeros((2, 1)), np.array([2.0])) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_the_true_score_is_that_of_endless_patients(metric: Metric) -> None:
    shifts = np.array([-0.2, 0.0, 0.3])
    n_patients = 150_000
    drawn = WORLDS[metric].scores(np.random.default_rng(0), np.tile(shifts, (1, 2, 1)), n_patients, np.ones((n_patients, 1), np.float32))
    np.testing.assert_allclose(drawn[0, :, :, 0], np.tile(WORLDS[metric].endless(shifts), (2, 1)), atol=0.003)


@pytest.mark.parametrize(("metric", "low", "high"), [("Dice", 0.58, 0.60), ("mAP", 0.26, 0.28)])
def test_scores_and_their_spread_over_runs_are_the_wanted_ones(metric: Metric, low: float, high: float) -> None:
    assert low < true_score(metric, 0.0) < high
    seen = simulate(Setting(metric, 1000, 3, 5), N, n_resamples=20)
    of_runs = np.sqrt(np.mean(seen.v_seed) * 5 / 2)  # of one run of one method, with its own errors on patients
    assert 3.0 < of_runs < 3.8
    assert np.mean(seen.differences) == pytest.approx(0, abs=4 * np.std(seen.differences) / np.sqrt(N))


@pytest.mark.parametrize("setting", [Setting("Dice", 200, 1, 5), Setting("mAP", 200, 3, 3)], ids=str)
def test_a_few_experiments_keep_the_promises(setting: Setting) -> None:
    seen = simulate(setting, N, n_resamples=200)
    assert seen.rejected() <= ALLOWED
    assert 1 - seen.coverage <= ALLOWED


def test_patients_alone_would_be_noticed() -> None:
    """What intervals over patients say of runs drawn anew: differences of nothing in half of all experiments."""
    seen = simulate(Setting("Dice", 1000, 3, 3), N, n_resamples=100)
    patients_only = two_part_p(seen.differences, (0.0, np.inf), (seen.v_patient, 999))
    assert np.mean(patients_only <= 0.05) > 0.3
    assert seen.rejected() <= ALLOWED


def test_the_same_arguments_are_the_same_experiments() -> None:
    first, again, other = (simulate(Setting("mAP", 50, 1, 3), 8, n_resamples=50, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.p_values, again.p_values)
    assert not np.array_equal(first.p_values, other.p_values)


def test_holm_keeps_its_level_over_tasks_that_share_patients() -> None:
    assert family_errors(4, 5, 400).mean() <= 0.05 + 2 * monte_carlo_error(400)


def test_rank_bands_hold_the_true_rank() -> None:
    apart, equal = simulate_bands(10, 20), simulate_bands(10, 20, spread=0.0)
    assert apart.covered.mean() > 0.97
    assert 2 < apart.width.mean() < 6
    assert apart.best_is_tied.mean() >= 0.95
    assert equal.covered.mean() > 0.9
    assert equal.width.mean() > 9
