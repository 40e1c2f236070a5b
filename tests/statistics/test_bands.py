"""Rank bands count what is told apart, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.errors import UsageError
from benchmark.statistics.bands import RankBand, rank_bands, tied_for_best


def test_a_band_counts_only_rows_that_are_told_apart() -> None:
    apart, alike = 1e-6, 0.9
    p = np.array([[np.nan, alike, apart], [alike, np.nan, alike], [apart, alike, np.nan]])
    assert rank_bands([3.0, 2.0, 1.0], p) == [RankBand(1, 2), RankBand(1, 3), RankBand(2, 3)]
    assert rank_bands([3.0, 2.0, 1.0], np.full((3, 3), alike)) == [RankBand(1, 3)] * 3
    # 0.03 alone is below the level, of two comparisons it is not.
    p = np.array([[np.nan, 0.03, 0.9], [0.03, np.nan, 0.03], [0.9, 0.03, np.nan]])
    assert rank_bands([3.0, 2.0, 1.0], p)[0] == RankBand(1, 3)
    assert rank_bands([2.0, 1.0], np.array([[np.nan, 0.03], [0.03, np.nan]])) == [RankBand(1, 1), RankBand(2, 2)]
    assert rank_bands([1.0], np.array([[np.nan]])) == [RankBand(1, 1)]


def test_rows_that_are_shown_no_more_make_bands_wider_and_hold_no_rank() -> None:
    p = np.array([[np.nan, 0.02], [0.02, np.nan]])
    assert rank_bands([2.0, 1.0], p, n_gone=1) == [RankBand(1, 1), RankBand(2, 2)]
    assert rank_bands([2.0, 1.0], p, n_gone=2) == [RankBand(1, 2)] * 2  # 0.02 is not below the level of three comparisons


def test_a_missing_value_gives_no_band() -> None:
    with pytest.raises(UsageError, match="every pair needs one p-value"):
        rank_bands([1.0, 2.0], np.full((2, 2), np.nan))
    for values in ([1.0, np.nan], [1.0]):
        with pytest.raises(UsageError, match="Rows without a headline have no band"):
            rank_bands(values, np.full((2, 2), 0.5))


def test_the_tied_for_best_stand_in_alphabetical_order() -> None:
    bands = [RankBand(1, 3), RankBand(2, 4), RankBand(1, 1), RankBand(1, 2)]
    assert tied_for_best(["resnet", "alpha", "Moco", "dino"], bands) == ["dino", "Moco", "resnet"]


def test_a_band_of_one_rank_is_that_rank() -> None:
    assert [str(band) for band in (RankBand(3, 3), RankBand(4, 5))] == ["3", "4-5"]
