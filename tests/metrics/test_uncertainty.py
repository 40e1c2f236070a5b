from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmark.errors import UsageError
from benchmark.metrics.dice import DiceCounts
from benchmark.metrics.lesions import Lesions
from benchmark.metrics.overlaps import overlaps
from benchmark.metrics.statistics import SegmentationStatistics, detection_statistics, pooled_metric
from benchmark.metrics.uncertainty import (
    Interval,
    cluster_bootstrap,
    compare,
    distinct_runs,
    holm,
    lovt_interval,
    paired_permutation,
    percentile_interval,
    reproduction_verdict,
    resamples,
    satterthwaite,
    seed_components,
    t_interval,
)

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


def test_t_interval_is_that_of_scipy():
    values = [7.35, 9.53, 7.59, 9.24, 8.56]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = t_interval(values)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.half_width == pytest.approx(lovt_interval(values).half_width * stats.t.ppf(0.975, 4) / 1.96)


def test_lovt_interval_of_five_runs_covers_less_than_95_per_cent():
    # The docstring's figure: P(|t_4| < 1.96) = 0.878.
    assert 1 - 2 * stats.t.sf(1.96, 4) == pytest.approx(0.88, abs=0.005)
    runs = np.random.default_rng(0).normal(size=(4000, 5))
    covered = [abs(i.value) <= i.half_width for i in map(lovt_interval, runs)]
    assert np.mean(covered) == pytest.approx(0.878, abs=0.02)


def test_one_run_has_no_interval():
    with pytest.raises(UsageError, match="at least two runs, found 1"):
        t_interval([3.0])


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
    with pytest.raises(UsageError, match="20 of 20 resamples"):
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


def test_satterthwaite_of_two_means_is_welch():
    a, b = [1.0, 3.0, 2.0, 5.0], [4.0, 9.0, 1.0, 7.0, 8.0]
    total, freedom = satterthwaite(seed_components(a, b, seeds="independent"))
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert freedom == pytest.approx(expected.df)
    assert (np.mean(a) - np.mean(b)) / np.sqrt(total) == pytest.approx(expected.statistic)
    assert satterthwaite([(0.0, 4)]) == (0, float("inf"))


def test_shared_seeds_take_the_variance_of_the_paired_difference():
    a, b = [1.0, 3.0, 2.0], [0.5, 2.5, 1.5]
    assert seed_components(a, b, seeds="shared") == [(0.0, 2)]
    assert seed_components(a, b, seeds="independent")[0] == pytest.approx((1 / 3, 2))
    with pytest.raises(UsageError, match="3 and 2"):
        seed_components(a, b[:2], seeds="shared")


def test_better_method_is_found_and_equal_methods_are_not_told_apart():
    strong, weak = ([_statistics(seed, skill=s) for seed in range(3)] for s in (0.75, 0.55))
    clusters = np.repeat(np.arange(60), 2)
    found = compare(strong, weak, "avg_dice", clusters, seeds="independent", n_resamples=200)
    values = [np.mean([pooled_metric(run, "avg_dice")(None) for run in runs]) for runs in (strong, weak)]
    assert found.difference.value == pytest.approx(values[0] - values[1])
    assert found.difference.low > 0
    assert found.p_value == pytest.approx(1 / 201)
    assert found.v_seed > 0
    assert found.v_patient > 0
    assert found.n_clusters == 60
    same = compare(strong, [_statistics(seed + 10, skill=0.75) for seed in range(3)], "avg_dice", clusters, "independent", n_resamples=200)
    assert same.difference.low < 0 < same.difference.high
    assert same.p_value > 0.05


def test_under_thirty_patients_there_is_no_p_value():
    a, b = ([_statistics(seed, skill=s) for seed in range(2)] for s in (0.9, 0.5))
    few = compare(a, b, "avg_dice", np.repeat(np.arange(29), 5)[:120], seeds="shared", n_resamples=50)
    assert few.p_value is None
    assert few.descriptive
    assert few.n_clusters == 24
    assert few.difference.low < few.difference.value < few.difference.high


def test_detection_metrics_can_be_compared(random_split):
    a, b = ([detection_statistics(overlaps(*random_split(seed, n_images=40)), ("x",)) for seed in s] for s in ((1, 2), (3, 4)))
    found = compare(a, b, "mAP", np.arange(40), seeds="independent", n_resamples=50)
    means = [np.mean([pooled_metric(run, "mAP")(None) for run in runs]) for runs in (a, b)]
    assert found.difference.value == pytest.approx(means[0] - means[1])
    assert found.p_value is not None


def test_permutation_p_values_are_uniform_without_a_difference():
    rng = np.random.default_rng(0)
    p_values = []
    for trial in range(150):
        values = np.r_[rng.normal(size=40), rng.normal(size=40)]
        p_values.append(paired_permutation([lambda w, v=values: w @ v / w.sum()], np.arange(40), n_permutations=99, seed=trial))
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert min(p_values) >= 0.01


def test_equal_predictions_have_a_p_value_of_one():
    values = np.tile(np.random.default_rng(0).normal(size=40), 2)
    assert paired_permutation([lambda w: w @ values / w.sum()], np.arange(40), n_permutations=50) == 1.0


def test_holm_is_step_down():
    # Worked example: sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-1.5, 1.9, "equivalent"), (0.2, 1.9, "equivalent"), (0.2, 3.0, "different"), (-5.0, -2.5, "different"), (-1.0, 3.0, "undecided")],
)
def test_reproduction_verdict(low, high, verdict):
    assert reproduction_verdict(Interval((low + high) / 2, low, high), margin=2.0) == verdict


def _skill_of_patients(rng, n):
    """(2, n): pixels found, pixels wrong; size and skill belong to the patient."""
    size, skill = rng.lognormal(0, 0.5, n), rng.beta(4, 4, n)
    return np.stack([size * skill, size * (1 - skill)])


def _statistics(seed, skill, n_images=120):
    """Counts of 120 images whose lesions (same for all methods) are found to a share that depends on image, run and skill."""
    n_pixels = np.random.default_rng(99).integers(20, 200, (n_images, 1))
    rng = np.random.default_rng([seed, int(100 * skill)])
    tp = rng.binomial(n_pixels, np.clip(skill + rng.normal(0, 0.1, n_pixels.shape) + rng.normal(0, 0.01), 0.05, 0.95))
    counts = DiceCounts(tp, rng.binomial(n_pixels, 0.3), n_pixels - tp)
    none = np.zeros(0, np.int64)
    return SegmentationStatistics(("x",), counts, Lesions(none, none, none, none), None)
