"""The members of a study: every pretraining that it asks for, as a recipe and a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark import registry
from benchmark.cards import PretrainingCard, StudyCard, digest_of

Role = Literal["method", "ablation", "ladder", "shuffled"]


@dataclass(frozen=True)
class Member:
    """
    Attributes:
        recipe: with the study's budget, under the member's name.
        keeps: pairs after which the encoder is kept, rising, the start at 0 and the end among them; the end alone of all but methods.
    """

    role: Role
    recipe: PretrainingCard
    seed: int
    keeps: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def label(self) -> str:
        return f"{self.name}-{self.seed}"

    def title(self, pairs: int) -> str:
        """What tables call its backbone after so many pairs (`benchmark.pretraining.export`)."""
        whole = f"{self.name}, seed {self.seed}"
        return whole if pairs == self.keeps[-1] else f"{whole}, after {pairs:,} pairs"

    @property
    def address(self) -> str:
        """Digest of recipe and seed: another budget is another folder."""
        return digest_of([self.recipe.model_dump(mode="json", exclude={"title"}), self.seed])[:16]

    def folder(self, out: Path) -> Path:
        """Where the backbone lies once it is made."""
        return out / "backbones" / self.address / self.label


def members(card: StudyCard, equal_compute: dict[str, int] | None = None) -> list[Member]:
    """All members, seed by seed, so that what is there after a stop is a smaller study.

    Args:
        equal_compute: recipe -> pairs after which it has cost what the cheapest costs in all; None where that is not measured yet.
    """
    return [one for seed in card.seeds for one in _of_seed(card, seed, equal_compute or {})]


def in_whole_batches(card: PretrainingCard, pairs: float) -> int:
    """Pairs after the step at which that many have been shown."""
    batch = card.budget.batch
    return max(0, round(pairs / batch)) * batch


def shuffled_name(recipe: str) -> str:
    return f"{recipe}-shuffled"


def rung_name(recipe: str, share: float) -> str:
    return f"{recipe}-on-{100 * share:g}".replace(".", "_")


def _of_seed(card: StudyCard, seed: int, equal_compute: dict[str, int]) -> list[Member]:
    found = []
    for name in card.recipes:
        recipe = _recipe(card, name)
        end = _end(recipe)
        on_the_way = [in_whole_batches(recipe, share * card.budget.pairs) for share in card.budget.checkpoints]
        keeps = {0, *on_the_way, *([equal_compute[name]] if name in equal_compute else []), end}
        found.append(Member("method", recipe, seed, tuple(sorted(keeps))))
    for ablation in dict.fromkeys(one.without for one in card.ablations):
        if ablation not in card.recipes:
            found.append(_only_the_end("ablation", _recipe(card, ablation), seed))
    for name in card.shuffled:
        recipe = _recipe(card, name, shuffled_name(name))
        mixed = recipe.model_copy(update={"pairs": recipe.pairs.model_copy(update={"is_shuffled": True})})
        found.append(_only_the_end("shuffled", mixed, seed))
    if card.ladder is not None:
        for share in card.ladder.shares:
            recipe = _recipe(card, card.ladder.recipe, rung_name(card.ladder.recipe, share))
            fewer = recipe.model_copy(update={"pairs": recipe.pairs.model_copy(update={"share": share})})
            found.append(_only_the_end("ladder", fewer, seed))
    return found


def _only_the_end(role: Role, recipe: PretrainingCard, seed: int) -> Member:
    return Member(role, recipe, seed, (_end(recipe),))


def _end(recipe: PretrainingCard) -> int:
    """Pairs shown in all: the budget in whole batches."""
    batch = recipe.budget.batch
    return -(-recipe.budget.pairs // batch) * batch


def _recipe(card: StudyCard, name: str, called: str = "") -> PretrainingCard:
    recipe = registry.recipe(name)
    budget = recipe.budget.model_copy(update={"pairs": card.budget.pairs, "schedule": "constant"})
    # The title of a backbone is its name in tables: recipes that differ in their shares alone may not share it.
    return recipe.model_copy(update={"name": called or name, "title": called or name, "budget": budget})
