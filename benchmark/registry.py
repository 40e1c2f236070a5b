"""Finds content: cards beside the package or inside the wheel, and readers, encoders, heads and metrics by module name, shipped or own.

Cards are parsed once per process. Nothing here imports torch; plug-ins are imported when first asked for. How a module of a user's own is
found, read and run: `benchmark.own`.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from benchmark import card_files, grid, panel_files
from benchmark.card_files import CardFault
from benchmark.cards import (
    BackboneCard,
    Card,
    CollectionCard,
    DatasetCard,
    GridCard,
    HeadFacts,
    LineupCard,
    PanelCard,
    PaperCard,
    PretrainingCard,
    PromptCard,
    Protocol,
    ReleaseCard,
    SuiteCard,
    TaskCard,
)
from benchmark.errors import CardError, LobeError, UnknownName
from benchmark.own import catalogue, contract
from benchmark.own.loading import load
from benchmark.own.rooms import OwnModule

AnyCard = TypeVar("AnyCard", bound=Card)

HEAD_ROOMS = ("heads", "kinds")

_included = catalogue.FOLDERS
_files: dict[tuple[str, str], Path] = {}  # (section, name) -> where the card stands; filled as sections are read


@contextlib.contextmanager
def collecting() -> Iterator[list[CardFault]]:
    """While it lasts, cards that cannot be used are left out, and what is wrong with them is noted in what it gives."""
    forget()
    try:
        with card_files.collecting() as found:
            yield found
    finally:
        forget()


def include(folder: Path) -> None:
    """Adds a user's own folder: cards in `tasks/`, `datasets/`, `backbones/` and `results/`, which are marked custom, and modules in
    `readers/`, `heads/`, `metrics/` and `encoders/`."""
    if not folder.is_dir():
        raise CardError(f"--include {folder}: no such folder.")
    if folder.resolve() not in _included:
        _included.append(folder.resolve())
    forget()


def included() -> tuple[Path, ...]:
    """The user's own folders of cards and code."""
    return tuple(_included)


def forget() -> None:
    """Lets go of what was parsed, so that it is read again."""
    _files.clear()
    cards = (tasks, suites, grids, protocols, prompts, datasets, collections, releases)
    sections = (*cards, backbones, pretraining, lineups, heads, papers, panels)
    for cached in (*sections, _listed_tasks, _listed_suites, _cells):
        cached.cache_clear()
    card_files.forget()
    catalogue.forget()


def content(folder: str) -> Path:
    """The shipped folder of that name: the wheel's copy if it exists, else the one beside the package."""
    inside = Path(__file__).parent / "content" / folder
    return inside if inside.is_dir() else Path(__file__).parent.parent / folder


@cache
def tasks() -> dict[str, TaskCard]:
    """Tasks in file order, then the cells of grids."""
    listed = _listed_tasks() | {cell.id: cell for name in grids() for cell in _cells(name)}
    return {name: _with_all_protocols(card) for name, card in listed.items()}


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
def collections() -> dict[str, CollectionCard]:
    return _cards("datasets", "collections", CollectionCard, key="name")


@cache
def releases() -> dict[str, ReleaseCard]:
    """How releases are had, by the folder that dataset cards name."""
    return _cards("datasets", "releases", ReleaseCard, key="name")


@cache
def backbones() -> dict[str, BackboneCard]:
    return _cards("backbones", "backbones", BackboneCard, key="name")


@cache
def pretraining() -> dict[str, PretrainingCard]:
    """Recipes of pretraining."""
    return _cards("tasks", "pretraining", PretrainingCard, key="name")


@cache
def lineups() -> dict[str, LineupCard]:
    """Which backbones a reference panel is measured from."""
    return _cards("backbones", "lineups", LineupCard, key="name")


