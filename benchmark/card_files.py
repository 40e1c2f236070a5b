"""Reads files of cards: lists under section names, each entry held to its model; a fault is raised, or noted with its place.

A text is parsed once per process; nobody may change what came of it. Keys of a file that start with `x-` hold shared YAML blocks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from benchmark import yaml_files
from benchmark.cards import Card
from benchmark.errors import CardError
from benchmark.files import read_text

AnyCard = TypeVar("AnyCard", bound=Card)


@dataclass(frozen=True)
class CardFault:
    """Something wrong in a card file.

    Attributes:
        place: keys and indices that lead to it from the top of the file; empty of a file that cannot be read.
    """

    file: Path
    place: tuple[str | int, ...]
    sentence: str


_noted: list[CardFault] | None = None  # where faults are noted instead of raised


@contextlib.contextmanager
def collecting() -> Iterator[list[CardFault]]:
    """While it lasts, cards that cannot be used are left out, and what is wrong with them is noted in what it gives."""
    global _noted
    _noted = []
    try:
        yield _noted
    finally:
        _noted = None


def forget() -> None:
    """Lets go of what was parsed, so that it is read again."""
    _load.cache_clear()


def read(folders: Sequence[Path], section: str, model: type[AnyCard], key: str) -> tuple[dict[str, AnyCard], dict[str, Path]]:
    """All cards of a section by name, in the order of folders and files, and the file of each.

    Args:
        key: of the card's name.

    Raises:
        CardError: a file cannot be read, a card is none, or two have one name.
    """
    found: dict[str, AnyCard] = {}
    origin: dict[str, Path] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("[!.]*.yaml"))):
        for place, entry in enumerate(_section(path, section)):
            try:
                card = model.model_validate(entry)
            except ValidationError as error:
                name = entry.get(key, "?") if isinstance(entry, dict) else entry
                wrong = [f"key {'.'.join(map(str, one['loc']))!r}: {one['msg']}" for one in error.errors()]
                whole = CardError(f"{path.name}: card {name!r}, {'; '.join(wrong)}.")
                _refuse(whole, [_of_key(path, section, place, name, one) for one in error.errors()])
                continue
            name = getattr(card, key)
            if name in found:
                twice = f"{name!r} is already defined in {origin[name].name}."
                _refuse(CardError(f"{path.name}: {twice}"), [CardFault(path, (section, place, key), twice)])
                continue
            found[name], origin[name] = card, path
    return found, origin


def _refuse(error: CardError, faults: list[CardFault]) -> None:
    if _noted is None:
        raise error
    _noted.extend(faults)


def _of_key(path: Path, section: str, place: int, name: object, wrong: Any) -> CardFault:
    """What is wrong with a key, as pydantic says it, and what stands there."""
    key, given = ".".join(map(str, wrong["loc"])), wrong["input"]
    if wrong["type"] == "missing":
        there = ", ".join(map(str, given)) if isinstance(given, dict) else repr(given)
        said = f"it is missing; there are {there}" if there else "it is missing"
    else:
        said = f"{wrong['msg']}; here it is {given!r:.80}"
    return CardFault(path, (section, place, *wrong["loc"]), f"{section.rstrip('s')} {name}: key {key!r}: {said}.")


def _section(path: Path, section: str) -> list[Any]:
    try:
        listed = _load(path).get(section) or []
    except CardError as error:
        _refuse(error, [CardFault(path, (), str(error).removeprefix(f"{path}: "))])
        return []
    if not isinstance(listed, list):
        said = f"`{section}` is a list of cards, one `- ` each, and here it is a {type(listed).__name__}."
        _refuse(CardError(f"{path.name}: {said}"), [CardFault(path, (section,), said)])
        return []
    return listed


@cache
def _load(path: Path) -> dict[str, Any]:
    try:
        loaded = _parsed(read_text(path))
    except yaml.YAMLError as error:
        raise CardError(f"{path}: not valid YAML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    if not isinstance(loaded, dict):
        raise CardError(f"{path}: a card file is a mapping with lists under `tasks`, `suites`, `datasets`, `backbones` or `papers`.")
    return loaded


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    """Of the text, not of the file: what is read again after `forget` has mostly not changed, and parsing is all of the time it takes."""
    return yaml_files.parse(text)
