"""Reads a study's file: every fault with its line, and every name in it is one that exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from benchmark import registry, resolve, yaml_files
from benchmark.cards import PretrainingCard, StudyCard
from benchmark.cards.studies import RETRIEVAL
from benchmark.errors import CardError, LobeError, UnknownName

FOLDER = "studies"  # of the shipped ones, beside the recipes
# What methods have in common, or the difference is not theirs.
EQUAL: dict[str, Callable[[PretrainingCard], Any]] = {
    "dataset": lambda card: (card.pairs.dataset, card.pairs.share, card.pairs.fewest_words, card.pairs.is_shuffled),
    "image tower": lambda card: card.image,
    "text tower": lambda card: card.text,
    "batch": lambda card: (card.budget.batch, card.budget.precision, card.budget.clip, card.budget.warm_up),
    "optimiser": lambda card: card.optimiser,
}


def read(name: Path) -> StudyCard:
    """The study of a file, or a shipped one by its name.

    Raises:
        CardError: it cannot be read, is no study, or names what does not exist; the sentence begins with file and line.
    """
    path = _file(name)
    try:
        content = yaml_files.read(path)
    except yaml.YAMLError as error:
        raise CardError(f"{path}: not valid YAML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    try:
        card = StudyCard.model_validate(content)
    except ValidationError as error:
        raise CardError("\n".join(_said(path, one) for one in error.errors())) from None
    for place, fault in _faults(card):
        raise CardError(f"{path}:{yaml_files.line_of(path, place)}: key {'.'.join(map(str, place))!r}: {fault}")
    return card


def shipped() -> tuple[str, ...]:
    """Names of the studies that LOBE brings along."""
    return tuple(sorted(path.stem for path in (registry.content("tasks") / FOLDER).glob("*.yaml")))


def tasks_of(card: StudyCard) -> tuple[str, ...]:
    """Tasks that judge its backbones: those of the suite, and others in the order of the card."""
    judged = card.evaluation
    of_suite = [] if judged.suite is None else resolve.tasks((), judged.suite)
    others = resolve.tasks(judged.tasks, None) if judged.tasks else []
    return tuple(dict.fromkeys(task.id for task in (*of_suite, *others)))


def _file(name: Path) -> Path:
    if name.is_file():
        return name
    path = registry.content("tasks") / FOLDER / f"{name}.yaml"
    if len(name.parts) == 1 and path.is_file():
        return path
    raise CardError(f"{name}: no such file, and no shipped study of that name; there are {', '.join(shipped())}.")


def _said(path: Path, wrong) -> str:
    place = wrong["loc"]
    said = wrong["msg"].removeprefix("Value error, ")
    if not place:  # of the whole card: its sentence begins with the key
        place = tuple(int(step) if step.isdigit() else step for step in said.partition(":")[0].split("."))
    key = f"key {'.'.join(map(str, wrong['loc']))!r}: " if wrong["loc"] else ""
    return f"{path}:{yaml_files.line_of(path, place)}: {key}{said}."


def _faults(card: StudyCard) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where the study names what does not exist or does not fit, and what is wrong with it."""
    for number, name in enumerate(card.recipes):
        yield from _unknown(("recipes", number), name)
    first = registry.recipe(card.recipes[0])
    for number, name in enumerate(card.recipes):
        if unlike := [what for what, of in EQUAL.items() if of(registry.recipe(name)) != of(first)]:
            yield ("recipes", number), f"{name} has another {unlike[0]} than {first.name}: methods are compared on equal terms."
    for number, ablation in enumerate(card.ablations):
        place = ("ablations", number, "without")
        yield from _unknown(place, ablation.without)
        whole, part = registry.recipe(ablation.recipe), registry.recipe(ablation.without)
        if whole.method != part.method:
            yield place, f"{part.name} is a recipe of {part.method}, and {whole.name} one of {whole.method}: no ablation of it."
    try:
        tasks = tasks_of(card)
    except LobeError as error:
        yield ("evaluation",), str(error)
        return
    asked = card.evaluation.protocol
    for name in tasks if asked is not None else ():
        if asked not in (offered := registry.task(name).protocols):
            yield ("evaluation", "protocol"), f"{name} has no protocol {asked!r}; it offers {', '.join(offered)}."
    for number, claim in enumerate(card.claims):
        for name in claim.measures:
            if name != RETRIEVAL and name not in tasks:
                yield ("claims", number, "measures"), f"{name} is no task of the evaluation ({', '.join(tasks)}), nor `{RETRIEVAL}`."


def _unknown(place: tuple[str | int, ...], name: str) -> Iterator[tuple[tuple[str | int, ...], str]]:
    try:
        registry.recipe(name)
    except UnknownName as error:
        yield place, str(error)
