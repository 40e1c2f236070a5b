"""Finds modules of a user's own by room and name: in sub-folders of included folders, and by the entry points of installed packages.

A file of a room is a module of it when it defines any of what the room asks for, or is no Python; others are helpers. Nothing is imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmark.errors import CardError
from benchmark.own.contract import OWED, PAGE, missing_in, names_in
from benchmark.own.source import Code, code_of

ROOMS = tuple(OWED)
GROUPS = {"readers": "lobe.readers", "heads": "lobe.heads", "metrics": "lobe.metrics"}  # backbones: `encoders.naming`
_WORDS = {"readers": "reader", "heads": "head", "metrics": "family of metrics", "encoders": "family of backbones"}


@dataclass(frozen=True)
class OwnModule:
    """
    Attributes:
        room: "readers", "heads", "metrics" or "encoders".
        name: of the module, by which cards call it.
        file: where it lies.
        base: the included folder; of an installed module, where its top-level package lies.
        dotted: of an installed module: its full name. Empty for one of a folder.
    """

    room: str
    name: str
    file: Path
    base: Path
    dotted: str = ""

    @property
    def what(self) -> str:
        """For a sentence: `head mine`."""
        return f"{_WORDS[self.room]} {self.name}"

    @property
    def where(self) -> str:
        """For a sentence: its file, and by whose word it is there."""
        return f"{self.file} (the installed module {self.dotted})" if self.dotted else str(self.file)

    def require_whole(self) -> None:
        """Raises CardError where it lacks something of what it owes, or is no Python."""
        missing = missing_in(self.room, self.file)
        if missing:
            owed = " and ".join(OWED[self.room])
            raise CardError(f"{self.file}:1: it has no {' and no '.join(missing)}; a {_WORDS[self.room]} has {owed}. {PAGE}")

    def planned(self) -> PlannedModule:
        """The module with its code as it is now. Raises CardError where a file of it cannot be read."""
        return PlannedModule(self, code_of(self.file, self.base, self.dotted.partition(".")[0]))


@dataclass(frozen=True)
class PlannedModule:
    """A module that jobs are planned with: what runs is held to its code, wherever it runs."""

    module: OwnModule
    code: Code

    @property
    def key(self) -> str:
        """As an experiment names it: `heads/mine`."""
        return f"{self.module.room}/{self.module.name}"


def in_folder(base: Path) -> Iterator[OwnModule]:
    """The modules of an included folder, by room and name.

    Args:
        base: resolved.
    """
    for room in ROOMS:
        folder = base / room
        for file in sorted(folder.glob("*.py")) if folder.is_dir() else ():
            if not file.name.startswith(("_", ".")) and file.stem != "base" and _is_of(room, file):
                yield OwnModule(room, file.stem, file, base)


def installed() -> Iterator[OwnModule]:
    """The modules that installed packages offer. One whose file cannot be found is passed over: asked for by name, it is unknown."""
    for room, group in GROUPS.items():
        for point in metadata.entry_points(group=group):
            top = point.module.partition(".")[0]
            try:
                found, above = importlib.util.find_spec(point.module), importlib.util.find_spec(top)
            except Exception:  # finding a module imports the packages above it, which may break in any way
                continue
            if found is None or not found.origin or above is None or not above.origin or point.attr:
                continue
            root = Path(above.origin).parent
            base = root.parent if above.submodule_search_locations is not None else root
            yield OwnModule(room, point.name.replace("-", "_"), Path(found.origin), base, point.module)


def _is_of(room: str, file: Path) -> bool:
    try:
        there = names_in(file)
    except CardError:
        return True
    return "*" in there or any(name in there for name in OWED[room])
