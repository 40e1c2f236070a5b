"""From a prompt card to the texts a text encoder reads. No tensors here: what texts are worth is decided in `zero_shot`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from benchmark.cards import AskedPrompts, DatasetRef, PromptCard, PromptTemplate, PromptTexts, TaskCard, Words
from benchmark.errors import CardError


@dataclass(frozen=True)
class PromptSet:
    """Texts by class, in class order.

    Attributes:
        positives: class -> texts that say it is there.
        negatives: class -> texts that say it is not; empty unless the class is asked for as a pair.
    """

    positives: dict[str, tuple[str, ...]]
    negatives: dict[str, tuple[str, ...]]

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text once, positives first."""
        listed = [text for side in (self.positives, self.negatives) for texts in side.values() for text in texts]
        return tuple(dict.fromkeys(listed))


def prompt_sets(card: PromptCard) -> list[PromptSet]:
    """One set per template. Classes draw one after the other from one generator, so their order decides the draw.

    Raises:
        CardError: a draw of more prompts than there are, or without a seed.
    """
    return [_set(card, template) for template in card.templates]


def asked_of(task: TaskCard, words: Words, dataset: DatasetRef, prompts: Mapping[str, PromptCard]) -> AskedPrompts | None:
    """What a task asks with, of the prompts that its card or protocol names; None for one that asks without prompts.

    Raises:
        CardError: there are no such prompts, or they have no words for a class.
    """
    if words.prompts is None:
        return None
    if words.prompts not in prompts:
        raise CardError(f"Task {task.id} asks with the prompts {words.prompts!r}, which no card in tasks/ defines.")
    card = prompts[words.prompts]
    missing = [name for name in dataset.classes if name not in card.classes]
    if missing:
        raise CardError(f"Prompts {card.name} have no words for {', '.join(missing)}, which task {task.id} asks for.")
    sets = []
    for found in prompt_sets(card):
        # Only what is asked: words of other datasets' classes decide no digit here.
        positives, negatives = ({c: side[c] for c in dataset.classes if c in side} for side in (found.positives, found.negatives))
        sets.append(PromptTexts(positives=positives, negatives=negatives))
    return AskedPrompts(sets=tuple(sets), combine=card.combine)


def combinations(lists: tuple[tuple[str, ...], ...]) -> list[str]:
    """Every prompt of a class in the source's order, repetitions included; empty words leave their blanks, as in the source."""
    return [" ".join(chosen) for chosen in product(*lists)]


def _set(card: PromptCard, template: PromptTemplate) -> PromptSet:
    generator = random.Random(card.seed)
    positives, negatives = {}, {}
    for name, lists in card.classes.items():
        words = combinations(lists)
        if card.draw is not None:
            if card.seed is None or card.draw > len(words):
                raise CardError(f"Prompts {card.name}, class {name}: cannot draw {card.draw} of {len(words)} with seed {card.seed}.")
            words = generator.sample(words, card.draw)
        positives[name] = tuple(template.positive.format(text) for text in words)
        if template.negative is not None:
            negatives[name] = tuple(template.negative.format(text) for text in words)
    return PromptSet(positives, negatives)
