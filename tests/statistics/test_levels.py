"""Levels of variance: what each adds, and that a further one changes no rule."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmark.errors import UsageError
from benchmark.statistics.levels import (
    CHECKPOINTS,
    PATIENTS,
    RUNS,
    Level,
    checkpoints_level,
    distinct_runs,
    resampled_variance,
    seed_components,
    two_parts,
)
from benchmark.statistics.two_part import satterthwaite


def test_two_means_over_runs_of_their_own_are_welch() -> None:
    a, b = [1.0, 3.0, 2.0, 5.0], [4.0, 9.0, 1.0, 7.0, 8.0]
    total, freedom = satterthwaite(seed_components(a, b, seeds="independent"))
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert freedom == pytest.approx(expected.df)
    assert (np.mean(a) - np.mean(b)) / np.sqrt(total) == pytest.approx(expected.statistic)


def test_repeated_runs_count_once() -> None:
    # Task 3, LoVT_30: four of five published runs are one run.
    assert distinct_runs([19.87, 16.56, 16.56, 16.56, 16.56]) == [19.87, 16.56]


def test_shared_seeds_take_the_variance_of_the_paired_difference() -> None:
    a, b = [1.0, 3.0, 2.0], [0.5, 2.5, 1.5]
    assert seed_components(a, b, seeds="shared") == [(0.0, 2)]
    assert seed_components(a, b, seeds="independent")[0] == pytest.approx((1 / 3, 2))
    with pytest.raises(UsageError, match="3 and 2"):
        seed_components(a, b[:2], seeds="shared")
    with pytest.raises(UsageError, match="at least two runs, found 1"):
        seed_components([1.0], [2.0], seeds="shared")


def test_patients_keep_their_own_t_and_all_other_levels_share_one() -> None:
    runs, pretraining, patients = Level(RUNS, 2.0, 4), Level(CHECKPOINTS, 1.0, 2), Level(PATIENTS, 0.5, 199)
    assert two_parts([patients, runs]) == ((2.0, 4), (0.5, 199))
    drawn, of_patients = two_parts([runs, patients, pretraining])
    assert drawn == satterthwaite([(2.0, 4), (1.0, 2)]) == (3.0, 9 / (4 / 4 + 1 / 2))
    assert of_patients == (0.5, 199)
    assert two_parts([runs])[1] == (0, np.inf)
    assert two_parts([patients])[0] == (0, np.inf)


def test_a_recipe_needs_three_checkpoints() -> None:
    assert checkpoints_level([1.0, 2.0, 6.0]) == Level(CHECKPOINTS, pytest.approx(7 / 3), 2)
    with pytest.raises(UsageError, match="name the checkpoint"):
        checkpoints_level([1.0, 2.0])


def test_one_undefined_resample_in_twenty_is_left_out_and_more_leave_nothing() -> None:
    assert resampled_variance([0.1, 0.3, np.nan] * 10) is None
    assert resampled_variance([0.1, 0.3] * 20 + [np.nan]) == pytest.approx(np.var([0.1, 0.3] * 20, ddof=1))
    assert resampled_variance([0.1]) is None
