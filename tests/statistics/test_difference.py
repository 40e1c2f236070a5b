"""A method's own score and two methods compared: known values, what is tested, and what an interval covers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from benchmark.errors import UsageError
from benchmark.statistics.difference import Scores, cells, difference, differences
from benchmark.statistics.levels import CHECKPOINTS, PATIENTS, RUNS
from benchmark.statistics.two_part import satterthwaite, two_part_half_width
from tests.statistics.vectors import two_methods

N_PATIENTS = 60


@pytest.fixture(scope="module")
def methods() -> tuple[Scores, Scores]:
    runs, resampled = two_methods()
    second, first = (Scores(runs[i], resampled[i].T, N_PATIENTS) for i in (0, 1))
    return first, second


def scores(seed: int, n_runs: int = 5, n_patients: int | None = 60, n_with_finding: int | None = 30, drawn: bool = True) -> Scores:
    rng = np.random.default_rng(seed)
    runs = 0.5 + 0.01 * rng.normal(size=n_runs)
    resampled = None if n_patients is None else runs + 0.02 * rng.normal(size=(100, n_runs))
    return Scores(runs, resampled, n_patients, n_with_finding, drawn)


def test_known_difference_of_paired_runs(methods) -> None:
    found = difference(*methods, "shared")
    assert found.value == pytest.approx(6.510712, abs=1e-6)
    assert [(level.name, level.freedom) for level in found.levels] == [(RUNS, pytest.approx(4)), (PATIENTS, 59)]
    assert [level.variance for level in found.levels] == pytest.approx([1.453851, 0.403237], abs=1e-6)
    assert found.both == pytest.approx(0.473857, abs=1e-6)
    assert satterthwaite([level.component for level in found.levels])[1] == pytest.approx(6.492709, abs=1e-6)
    assert found.p_value == pytest.approx(0.006174, abs=1e-6)
    assert found.half_width == pytest.approx(3.554290, abs=2e-6)
    assert (found.low, found.high) == (found.value - found.half_width, found.value + found.half_width)
    assert (found.n_runs, found.n_clusters, found.untested, found.low_power, found.covers_patients) == (5, N_PATIENTS, "", False, True)


def test_known_difference_of_independent_seeds(methods) -> None:
    found = difference(*methods, "independent")
    assert found.levels[0].variance == pytest.approx(2.292301, abs=1e-6)
    assert found.p_value == pytest.approx(0.003969, abs=1e-6)
    expected = stats.ttest_ind(methods[0].runs, methods[1].runs, equal_var=False)
    assert found.levels[0].freedom == pytest.approx(expected.df)
    # Each method's own errors on patients, without what cancels between paired runs.
    assert found.both == pytest.approx(
        sum(np.var(each - each.mean(1, keepdims=True), axis=0, ddof=1).sum() / 20 for each in (methods[0].resampled, methods[1].resampled))
    )


def test_without_patients_a_difference_is_statsmodels() -> None:
    """Where only runs are drawn the two-part interval is the plain one: Welch's for independent seeds, the paired t for shared ones."""
    first, second = (Scores(scores(seed, n, None, None).runs, None, None) for seed, n in ((3, 5), (4, 7)))
    welch = CompareMeans(DescrStatsW(first.runs), DescrStatsW(second.runs))
    found = difference(first, second, "independent")
    assert (found.low, found.high) == pytest.approx(welch.tconfint_diff(usevar="unequal"), rel=1e-9)
    assert found.levels[0].freedom == pytest.approx(welch.dof_satt())
    other = Scores(second.runs[:5], None, None)
    paired = difference(first, other, "shared")
    assert (paired.low, paired.high) == pytest.approx(DescrStatsW(first.runs - other.runs).tconfint_mean(), rel=1e-9)


def test_many_pairs_at_once_are_each_alone(methods) -> None:
    pairs = [(*methods, "shared"), (methods[1], methods[0], "shared"), (*methods, "independent"), (scores(1, 1), scores(2), "independent")]
    for together, pair in zip(differences(pairs), pairs, strict=True):
        alone = difference(*pair)
        assert (together.levels, together.untested, together.n_runs) == (alone.levels, alone.untested, alone.n_runs)
        for one, other in ((together.p_value, alone.p_value), (together.half_width, alone.half_width)):
            assert one == (None if other is None else pytest.approx(other, rel=1e-9))
    forth, back = differences(pairs[:2])
    assert (back.value, back.p_value, back.half_width) == (-forth.value, forth.p_value, forth.half_width)
    assert differences([]) == []


def test_a_cell_has_its_runs_and_its_own_resamples(methods) -> None:
    (found,) = cells(methods[:1])
    assert found.value == pytest.approx(methods[0].runs.mean())
    assert found.levels[0].component == pytest.approx((methods[0].runs.var(ddof=1) / 5, 4))
    assert found.levels[1].component == pytest.approx((methods[0].resampled.mean(axis=1).var(ddof=1), 59))
    wider = stats.t.ppf(0.975, 4) * np.sqrt(found.levels[0].variance)
    assert wider < found.half_width
    assert found.covers_patients
    assert not found.descriptive


def test_a_cell_without_statistics_per_image_has_the_t_interval_of_its_runs() -> None:
    given = scores(1, n_patients=None)
    (found,) = cells([given])
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 4) * given.runs.std(ddof=1) / np.sqrt(5))
    assert [level.name for level in found.levels] == [RUNS]
    assert not found.covers_patients


