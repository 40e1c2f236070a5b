"""Reads a study's file: every fault with its line, and every name in it is one that exists."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from benchmark import registry, resolve, yaml_files
from benchmark.cards import PretrainingCard, StudyCard
from benchmark.cards.studies import RETRIEVAL
from benchmark.errors import CardError, LobeError, UnknownName

FOLDER = "studies"  # of the shipped ones, beside the recipes
EQUAL = ("pairs", "image", "text", "budget", "optimiser")  # parts of a recipe that methods have in common, or the difference is not theirs
# Of these, what may differ: what a method draws of a report; what a study sets for all; what a method may need of its own, which the page
# names. Every other key counts, those that come later too: a pairs key may decide which ids remain, to train on and to measure on.
DRAWN = ("pairs.sentences", "pairs.joined")
SET = ("budget.pairs", "budget.schedule", "budget.period")
BY_DESIGN = ("budget.group", "budget.stages")


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
        if unlike := _unlike(registry.recipe(name), first, (*DRAWN, *SET, *BY_DESIGN)):
            yield ("recipes", number), f"{name} has another `{unlike}` than {first.name}: methods are compared on equal terms."
    for number, ablation in enumerate(card.ablations):
        place = ("ablations", number, "without")
        yield from _unknown(place, ablation.without)
        whole, part = registry.recipe(ablation.recipe), registry.recipe(ablation.without)
        if whole.method != part.method:
            yield place, f"{part.name} is a recipe of {part.method}, and {whole.name} one of {whole.method}: no ablation of it."
        elif unlike := _unlike(part, whole, (*DRAWN, *SET)):
            yield place, f"{part.name} has another `{unlike}` than {whole.name}: an ablation differs in its part alone."
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


def _unlike(one: PretrainingCard, other: PretrainingCard, free: Collection[str]) -> str:
    """The first key that has to be equal and is not; empty where all are."""
    values = (_values(one), _values(other))
    return next((key for key, value in values[0].items() if key not in free and value != values[1][key]), "")


def _values(card: PretrainingCard) -> dict[str, Any]:
    """`part.key` -> value, of the parts `EQUAL`."""
    parts = {part: getattr(card, part) for part in EQUAL}
    return {f"{part}.{key}": getattr(content, key) for part, content in parts.items() for key in type(content).model_fields}


def _unknown(place: tuple[str | int, ...], name: str) -> Iterator[tuple[tuple[str | int, ...], str]]:
    try:
        registry.recipe(name)
    except UnknownName as error:
        yield place, str(error)
