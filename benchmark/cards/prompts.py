"""Prompts: the wording of zero-shot tasks, as a card and as the texts of a job."""

from __future__ import annotations

from typing import Literal

from benchmark.cards.base import Card


class PromptTemplate(Card):
    """Wording around a class's own words, which stand for `{}`. With a negative the class is asked for as a pair."""

    positive: str = "{}"
    negative: str | None = None


class PromptCard(Card):
    """A set of prompts for zero-shot classification: data, frozen before any test split is opened.

    Attributes:
        classes: class -> lists of words; its prompts are all combinations, one of each list, joined by blanks, the first list slowest.
        templates: each is one paraphrase set of its own.
        draw: so many prompts of each class, drawn without replacement by Python's generator seeded with `seed`; None takes all.
        combine: how the prompts of a class become one score.
    """

    name: str
    title: str
    source: str
    classes: dict[str, tuple[tuple[str, ...], ...]]
    templates: tuple[PromptTemplate, ...] = (PromptTemplate(),)
    draw: int | None = None
    seed: int | None = None
    combine: Literal["max", "mean"] = "mean"


class PromptTexts(Card):
    """Prompts of one paraphrase set, drawn and filled in: class -> texts. `negatives` is empty unless a class is asked for as a pair."""

    positives: dict[str, tuple[str, ...]]
    negatives: dict[str, tuple[str, ...]] = {}


class AskedPrompts(Card):
    """Every prompt of a job, one entry per paraphrase set, and how those of a class become one score."""

    sets: tuple[PromptTexts, ...]
    combine: Literal["max", "mean"] = "mean"
