from __future__ import annotations

import numpy as np
import pytest

from benchmark.errors import UsageError
from benchmark.statistics.ranking import RankBand, headline, panel_scale, rank_bands


def test_rows_with_overlapping_intervals_share_a_band():
    # a and b overlap, c stands alone, d touches c's lower end.
    assert [str(b) for b in rank_bands(low=[8, 7, 4, 1], high=[10, 8.5, 5, 4])] == ["1-2", "1-2", "3-4", "3-4"]
    assert [str(b) for b in rank_bands(low=[8, 6, 4], high=[9, 7, 5])] == ["1", "2", "3"]


def test_overlap_is_not_transitive():
    # b overlaps both a and c, which do not overlap each other.
    assert rank_bands(low=[7, 4, 1], high=[10, 8, 5]) == [RankBand(1, 2), RankBand(1, 3), RankBand(2, 3)]


def test_bands_turn_round_when_lower_is_better():
    assert rank_bands(low=[1, 4], high=[2, 5], higher_is_better=False) == [RankBand(1, 1), RankBand(2, 2)]


def test_bands_hold_every_order_of_values_drawn_from_the_intervals():
    rng = np.random.default_rng(0)
    middle, half = rng.uniform(0, 10, 8), rng.uniform(0, 2, 8)
    bands = rank_bands(middle - half, middle + half)
    for _ in range(500):
        values = rng.uniform(middle - half, middle + half)
        ranks = 1 + np.argsort(np.argsort(-values))
        assert all(band.best <= rank <= band.worst for band, rank in zip(bands, ranks, strict=True))


def test_missing_intervals_are_refused():
    with pytest.raises(UsageError, match="complete interval"):
        rank_bands(low=[1, np.nan], high=[2, 3])


def test_headline_averages_clipped_panel_scores_within_then_over_datasets():
    scale = panel_scale([1, 2, 3, 4, 5, 6, 7])
    assert (scale.median, scale.iqr) == (4, 3)
    panel = {"t1": scale, "t2": scale, "t3": scale}
    datasets = {"t1": "rsna", "t2": "rsna", "t3": "nih"}
    found = headline({"t1": 7, "t2": 4, "t3": 100}, panel, datasets)
    assert found.by_task == {"t1": 1.0, "t2": 0.0, "t3": 3.0}
    assert found.by_dataset == {"rsna": 0.5, "nih": 3.0}
    assert found.value == 1.75
    assert headline({"t1": 7, "t2": 4, "t3": 4}, panel, datasets, lower_is_better=frozenset({"t1"})).by_task["t1"] == -1.0


def test_there_is_no_headline_over_gaps():
    panel = {"t1": panel_scale(range(6)), "t2": panel_scale(range(6))}
    with pytest.raises(UsageError, match="missing: \\['t2'\\]"):
        headline({"t1": 1.0}, panel, {"t1": "a", "t2": "a"})
    with pytest.raises(UsageError, match="unknown: \\['t3'\\]"):
        headline({"t1": 1.0, "t2": 1.0, "t3": 1.0}, panel, {"t1": "a", "t2": "a", "t3": "b"})


def test_there_is_no_headline_without_a_panel():
    with pytest.raises(UsageError, match="at least 6 backbones, found 5"):
        panel_scale([1, 2, 3, 4, 5])
    with pytest.raises(UsageError, match="no scale"):
        panel_scale([1, 1, 1, 1, 1, 9])
    with pytest.raises(UsageError, match="no scale"):
        panel_scale([1, 2, 3, 4, 5, np.nan])
