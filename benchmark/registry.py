"""Finds content: cards beside the package or inside the wheel, and readers, encoders and heads by module name.

Cards are parsed once per process. Nothing here imports torch; plug-ins are imported when first asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import yaml
from pydantic import ValidationError

from benchmark import grid
from benchmark.cards import BackboneCard, Card, DatasetCard, GridCard, PromptCard, Protocol, SuiteCard, TaskCard
from benchmark.errors import CardError, UnknownName
from benchmark.files import open_regular

AnyCard = TypeVar("AnyCard", bound=Card)

_included: list[Path] = []


def include(folder: Path) -> None:
    """Adds a user's own folder with `tasks/`, `datasets/` and `backbones/` sub-folders; its cards are marked custom."""
    if not folder.is_dir():
        raise CardError(f"--include {folder}: no such folder.")
    _included.append(folder.resolve())
    for cached in (tasks, suites, grids, protocols, prompts, datasets, backbones):
        cached.cache_clear()


def content(folder: str) -> Path:
    """The shipped folder of that name: the wheel's copy if it exists, else the one beside the package."""
    inside = Path(__file__).parent / "content" / folder
    return inside if inside.is_dir() else Path(__file__).parent.parent / folder


@cache
def tasks() -> dict[str, TaskCard]:
    """Tasks in file order, then the cells of grids."""
    return _listed_tasks() | {cell.id: cell for name in grids() for cell in _cells(name)}


@cache
def suites() -> dict[str, SuiteCard]:
    """Suites in file order, then grids; every suite names all its tasks, those of the suites it is made of included.

    Raises:
        CardError: a suite without a task, or made of a suite that does not exist or is itself made of suites.
    """
    known = _listed_suites() | {name: grid.suite(card, _cells(name)) for name, card in grids().items()}
    return {name: _with_all_tasks(card, known) for name, card in known.items()}


@cache
def grids() -> dict[str, GridCard]:
    return _cards("tasks", "grids", GridCard, key="name")


@cache
def protocols() -> dict[str, Protocol]:
    return _cards("tasks", "protocols", Protocol, key="name")


@cache
def prompts() -> dict[str, PromptCard]:
    return _cards("tasks", "prompts", PromptCard, key="name")


@cache
def datasets() -> dict[str, DatasetCard]:
    return _cards("datasets", "datasets", DatasetCard, key="name")


@cache
def backbones() -> dict[str, BackboneCard]:
    return _cards("backbones", "backbones", BackboneCard, key="name")


def task(name: str) -> TaskCard:
    return _named("task", name, tasks())


def suite(name: str) -> SuiteCard:
    return _named("suite", name, suites())


def dataset(name: str) -> DatasetCard:
    return _named("dataset", name, datasets())


def protocol(name: str) -> Protocol:
    return _named("protocol", name, protocols())


def is_custom(card_name: str, kind: str) -> bool:
    """True when the card came from an included folder."""
    return card_name in _custom_names(kind)


def plugin(room: str, name: str) -> ModuleType:
    """The module `benchmark.<room>.<name>`; dashes in names become underscores.

    Raises:
        UnknownName: no such module.
    """
    module = f"benchmark.{room}.{name.replace('-', '_')}"
    if importlib.util.find_spec(module) is None:
        here = Path(__file__).parent / room
        known = sorted(p.stem for p in here.glob("*.py") if not p.stem.startswith("_") and p.stem != "base")
        raise UnknownName(room.rstrip("s"), name, known)
    return importlib.import_module(module)


def _listed_tasks() -> dict[str, TaskCard]:
    return _cards("tasks", "tasks", TaskCard, key="id")


def _listed_suites() -> dict[str, SuiteCard]:
    return _cards("tasks", "suites", SuiteCard, key="name")


def _with_all_tasks(card: SuiteCard, known: dict[str, SuiteCard]) -> SuiteCard:
    for part in card.suites:
        if part not in known or known[part].suites:
            why = "there is no such suite" if part not in known else "that is made of suites itself"
            raise CardError(f"Suite {card.name}: it is made of the suite {part!r}, and {why}. Name suites that list their tasks.")
    tasks = tuple(dict.fromkeys([*card.tasks, *(task for part in card.suites for task in known[part].tasks)]))
    if not tasks:
        raise CardError(f"Suite {card.name} has no task: list some under `tasks`, or suites under `suites`.")
    return card.model_copy(update={"tasks": tasks})


def _cells(name: str) -> list[TaskCard]:
    card = grids()[name]
    listed = _listed_tasks()
    lending = [task_id for parent in card.parents for task_id in _named("suite", parent, _listed_suites()).tasks]
    return grid.cells(card, [listed[task_id] for task_id in lending], datasets())


def _named(kind: str, name: str, known: dict[str, AnyCard]) -> AnyCard:
    if name not in known:
        raise UnknownName(kind, name, known)
    return known[name]


def _custom_names(kind: str) -> set[str]:
    names: set[str] = set()
    for folder in _included:
        for path in sorted((folder / kind).glob("*.yaml")):
            for value in _load(path).values():
                if isinstance(value, list):
                    names.update(str(v.get("id", v.get("name"))) for v in value if isinstance(v, dict))
    return names


def _cards(folder: str, section: str, model: type[AnyCard], key: str) -> dict[str, AnyCard]:
    """All cards of one kind. A file holds lists under section names; keys starting with `x-` hold shared YAML blocks."""
    found: dict[str, AnyCard] = {}
    origin: dict[str, Path] = {}
    for root in [content(folder), *(f / folder for f in _included)]:
        for path in sorted(root.glob("*.yaml")):
            for entry in _load(path).get(section, []):
                try:
                    card = model.model_validate(entry)
                except ValidationError as error:
                    first = error.errors()[0]
                    where = ".".join(str(p) for p in first["loc"])
                    name = entry.get(key, "?") if isinstance(entry, dict) else entry
                    raise CardError(f"{path.name}: card {name!r}, key {where!r}: {first['msg']}.") from None
                name = getattr(card, key)
                if name in found:
                    raise CardError(f"{path.name}: {name!r} is already defined in {origin[name].name}.")
                found[name], origin[name] = card, path
    return found


@cache
def _load(path: Path) -> dict:
    try:
        with open_regular(path, "r", encoding="utf-8") as handle:
            loaded = yaml.load(handle, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise CardError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(loaded, dict):
        raise CardError(f"{path}: a card file is a mapping with lists under `tasks`, `suites`, `datasets` or `backbones`.")
    return loaded