@cache
def heads() -> dict[str, HeadFacts]:
    """What every head says of itself, by name; a kind that trains nothing stands for its head. No framework is imported for it.

    A head of the user's own that cannot be read is left out: whoever asks for it by name hears why.
    """
    modules = {name: plugin(room, name) for room in HEAD_ROOMS for name in catalogue.shipped(room)}
    found: dict[str, HeadFacts] = {name: module.FACTS for name, module in modules.items() if hasattr(module, "FACTS")}
    for name in catalogue.names("heads"):
        with contextlib.suppress(LobeError):
            found.setdefault(name, head(name))
    return found


@cache
def papers() -> dict[str, PaperCard]:
    return _cards("results", "papers", PaperCard, key="name")


@cache
def panels() -> dict[str, PanelCard]:
    """Frozen reference panels by version, the newest last.

    Raises:
        CardError: a file is no panel, or was edited.
    """
    return panel_files.read_all([content("results"), *(folder / "results" for folder in _included)])


def task(name: str) -> TaskCard:
    return _named("task", name, tasks())


def suite(name: str) -> SuiteCard:
    return _named("suite", name, suites())


def dataset(name: str) -> DatasetCard:
    return _named("dataset", name, datasets())


def recipe(name: str) -> PretrainingCard:
    return _named("recipe", name, pretraining())


def lineup(name: str) -> LineupCard:
    return _named("line-up", name, lineups())


def panel(version: str) -> PanelCard:
    return _named("panel", version, panels())


def protocol(name: str) -> Protocol:
    return _named("protocol", name, protocols())


def head(name: str) -> HeadFacts:
    """What a head says of itself; imports that head's module alone. One of the user's own is read and not run where it says so plainly.

    Raises:
        UnknownName: no such head.
        CardError: it is the user's own and cannot be used.
    """
    if (own := catalogue.find("heads", name)) is not None:
        own.require_whole()
        read = contract.facts_in(own.file)
        return _facts_run(own, plugin("heads", name)) if read is None else read
    for room in HEAD_ROOMS:
        with contextlib.suppress(UnknownName, AttributeError):
            facts: HeadFacts = plugin(room, name).FACTS
            return facts
    raise UnknownName("head", name, heads())


def paper(name: str) -> PaperCard:
    return _named("paper", name, papers())


def is_custom(card_name: str, section: str) -> bool:
    """True when the card came from an included folder.

    Args:
        section: as in a card file: tasks, suites, grids, protocols, prompts, datasets, collections, backbones or papers. So are
            cells of a custom grid.
    """
    origin = file_of(card_name, section)
    return origin is not None and any(folder in origin.parents for folder in _included)


def file_of(card_name: str, section: str) -> Path | None:
    """The file that the card stands in, that of its grid for a cell or a suite of one; None where there is no such card."""
    if section in ("tasks", "suites") and (section, card_name) not in _origins(section):
        held = next((name for name in grids() if card_name == name or card_name in {cell.id for cell in _cells(name)}), None)
        return None if held is None else file_of(held, "grids")
    return _origins(section).get((section, card_name))


def custom_cards() -> frozenset[tuple[str, str]]:
    """(section, name) of every card from an included folder; empty without reading anything where none is included."""
    if not _included:
        return frozenset()
    every: dict[str, Callable[[], Iterable[str]]] = {
        "tasks": tasks,
        "suites": suites,
        "protocols": protocols,
        "prompts": prompts,
        "datasets": datasets,
        "backbones": backbones,
        "papers": papers,
    }
    return frozenset((section, name) for section, cards in every.items() for name in cards() if is_custom(name, section))


def plugins(room: str) -> tuple[str, ...]:
    """Names of the modules of `benchmark.<room>` that can be asked for by name, all but `base`, packages and those with an underscore; and
    of the user's own."""
    return tuple(sorted({*catalogue.shipped(room), *catalogue.names(room)}))


def defines(room: str, name: str, function: str) -> bool:
    """Whether the module defines the function; its text is read and nothing imported, as a module may need a framework."""
    if (own := catalogue.find(room, name)) is not None:
        with contextlib.suppress(CardError):
            return function in contract.names_in(own.file)
        return False
    found = importlib.util.find_spec(f"benchmark.{room}.{name}")
    if found is None or found.origin is None:
        return False
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


