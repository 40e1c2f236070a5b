"""Files of a folder of one's own to start from: where they go, that nothing is written over, and what to type next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark import registry
from benchmark.errors import UsageError
from benchmark.files import write_atomically
from benchmark.own import catalogue

_MODULE = re.compile(r"[a-z][a-z0-9_]*")
_CARD = re.compile(r"[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True)
class Started:
    """The files that were written, and the command to give next."""

    files: tuple[Path, ...]
    next: str


def module_name(room: str, name: str) -> str:
    """The name as that of a module, underscores for dashes.

    Raises:
        UsageError: it cannot be one, or LOBE has a module of that name in the room.
    """
    module = name.replace("-", "_")
    if not _MODULE.fullmatch(module):
        raise UsageError(f"{name!r} cannot be the name of a module: small letters, digits and underscores, a letter first.")
    if module in catalogue.shipped(room) or (room == "heads" and module in registry.heads()):
        raise UsageError(f"LOBE has a {room.removesuffix('s')} {module} already, benchmark/{room}/{module}.py: take another name.")
    return module


def card_name(name: str) -> str:
    """The name as it is. Raises UsageError where it cannot be that of a card."""
    if not _CARD.fullmatch(name):
        raise UsageError(f"{name!r} cannot be the name of a card: small letters, digits, dashes, dots and underscores.")
    return name


def start(folder: Path, texts: Mapping[str, str], then: str) -> Started:
    """Writes files into a folder of one's own, all of them or none.

    Args:
        texts: path below the folder -> content.
        then: the next command; `{folder}` stands for the folder.

    Raises:
        UsageError: one of them is there already, or the folder cannot be written.
    """
    files = {folder / name: text for name, text in texts.items()}
    if there := [path for path in files if path.exists()]:
        raise UsageError(f"{there[0]} exists already: take another name, or move it away.")
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode())
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}.") from None
    return Started(tuple(files), then.format(folder=shlex.quote(str(folder))))