def test_one_run_has_no_interval_and_no_p() -> None:
    (cell,) = cells([scores(1, n_runs=1)])
    assert (cell.half_width, cell.levels) == (None, ())
    found = difference(scores(1, n_runs=1), scores(2), "independent")
    assert (found.half_width, found.low, found.p_value, found.levels) == (None, None, None, ())
    assert "1 run, a test needs 3" in found.untested


@pytest.mark.parametrize(
    ("first", "tested", "low_power", "told"),
    [
        ({}, True, False, ""),
        ({"n_runs": 3}, True, True, ""),
        ({"n_runs": 4}, True, True, ""),
        ({"n_runs": 2}, False, False, "2 runs"),
        ({"n_patients": 30}, True, False, ""),
        ({"n_patients": 29}, False, False, "29 test patients"),
        ({"n_with_finding": 15}, True, False, ""),
        ({"n_with_finding": 14}, False, False, "14 test patients with the finding"),
        ({"n_with_finding": None}, True, False, ""),
        ({"n_patients": None}, False, False, "no statistics per image"),
    ],
)
def test_what_is_too_little_has_an_interval_and_no_p(first, tested, low_power, told) -> None:
    second = {"n_patients": first["n_patients"]} if "n_patients" in first else {}
    found = difference(scores(1, **first), scores(2, **second), "independent")
    assert (found.p_value is not None, found.low_power) == (tested, low_power)
    assert told in found.untested
    assert found.half_width > 0


def test_few_patients_make_an_interval_descriptive() -> None:
    assert [cell.descriptive for cell in cells([scores(1, n_patients=29), scores(1, n_patients=30)])] == [True, False]


def test_where_nothing_is_drawn_patients_alone_make_the_interval_and_the_p() -> None:
    first, second = (scores(seed, n_runs=1, drawn=False) for seed in (1, 2))
    found = difference(first, second, "shared")
    assert [level.name for level in found.levels] == [PATIENTS]
    expected = np.var(first.resampled[:, 0] - second.resampled[:, 0], ddof=1)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(found.value) / np.sqrt(expected), 59), rel=1e-9)
    assert (found.n_runs, found.both, found.low_power) == (None, None, False)
    (cell,) = cells([first])
    assert cell.half_width == pytest.approx(stats.t.ppf(0.975, 59) * first.resampled.std(ddof=1), rel=1e-9)


def test_against_an_untrained_one_only_its_runs_are_drawn() -> None:
    fixed, untrained = scores(1, n_runs=1, drawn=False), scores(2)
    found = difference(fixed, untrained, "independent")
    assert found.levels[0].component == pytest.approx((untrained.runs.var(ddof=1) / 5, 4))
    assert found.n_runs == 5
    assert found.p_value is not None


def test_a_recipe_is_judged_by_its_checkpoints_and_keeps_a_level_of_its_own() -> None:
    recipe, other, checkpoint = (replace(scores(1, n_runs=3), unit=CHECKPOINTS), replace(scores(2, n_runs=4), unit=CHECKPOINTS), scores(3))
    (cell,) = cells([recipe])
    assert [(level.name, level.freedom) for level in cell.levels] == [(CHECKPOINTS, 2), (PATIENTS, 59)]
    found, mixed = difference(recipe, other, "independent"), difference(recipe, checkpoint, "independent")
    expected = stats.ttest_ind(recipe.runs, other.runs, equal_var=False)
    assert [(level.name, level.freedom) for level in found.levels] == [(CHECKPOINTS, pytest.approx(expected.df)), (PATIENTS, 59)]
    assert [level.name for level in mixed.levels] == [CHECKPOINTS, RUNS, PATIENTS]
    total, freedom = satterthwaite([level.component for level in mixed.levels[:2]])
    half = float(two_part_half_width((total, freedom), mixed.levels[2].component))
    assert mixed.half_width == pytest.approx(half, rel=1e-9)
    with pytest.raises(UsageError, match="share no seeds"):
        difference(recipe, other, "shared")
    with pytest.raises(UsageError, match="name the checkpoint"):
        cells([replace(scores(1, n_runs=2), unit=CHECKPOINTS)])


def test_too_many_undefined_resamples_leave_no_level_of_patients() -> None:
    first, second = scores(1), scores(2)
    first.resampled[:6] = np.nan
    found = difference(first, second, "shared")
    assert [level.name for level in found.levels] == [RUNS]
    assert (found.p_value, found.both) == (None, None)
    assert "no statistics per image" in found.untested


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="resamples of the same patients"):
        difference(scores(1), scores(2, n_patients=61), "shared")
    with pytest.raises(UsageError, match="5 and 3"):
        difference(scores(1), scores(2, n_runs=3), "shared")
    with pytest.raises(UsageError, match="A cell needs a run"):
        cells([scores(1), Scores(np.zeros(0), None, None)])
    with pytest.raises(UsageError, match="a run of both"):
        difference(Scores(np.zeros(0), None, None), scores(2), "shared")
    with pytest.raises(UsageError, match="repetitions are not runs"):
        scores(1, n_runs=3, drawn=False)
    with pytest.raises(UsageError, match="come together"):
        Scores(np.zeros(3), None, 60)
    with pytest.raises(UsageError, match="shape \\(resamples, runs\\)"):
        Scores(np.zeros(3), np.zeros((100, 2)), 60)