def plugin(room: str, name: str) -> ModuleType:
    """The module `benchmark.<room>.<name>`, or the user's own of that name; dashes in names become underscores.

    Raises:
        UnknownName: no such module.
        CardError: it is the user's own and cannot be used, or its name is taken twice.
        CheckpointChanged: it is the user's own, and another one than the running jobs were planned with.
    """
    module = name.replace("-", "_")
    if catalogue.find(room, module) is not None:
        return load(catalogue.planned(room, module))
    if module not in catalogue.shipped(room):
        raise UnknownName(room.rstrip("s"), name, plugins(room))
    return importlib.import_module(f"benchmark.{room}.{module}")


def optional(room: str, name: str, function: str) -> Any:
    """A function that the module may offer, or None. One of the user's own is not run where it has none."""
    if catalogue.find(room, name) is not None and not defines(room, name, function):
        return None
    return getattr(plugin(room, name), function, None)


def _facts_run(own: OwnModule, module: ModuleType) -> HeadFacts:
    facts = module.FACTS
    if not isinstance(facts, HeadFacts):
        line = contract.names_in(own.file).get("FACTS", 1)
        raise CardError(f"{own.file}:{line}: FACTS is a {type(facts).__name__}; HeadFacts is expected.")
    return facts


@cache
def _listed_tasks() -> dict[str, TaskCard]:
    return _cards("tasks", "tasks", TaskCard, key="id")


@cache
def _listed_suites() -> dict[str, SuiteCard]:
    return _cards("tasks", "suites", SuiteCard, key="name")


def _with_all_protocols(card: TaskCard) -> TaskCard:
    """The card with the protocols that stand alongside those it names."""
    joined = tuple(rules.name for rules in protocols().values() if rules.alongside in card.protocols and rules.name not in card.protocols)
    return card.model_copy(update={"protocols": (*card.protocols, *joined)}) if joined else card


def _with_all_tasks(card: SuiteCard, known: dict[str, SuiteCard]) -> SuiteCard:
    for name in card.suites:
        if name not in known or known[name].suites:
            why = "there is no such suite" if name not in known else "that is made of suites itself"
            raise CardError(f"Suite {card.name}: it is made of the suite {name!r}, and {why}. Name suites that list their tasks.")
    tasks = tuple(dict.fromkeys([*card.tasks, *(task for name in card.suites for task in known[name].tasks)]))
    if not tasks:
        raise CardError(f"Suite {card.name} has no task: list some under `tasks`, or suites under `suites`.")
    return card.model_copy(update={"tasks": tasks})


@cache
def _cells(name: str) -> list[TaskCard]:
    card = grids()[name]
    listed = _listed_tasks()
    lending = [task_id for parent in card.parents for task_id in _named("suite", parent, _listed_suites()).tasks]
    return grid.cells(card, [listed[task_id] for task_id in lending], datasets(), head)


def _named(kind: str, name: str, known: dict[str, AnyCard]) -> AnyCard:
    if name not in known:
        raise UnknownName(kind, name, known)
    return known[name]


def _origins(section: str) -> dict[tuple[str, str], Path]:
    """(section, name) -> file, of the cards of a section, which are read for it if they were not."""
    read = {
        "tasks": _listed_tasks,
        "suites": _listed_suites,
        "grids": grids,
        "protocols": protocols,
        "prompts": prompts,
        "datasets": datasets,
        "collections": collections,
        "backbones": backbones,
        "lineups": lineups,
        "papers": papers,
    }
    if not any(of == section for of, _ in _files):
        read[section]()
    return _files


def _cards(folder: str, section: str, model: type[AnyCard], key: str) -> dict[str, AnyCard]:
    """All cards of one kind."""
    found, origin = card_files.read([content(folder), *(f / folder for f in _included)], section, model, key)
    _files.update({(section, name): path for name, path in origin.items()})
    return found
