"""The page says what a checkpoint is, and what is unequal by design."""

from __future__ import annotations

import pytest

from benchmark import registry
from benchmark.cards.pretraining import StageCard
from benchmark.study import terms
from benchmark.study.members import Member

STAGES = (StageCard(begins=0, rate=1.0, warm_up=0.1), StageCard(begins=0.3, rate=0.5, warm_up=0.1))


def member(name: str, **budget) -> Member:
    card = registry.recipe(name)
    return Member("method", card.model_copy(update={"budget": card.budget.model_copy(update=budget)}), 0, (640,))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([member("convirt-phantom", warm_up=0.0)], "so a checkpoint is what a smaller budget would have left."),
        ([member("convirt-phantom")], "left: the rise is a share of the whole budget."),
        (
            [member("lovt-phantom"), member("g2d-phantom"), member("prior-phantom"), member("mgca-phantom")],
            "left: the rise and what begins on the way in g2d-phantom, prior-phantom, mgca-phantom are shares of the whole budget.",
        ),
        (
            [member("convirt-phantom"), member("prior-phantom", stages=STAGES)],
            "misses no fall. In prior-phantom each stage has a rise, a rate and an optimiser of its own. It is not what",
        ),
        ([member("prior-phantom", warm_up=0.0, stages=STAGES)], "left: the rise and what begins on the way in prior-phantom are shares"),
        ([member("g2d-phantom", warm_up=0.0)], "left: what begins on the way in g2d-phantom is a share of the whole budget."),
    ],
    ids=["neither", "a rise", "stages too", "stages of the budget", "rises of stages", "stages alone"],
)
def test_a_checkpoint_is_called_a_smaller_budgets_only_where_nothing_is_a_share_of_the_whole(members, said):
    assert said in terms.of_checkpoints(members)


def test_groups_that_are_unequal_are_named():
    whole, part = member("lovt-phantom"), member("gloria-phantom", group=16)
    assert "lovt-phantom 32, gloria-phantom 16" in terms.unequal_groups([whole, part])
    assert terms.unequal_groups([whole, member("gloria-phantom")]) == ""
