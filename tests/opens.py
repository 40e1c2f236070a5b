"""Counts what a piece of work opens and lists: the measure of bookkeeping that no clock disturbs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_watching: list[list[tuple[str, str]]] = []


def _hook(event: str, arguments: tuple) -> None:
    if not _watching or event not in ("open", "os.scandir", "os.listdir") or not isinstance(arguments[0], str | bytes | Path):
        return
    if event != "open" or arguments[1] is not None:  # `os.open` has no mode: of `open` with an opener it is the second event
        for seen in _watching:
            seen.append((event, os.fsdecode(arguments[0])))


sys.addaudithook(_hook)  # stays for as long as the process does, and does nothing outside `opened`


@contextmanager
def opened() -> Iterator[list[tuple[str, str]]]:
    """(event, path) of every file that is opened and every folder that is listed inside, in order."""
    seen: list[tuple[str, str]] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


def below(folder: Path, seen: list[tuple[str, str]]) -> list[str]:
    """Files of a folder that were opened."""
    return [path for event, path in seen if event == "open" and Path(path).parent == folder]


def listings(folder: Path, seen: list[tuple[str, str]]) -> int:
    """How often a folder was listed."""
    return sum(event != "open" and Path(path) == folder for event, path in seen)
