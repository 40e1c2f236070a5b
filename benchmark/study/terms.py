"""Sentences on the terms that a study compares its methods on: what a checkpoint is, and what is not equal by design.

What has to be equal, `reading` refuses otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.cards import PretrainingCard
from benchmark.study.members import Member


def of_checkpoints(members: Sequence[Member]) -> str:
    """What a checkpoint on the way is, beside the end of a smaller budget."""
    from benchmark.pretraining.run import turns_of  # methods load torch

    recipes = _methods(members)
    rates = [one.warm_up for recipe in recipes.values() for one in recipe.budget.stages or (recipe.budget,)]
    shares = ["the rise"] if any(rates) else []
    if staged := [name for name, recipe in recipes.items() if turns_of(recipe)]:
        shares.append(f"what begins on the way in {', '.join(staged)}")
    if not shares:
        return "The rate is constant, so a checkpoint is what a smaller budget would have left."
    lie = "is a share" if len(shares) == 1 else "are shares"
    anew = [name for name, recipe in recipes.items() if recipe.budget.stages]
    stages = f" In {', '.join(anew)} each stage has a rise, a rate and an optimiser of its own." if anew else ""
    return (
        f"The rate is constant after its rise, so a checkpoint misses no fall.{stages} It is not what a smaller budget would have left: "
        f"{' and '.join(shares)} {lie} of the whole budget."
    )


def unequal_groups(members: Sequence[Member]) -> str:
    """What is to be said where methods contrast unequal numbers of pairs; empty where they do not."""
    groups = {name: recipe.budget.group for name, recipe in _methods(members).items()}
    if len(set(groups.values())) < 2:
        return ""
    each = ", ".join(f"{name} {n}" for name, n in groups.items())
    return f"Methods contrast unequal numbers of pairs with each other: {each}. That is part of every difference between them."


def _methods(members: Sequence[Member]) -> dict[str, PretrainingCard]:
    return {one.name: one.recipe for one in members if one.role == "method"}
