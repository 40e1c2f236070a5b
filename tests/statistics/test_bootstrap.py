from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmark.statistics.bootstrap import N_RESAMPLES, cluster_bootstrap, copies, resamples
from benchmark.statistics.levels import resampled_variance
from tests.statistics.intervals import lovt_interval, percentile_interval

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


def test_images_of_a_patient_come_and_go_together_and_patients_keep_their_draw():
    patients = ("c", "a", "b", "a", "c", "c")
    drawn = resamples(patients, 200)
    assert (drawn.shape, drawn.dtype) == ((200, 6), np.uint8)
    assert np.array_equal(drawn[:, 1], drawn[:, 3])
    assert np.array_equal(drawn[:, 0], drawn[:, 4])
    assert np.array_equal(resamples(patients[::-1], 200), drawn[:, ::-1])
    # Whoever else is tested: patients of two datasets come and go together in both, and the first of many draws are those of few.
    assert np.array_equal(resamples(("x", "a", "y"), 50)[:, 1], drawn[:50, 1])
    assert len(np.unique(drawn[:, [0, 1, 2]], axis=0)) > 20


def test_copies_are_poisson_and_no_two_patients_or_resamples_share_theirs():
    drawn = copies([f"patient {i}" for i in range(2000)], 1000)
    expected = stats.poisson.pmf(np.arange(8), 1)
    np.testing.assert_allclose(np.bincount(drawn.ravel())[:8] / drawn.size, expected, atol=5 * np.sqrt(expected[0] / drawn.size))
    for one in (drawn[:, :150].T, drawn[:150]):  # correlations of independent draws of so many have this standard deviation
        found = np.corrcoef(one.astype(float))[np.triu_indices(150, 1)]
        assert found.std() == pytest.approx(1 / np.sqrt(one.shape[1]), rel=0.05)
        assert abs(found.mean()) < 5 / np.sqrt(one.shape[1] * len(found))


@pytest.mark.parametrize("n_patients", [30, 400])
def test_bootstrap_variance_of_a_mean_is_that_of_theory_and_of_draws_with_replacement(n_patients):
    values = np.random.default_rng(0).normal(size=n_patients)
    resampled = cluster_bootstrap(lambda w: w @ values / w.sum(), [f"p{i}" for i in range(n_patients)], n_resamples=4000)
    assert resampled.std() == pytest.approx(values.std() / np.sqrt(n_patients), rel=0.08)
    assert resampled.mean() == pytest.approx(values.mean(), abs=4 * resampled.std() / np.sqrt(4000))
    scipys = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1))
    assert resampled.std() == pytest.approx(scipys.standard_error, rel=0.08)


def test_a_metric_that_resamples_leave_undefined_has_no_variance():
    undefined = cluster_bootstrap(lambda w: None, ["a", "b"], 20)
    assert np.isnan(undefined).all()
    assert resampled_variance(undefined) is None
    with pytest.raises(ValueError, match="20 of 20 resamples"):
        percentile_interval(0.0, undefined)


def test_resamples_are_as_many_as_the_leaderboard_says_and_cannot_be_changed():
    drawn = resamples(("a", "b"))
    assert len(drawn) == N_RESAMPLES == 1000
    with pytest.raises(ValueError, match="read-only"):
        drawn[0, 0] = 1


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
            named = [f"{name} {each} of trial {trial}" for each in clusters]
            found = percentile_interval(0.0, cluster_bootstrap(micro_dice, named, n_resamples=150))
            covered[name] += found.low <= truth <= found.high
    assert 0.87 <= covered["patient"] / n_trials <= 0.99
    assert covered["image"] / n_trials < 0.75


def _skill_of_patients(rng, n):
    """(2, n): pixels found, pixels wrong; size and skill belong to the patient."""
    size, skill = rng.lognormal(0, 0.5, n), rng.beta(4, 4, n)
    return np.stack([size * skill, size * (1 - skill)])
