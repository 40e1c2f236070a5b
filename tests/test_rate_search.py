"""How a learning rate is chosen: by the mean over unreported seeds, beyond an edge once, and marked where it might have gone otherwise."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark import registry
from benchmark.rate_search import BASE_SEED, STEP, Try, beyond, choice, choice_of, chosen, seeds, sentences, winner

GRID = (1e-4, 1e-3, 1e-2)


def test_a_search_of_two_seeds_takes_none_that_a_reported_run_may_have() -> None:
    two = seeds(registry.protocol("lobe").switches)
    assert len(set(two)) == 2
    assert max(two) < BASE_SEED  # run r has BASE_SEED + r
    assert seeds(registry.protocol("corrected").switches) == (BASE_SEED,)


def test_the_mean_over_seeds_decides_and_not_the_luckiest_run() -> None:
    assert winner(GRID, {1e-4: (0.1, 0.9), 1e-3: (0.6, 0.6), 1e-2: (0.5, 0.5)}) == 1e-3


def test_the_lower_of_equally_good_rates_wins() -> None:
    assert winner(GRID, dict.fromkeys(GRID, (0.5, 0.5))) == 1e-4


@pytest.mark.parametrize(("rate", "next_rate"), [(1e-2, 3.16e-2), (1e-4, 3.16e-5), (1e-3, None)])
def test_the_grid_goes_on_by_one_step_beyond_its_edges_alone(rate: float, next_rate: float | None) -> None:
    assert beyond(GRID, rate) == next_rate


def test_every_grid_of_the_leaderboard_rises_in_steps_of_the_root_of_ten_over_the_stated_range() -> None:
    stated = {"linear": (1e-4, 1.0), "other": (1e-4, 1e-2)}
    protocol = registry.protocol("lobe")
    for by_head in protocol.grids.values():
        for rates in by_head.values():
            assert [b / a for a, b in pairwise(rates)] == pytest.approx([STEP] * (len(rates) - 1), rel=2e-3)
    (frozen, finetune) = (protocol.grids[mode] for mode in ("frozen", "finetune"))
    assert {name: (frozen[name][0], frozen[name][-1]) for name in stated} == stated
    assert (finetune["other"][0], finetune["other"][-1]) == (1e-5, 1e-3)


def test_a_choice_is_sure_where_one_rate_wins_at_both_seeds() -> None:
    made = choice(GRID, {1e-4: (0.30, 0.35), 1e-3: (0.50, 0.52), 1e-2: (0.49, 0.51)})
    assert (chosen(made), made.uncertain, sentences(made)) == (1e-3, False, ())


def test_a_choice_is_uncertain_where_the_seeds_do_not_agree() -> None:
    made = choice(GRID, {1e-4: (0.30, 0.35), 1e-3: (0.50, 0.52), 1e-2: (0.51, 0.50)})
    assert (chosen(made), made.uncertain) == (1e-3, True)
    assert "choice uncertain" in sentences(made)[0]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=3, max_size=3))
def test_with_two_seeds_within_one_standard_error_means_as_good_at_one_of_them(eighths: list[tuple[int, int]]) -> None:
    values = [(one / 8, other / 8) for one, other in eighths]
    made = choice(GRID, dict(zip(GRID, values, strict=True)))
    best = values[GRID.index(chosen(made))]
    others = [other for rate, other in zip(GRID, values, strict=True) if rate != chosen(made)]
    assert made.uncertain == any(b <= o for other in others for b, o in zip(best, other, strict=True))


def test_one_run_a_rate_has_no_standard_error_and_is_never_called_uncertain() -> None:
    assert not choice(GRID, {1e-4: (0.5,), 1e-3: (0.5,), 1e-2: (0.5,)}).uncertain


def test_a_rate_beyond_the_edge_may_win_and_is_told_either_way() -> None:
    values = {1e-4: (0.1, 0.1), 1e-3: (0.2, 0.2), 1e-2: (0.3, 0.3)}
    better, worse = (choice(GRID, {**values, 3.16e-2: (new, new)}) for new in (0.4, 0.2))
    assert (chosen(better), chosen(worse)) == (3.16e-2, 1e-2)
    for made in (better, worse):
        assert made.beyond == 3.16e-2
        assert sentences(made)[0].startswith("learning rate on the edge of the grid: one step beyond was tried, 0.0316, and")


def test_a_rate_at_which_training_failed_cannot_win_and_one_beyond_the_edge_is_still_told() -> None:
    made = choice(GRID, {1e-4: (0.1, 0.1), 1e-3: (0.2, 0.2), 1e-2: (0.3, 0.3)}, failed=(3.16e-2,))
    assert (chosen(made), made.beyond, made.failed) == (1e-2, 3.16e-2, (3.16e-2,))
    assert math.isfinite(sum(value for of_rate in made.values for value in of_rate))


def test_where_every_rate_of_the_grid_fails_nothing_is_chosen() -> None:
    assert choice_of(GRID, [Try(rate, None) for rate in GRID for _ in range(2)]) is None
    one_left = choice_of(GRID, [Try(rate, 0.1 if rate == 1e-3 else None) for rate in GRID for _ in range(2)])
    assert one_left is not None
    assert (chosen(one_left), one_left.failed, one_left.uncertain) == (1e-3, (1e-4, 1e-2), False)
