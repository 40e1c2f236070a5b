"""What a pair costs: operations counted on real steps, summed along a budget, and turned into the pairs of an equal compute."""

from __future__ import annotations

import pytest

from benchmark.pretraining import pairs
from benchmark.study import costs
from benchmark.study.costs import Cost
from tests.pretraining.small import corpus, recipe

RISING = Cost(flops=(1.0, 3.0), seconds=(0.5, 1.5))


@pytest.mark.parametrize(("pairs", "expected"), [(0, 0), (50, 50), (100, 100), (150, 250), (200, 400), (999, 400)])
def test_a_part_of_the_budget_costs_what_its_places_cost(pairs, expected):
    assert RISING.flops_until(pairs, 200) == expected
    assert RISING.seconds_until(pairs, 200) == expected / 2


@pytest.mark.parametrize("flops", [0, 10, 100, 250, 400])
def test_pairs_for_a_compute_are_those_that_cost_it(flops):
    assert RISING.flops_until(RISING.pairs_for(flops, 200), 200) == pytest.approx(flops)


def test_a_compute_beyond_the_budget_ends_with_it():
    assert RISING.pairs_for(1e9, 200) == 200


def test_methods_meet_where_the_cheapest_ends():
    cards = [recipe("convirt", steps=20), recipe("lovt", steps=20)]
    known = {cards[0].name: Cost((1.0,), (1.0,)), cards[1].name: Cost((2.0,), (1.0,))}
    assert costs.equal_compute(cards, known) == {cards[0].name: 120, cards[1].name: 60}


def test_what_is_remembered_is_known_again_and_a_damaged_file_holds_none(tmp_path):
    costs.remember(tmp_path, {"one": RISING})
    assert costs.known(tmp_path) == {"one": RISING}
    (tmp_path / costs.FILE).write_text('{"one": {"flops": 3}}')
    assert costs.known(tmp_path) == {}


def test_a_decoder_that_begins_late_costs_from_there_on(tmp_path):
    root = corpus(tmp_path / "mimic-cxr")
    card = recipe("g2d")  # pseudo masks from half of the budget on
    loaded = pairs.load(card.pairs, root, card.image.size, 0)
    found = costs.measured(card, loaded, tmp_path / "tokenizer", threads=1, device_type="cpu", n_places=2)
    assert found.flops[1] > 1.1 * found.flops[0]
    assert min(found.seconds) > 0
    # A convolution alone: the stem's 7 x 7 on 24 x 24 places, 3 to 64 channels, forward and the gradient of its weights.
    assert found.flops[0] > 2 * 2 * 24 * 24 * 49 * 3 * 64
