"""Studies: which pretraining methods are compared, on what budget and from which seeds, what is claimed of them, and what judges it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import field_validator, model_validator

from benchmark.cards.base import Card

RETRIEVAL = "retrieval"  # of held-out reports by their images, which a pretraining measures on its way
START = "start"  # the encoder before its first step


class StudyBudget(Card):
    """
    Attributes:
        pairs: shown to every member; takes the place of the recipes'. The rate is constant after its rise, so that a checkpoint on the way
            misses no fall. Only of a recipe without a rise and a method without stages is it what a smaller budget would have left: both
            are shares of the whole budget.
        checkpoints: shares of the pairs at which methods are also evaluated; the start and the end always are.
        equal_compute: each method is also evaluated where it has cost what the cheapest method costs in all.
        minutes: for all pretrainings, as forecast from measured steps; where they take longer, the last seeds are left out, and the report
            says so. None leaves none out.
    """

    pairs: int
    checkpoints: tuple[float, ...] = ()
    equal_compute: bool = True
    minutes: float | None = None

    @field_validator("checkpoints")
    @classmethod
    def _on_the_way(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        return _shares(shares)


class StudyClaim(Card):
    """What a method's paper says of it, as something that can fail.

    Attributes:
        recipe: the method.
        against: what it was published against: another recipe.
        measures: tasks, or `retrieval`.
        says: the claim in words.
    """

    recipe: str
    against: str
    measures: tuple[str, ...]
    says: str


class StudyAblation(Card):
    """A method beside itself without one part.

    Attributes:
        without: recipe of the same method, equal in all but its part.
        part: what is left out, in words.
    """

    recipe: str
    without: str
    part: str


class StudyLadder(Card):
    """One method on shares of the patients, at the same number of pairs shown; the whole is the method itself."""

    recipe: str
    shares: tuple[float, ...]

    @field_validator("shares")
    @classmethod
    def _below_the_whole(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        return _shares(shares)


class StudyEvaluation(Card):
    """What judges every backbone: jobs of the benchmark, as `lobe run` takes them.

    Attributes:
        suite, tasks: at least one of both; what the suite has and others.
        runs: seeds of a task.
        limit, profile: as `lobe run`; scores of limited runs are never ranked.
    """

    suite: str | None = None
    tasks: tuple[str, ...] = ()
    protocol: str | None = None
    runs: int = 3
    limit: int | None = None
    profile: Literal["full", "smoke"] = "full"

    @model_validator(mode="after")
    def _judges(self) -> StudyEvaluation:
        if self.suite is None and not self.tasks:
            raise ValueError("no suite and no tasks: nothing judges the backbones")
        return self


class StudyCard(Card):
    """A comparison of pretraining methods, from recipes to a report.

    Attributes:
        recipes: methods to compare; their recipes have equal pairs, towers and budget, groups and stages left out (`study.reading`).
        seeds: of pretraining. A sentence about a method needs three.
        shuffled: methods that are also trained with every image beside another one's report, from which they should gain nothing.
    """

    name: str
    title: str
    recipes: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    budget: StudyBudget
    claims: tuple[StudyClaim, ...] = ()
    ablations: tuple[StudyAblation, ...] = ()
    ladder: StudyLadder | None = None
    shuffled: tuple[str, ...] = ()
    evaluation: StudyEvaluation

    @model_validator(mode="after")
    def _names_its_own(self) -> StudyCard:
        if not self.recipes or not self.seeds:
            raise ValueError("a study needs a recipe and a seed")
        for what, names in (("recipes", self.recipes), ("seeds", self.seeds), ("shuffled", self.shuffled)):
            if len(set(names)) < len(names):
                raise ValueError(f"{what}: one stands there twice")
        for what, name in self.named():
            if name not in self.recipes:
                raise ValueError(f"{what}: {name} is none of this study's recipes ({', '.join(self.recipes)})")
        return self

    def named(self) -> Iterator[tuple[str, str]]:
        """Where a recipe of the study is named, and which; ablations' own recipes are others."""
        for number, claim in enumerate(self.claims):
            yield f"claims.{number}.recipe", claim.recipe
            yield f"claims.{number}.against", claim.against
        yield from ((f"ablations.{number}.recipe", one.recipe) for number, one in enumerate(self.ablations))
        yield from ((f"shuffled.{number}", name) for number, name in enumerate(self.shuffled))
        if self.ladder is not None:
            yield "ladder.recipe", self.ladder.recipe


def _shares(shares: tuple[float, ...]) -> tuple[float, ...]:
    if list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
        raise ValueError("rising shares between 0 and 1, both left out")
    return shares
