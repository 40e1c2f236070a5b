from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmark.errors import UsageError
from benchmark.statistics.two_part import satterthwaite, two_part_half_width
from benchmark.statistics.uncertainty import (
    cluster_bootstrap,
    compare,
    distinct_runs,
    paired_permutation,
    resamples,
)
from tests.statistics.intervals import lovt_interval, percentile_interval
from tests.statistics.vectors import two_methods

TABLES = Path(__file__).resolve().parents[2] / ".." / "shared" / "reference" / "tables"

# LoVT's committed results (results/published/lovt_runs.csv), per cent: mean, half-width, runs.
PUBLISHED_RUNS = [
    (8.45, 0.85, [7.35, 9.53, 7.59, 9.24, 8.56]),
    (13.17, 0.57, [12.38, 12.70, 13.86, 13.76, 13.14]),
    (18.14, 3.19, [19.93, 14.19, 21.18, 14.19, 21.18]),
    (46.33, 0.02, [46.37, 46.33, 46.31, 46.32, 46.31]),
    (49.17, 4.65, [49.40, 54.50, 43.98, 54.32, 43.64]),
]


@pytest.mark.parametrize(("mean", "half_width", "runs"), PUBLISHED_RUNS)
def test_published_intervals_follow_from_their_runs(mean, half_width, runs):
    found = lovt_interval(runs)
    assert found.value == pytest.approx(mean, abs=0.011)
    assert found.half_width == pytest.approx(half_width, abs=0.011)


