"""Headlines against a panel, their differences, and rank bands."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmark.errors import UsageError
from benchmark.statistics.ranking import Measured, PanelScale, RankBand, headline, p_of_difference, panel_scale, rank_bands
from benchmark.statistics.uncertainty import holm

DATASETS, PATIENTS = ("a", "a", "b", "b", "c"), {"a": 200, "b": 150, "c": 1000}


@pytest.fixture(scope="module")
def board():
    """Six rows and a panel of eight over five tasks of three datasets: scores of 5 runs, and their mean in 400 resamples."""
    rng = np.random.default_rng(30)
    n_rows, n_panel, n_tasks, n_runs, n_resamples = 6, 8, 5, 5, 400
    everyone = n_rows + n_panel
    true = 40 + 2 * rng.standard_normal((everyone, 1)) + rng.standard_normal((everyone, n_tasks))
    runs = true[:, None] + 0.5 * rng.standard_normal((1, n_runs, n_tasks)) + 0.8 * rng.standard_normal((everyone, n_runs, n_tasks))
    resampled = (
        runs.mean(1) + 1.0 * rng.standard_normal((n_resamples, 1, n_tasks)) + 0.6 * rng.standard_normal((n_resamples, everyone, n_tasks))
    )
    panel = {f"t{t}": panel_scale(runs[n_rows:, :, t].mean(axis=1)) for t in range(n_tasks)}
    rows = [
        {f"t{t}": Measured(DATASETS[t], runs[row, :, t], resampled[:, row, t], PATIENTS[DATASETS[t]]) for t in range(n_tasks)}
        for row in range(n_rows)
    ]
    return panel, rows


def test_headlines_and_their_intervals(board):
    panel, rows = board
    found = [headline(row, panel) for row in rows]
    assert [one.value for one in found] == pytest.approx([1.789118, 0.450778, -1.734941, -0.798194, -0.540438, 2.049089], abs=1e-6)
    assert [one.half_width for one in found] == pytest.approx([0.548754, 0.587818, 0.577458, 0.638443, 0.604969, 0.527295], abs=2e-6)
    assert sum(one.n_clipped for one in found) == 1
    assert found[0].value == pytest.approx(np.mean(list(found[0].by_dataset.values())))


def test_differences_of_headlines_and_who_is_tied_for_best(board):
    panel, rows = board
    found = [headline(row, panel) for row in rows]
    p = np.full((6, 6), np.nan)
    for i, j in itertools.combinations(range(6), 2):
        p[i, j] = p[j, i] = p_of_difference(found[i], found[j])
    assert [p[0, 5], p[3, 4], p[1, 3], p[1, 4]] == pytest.approx([0.244525, 0.319029, 4.796340e-05, 4.438216e-04], rel=1e-5)
    pairs = list(itertools.combinations(range(6), 2))
    adjusted = dict(zip(pairs, holm([p[pair] for pair in pairs]), strict=True))
    expected = [0.489049, 0.489049, 2.398170e-04, 0.001775]
    assert [adjusted[pair] for pair in ((0, 5), (3, 4), (1, 3), (1, 4))] == pytest.approx(expected, rel=5e-4)
    bands = rank_bands([one.value for one in found], p)
    assert [str(band) for band in bands] == ["1-2", "3", "6", "4-5", "4-5", "1-2"]
    assert [row for row, band in enumerate(bands) if band.best == 1] == [0, 5]


def test_a_task_beyond_the_scale_is_clipped_and_moves_with_nothing():
    panel = {"t1": PanelScale(4.0, 3.0), "t2": PanelScale(4.0, 3.0), "t3": PanelScale(4.0, 3.0)}
    still = np.zeros(2)

    def at(score, dataset):
        return Measured(dataset, np.full(3, score), still + score, 50)

    found = headline({"t1": at(7, "a"), "t2": at(4, "a"), "t3": at(100, "b")}, panel)
    assert found.by_task == {"t1": 1.0, "t2": 0.0, "t3": 3.0}
    assert (found.by_dataset, found.value, found.n_clipped) == ({"a": 0.5, "b": 3.0}, 1.75, 1)
    assert not found.runs["b"].any()


def test_there_is_no_headline_over_gaps():
    panel = {"t1": panel_scale(range(8)), "t2": panel_scale(range(8))}
    one = Measured("a", np.ones(3), np.ones(4), 50)
    with pytest.raises(UsageError, match="missing: \\['t2'\\]"):
        headline({"t1": one}, panel)
    with pytest.raises(UsageError, match="unknown: \\['t3'\\]"):
        headline({"t1": one, "t2": one, "t3": one}, panel)


def test_there_is_no_headline_without_a_panel():
    with pytest.raises(UsageError, match="at least 8 backbones, found 7"):
        panel_scale(range(7))
    for scores in ([1] * 8, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, np.nan]):
        with pytest.raises(UsageError, match="no scale"):
            panel_scale(scores)


def test_a_band_counts_only_rows_that_are_told_apart():
    apart, alike = 1e-6, 0.9
    p = np.array([[np.nan, alike, apart], [alike, np.nan, alike], [apart, alike, np.nan]])
    assert rank_bands([3.0, 2.0, 1.0], p) == [RankBand(1, 2), RankBand(1, 3), RankBand(2, 3)]
    assert rank_bands([3.0, 2.0, 1.0], np.full((3, 3), alike)) == [RankBand(1, 3)] * 3
    # 0.03 alone is below the level, of two comparisons it is not.
    p = np.array([[np.nan, 0.03, 0.9], [0.03, np.nan, 0.03], [0.9, 0.03, np.nan]])
    assert rank_bands([3.0, 2.0, 1.0], p)[0] == RankBand(1, 3)
    assert rank_bands([2.0, 1.0], np.array([[np.nan, 0.03], [0.03, np.nan]])) == [RankBand(1, 1), RankBand(2, 2)]


def test_a_missing_value_gives_no_band():
    with pytest.raises(UsageError, match="p-value for every pair"):
        rank_bands([1.0, 2.0], np.full((2, 2), np.nan))
    with pytest.raises(UsageError, match="p-value for every pair"):
        rank_bands([1.0, np.nan], np.full((2, 2), 0.5))