def test_every_published_lovt_cell_recomputes_from_the_committed_runs():
    if not (TABLES / "lovt_runs.csv").is_file():
        pytest.skip("the reference tables are not beside this checkout")
    runs = defaultdict(list)
    with (TABLES / "lovt_runs.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            runs[row["task"], row["method"], row["metric"]].append(100 * float(row["value"]))
    compared = 0
    with (TABLES / "lovt.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            if row["method"] != "LoVT" or "results_table" not in row["table"]:
                continue
            method = "LoVT_30" if "30%" in row["split_or_setting"] else "LoVT_100"
            target = {"COVID": "opacity_dice", "SIIM-": "pneumothorax_dice", "RSNA ": "opacity_dice"}.get(row["task"][:5], "avg_dice")
            metric = {"mAP": "mAP", "fROC": "froc"}.get(row["metric"], target)
            found = lovt_interval(runs[row["task"], method, metric])
            printed = (float(row["value"]), float(row["value_std"]))
            assert (found.value, found.half_width) == pytest.approx(printed, abs=0.0501), row["task"]
            compared += 1
    assert compared == 36


def test_lovt_interval_of_five_runs_covers_less_than_95_per_cent():
    # The docstring's figure: P(|t_4| < 1.96) = 0.878.
    assert 1 - 2 * stats.t.sf(1.96, 4) == pytest.approx(0.88, abs=0.005)
    runs = np.random.default_rng(0).normal(size=(4000, 5))
    covered = [abs(i.value) <= i.half_width for i in map(lovt_interval, runs)]
    assert np.mean(covered) == pytest.approx(0.878, abs=0.02)


def test_one_run_has_no_interval_and_no_run_no_comparison():
    alone = compare([0.3], [0.1, 0.2], "independent", (0.01, 59))
    assert (alone.half_width, alone.low, alone.high, alone.p_value) == (None, None, None, None)
    assert alone.value == pytest.approx(0.15)
    with pytest.raises(UsageError, match="a run of both"):
        compare([], [0.1], "independent")


def test_repeated_runs_count_once():
    # Task 3, LoVT_30: four of five published runs are one run.
    assert distinct_runs([19.87, 16.56, 16.56, 16.56, 16.56]) == [19.87, 16.56]


def test_images_of_a_patient_come_and_go_together_and_patients_keep_their_draw():
    patients = np.array(["c", "a", "b", "a", "c", "c"])
    draws = list(resamples(patients, 50, seed=1))
    for weights in draws:
        assert weights[1] == weights[3]
        assert weights[0] == weights[4] == weights[5]
        assert weights[[0, 1, 2]].sum() == 3
    turned = list(resamples(patients[::-1], 50, seed=1))
    assert all(np.array_equal(a, b[::-1]) for a, b in zip(draws, turned, strict=True))
    assert len({tuple(w) for w in draws}) > 5


def test_bootstrap_variance_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(size=400)
    resampled = cluster_bootstrap(lambda w: w @ values / w.sum(), np.arange(400), n_resamples=2000)
    assert resampled.std() == pytest.approx(values.std() / 20, rel=0.08)
    several = cluster_bootstrap([lambda w: w @ values / w.sum(), lambda w: None], np.arange(400), n_resamples=20)
    np.testing.assert_array_equal(several[:, 0], resampled[:20])
    assert np.isnan(several[:, 1]).all()
    with pytest.raises(ValueError, match="20 of 20 resamples"):
        percentile_interval(0.0, several[:, 1])


def test_bootstrap_by_patient_covers_the_truth_where_bootstrap_by_image_does_not():
    """80 patients with five alike images: micro-Dice intervals by patient hold the truth about as often as promised."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(80), 5)
    truth = _skill_of_patients(rng, 400_000).sum(axis=1)
    truth = 2 * truth[0] / (2 * truth[0] + truth[1])
    n_trials = 120
    covered = {"patient": 0, "image": 0}
    for trial in range(n_trials):
        hits, misses = np.repeat(_skill_of_patients(rng, 80), 5, axis=1)

        def micro_dice(w, hits=hits, misses=misses):
            return 2 * (w @ hits) / (2 * (w @ hits) + w @ misses)

        for name, clusters in (("patient", patient), ("image", np.arange(400))):
            found = percentile_interval(0.0, cluster_bootstrap(micro_dice, clusters, n_resamples=150, seed=trial))
            covered[name] += found.low <= truth <= found.high
    assert 0.87 <= covered["patient"] / n_trials <= 0.99
    assert covered["image"] / n_trials < 0.75


def test_two_methods_are_compared_by_runs_and_patients():
    (first, second), resampled = two_methods()
    drawn = (resampled[1] - resampled[0]).mean(axis=0)
    patient = (float(drawn.var(ddof=1)), 59)
    found = compare(second, first, "shared", patient)
    assert found.value == pytest.approx(6.510712, abs=1e-6)
    assert found.seed == (pytest.approx(1.453851, abs=1e-6), pytest.approx(4))
    assert found.patient[0] == pytest.approx(0.403237, abs=1e-6)
    assert satterthwaite([found.seed, patient])[1] == pytest.approx(6.492709, abs=1e-6)
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 6.492709) * np.sqrt(1.453851 + 0.403237), rel=1e-5)
    assert found.p_value == pytest.approx(0.006174, abs=1e-6)
    assert found.least_told_apart == two_part_half_width(found.seed, patient) == pytest.approx(3.554290, abs=1e-5)
    assert (found.n_clusters, found.n_runs, found.low_power) == (60, 5, False)
    independent = compare(second, first, "independent", patient)
    assert independent.seed[0] == pytest.approx(2.292301, abs=1e-6)
    assert independent.p_value == pytest.approx(0.003969, abs=1e-6)


@pytest.mark.parametrize(
    ("n_runs", "n_patients", "n_with_finding", "tested", "low_power"),
    [(5, 30, 15, True, False), (3, 30, None, True, True), (2, 30, 15, False, False), (5, 29, 15, False, False), (5, 30, 14, False, False)],
)
def test_what_is_too_little_is_not_tested(n_runs, n_patients, n_with_finding, tested, low_power):
    runs = np.linspace(0.1, 0.2, n_runs)
    found = compare(runs + 0.1, runs, "independent", (1e-4, n_patients - 1), n_with_finding)
    assert (found.p_value is not None, found.low_power) == (tested, low_power)
    assert found.half_width > 0


def test_permutation_p_values_are_uniform_without_a_difference():
    rng = np.random.default_rng(0)
    p_values = []
    for trial in range(150):
        values = np.r_[rng.normal(size=40), rng.normal(size=40)]
        p_values.append(paired_permutation([lambda w, v=values: w @ v / w.sum()], np.arange(40), n_permutations=99, seed=trial))
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert min(p_values) >= 0.01


def test_differences_over_fewer_than_thirty_patients_are_not_tested():
    values = np.r_[np.zeros(30), np.ones(30)]
    for n, tested in ((29, False), (30, True)):
        p = paired_permutation([lambda w, n=n: w @ np.r_[values[:n], values[-n:]] / w.sum()], np.arange(n), n_permutations=9)
        assert (p is not None) is tested


def test_equal_predictions_have_a_p_value_of_one():
    values = np.tile(np.random.default_rng(0).normal(size=40), 2)
    assert paired_permutation([lambda w: w @ values / w.sum()], np.arange(40), n_permutations=50) == 1.0


def _skill_of_patients(rng, n):
    """(2, n): pixels found, pixels wrong; size and skill belong to the patient."""
    size, skill = rng.lognormal(0, 0.5, n), rng.beta(4, 4, n)
    return np.stack([size * skill, size * (1 - skill)])
