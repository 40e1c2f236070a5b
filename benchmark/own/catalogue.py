"""Which modules of a user's own there are by name: of included folders and installed packages, and those that jobs were planned with.

A name means one module. Where LOBE has one of that name too, or a second folder has, whoever asks for it hears both places.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from benchmark.errors import CardError, UnknownName
from benchmark.own import rooms
from benchmark.own.rooms import OwnModule, PlannedModule

FOLDERS: list[Path] = []  # that the user included; `registry.include` adds to them
_stamps: dict[tuple[str, str], tuple[tuple[int, ...], PlannedModule]] = {}  # (room, name) -> state of its files, and what was read of them
_running: list[Mapping[tuple[str, str], PlannedModule]] = []  # (room, name) -> module that the running jobs were planned with


@cache  # asked several times with every job
def shipped(room: str) -> tuple[str, ...]:
    """Names of LOBE's own modules of a room: all of `benchmark.<room>` but `base`, packages and those with an underscore."""
    found = pkgutil.iter_modules(importlib.import_module(f"benchmark.{room}").__path__)
    return tuple(sorted(one.name for one in found if not one.ispkg and one.name != "base" and not one.name.startswith("_")))


def names(room: str) -> tuple[str, ...]:
    """Names of the user's own modules of a room."""
    found = _names_found(room)
    return tuple(sorted({*found, *(name for of, name in _running[-1] if of == room)})) if _running else found


def find(room: str, name: str) -> OwnModule | None:
    """The user's own module of that name, dashes for underscores; None where there is none.

    Raises:
        CardError: LOBE, or another folder or package, has one of that name too.
    """
    if room not in rooms.ROOMS:
        return None
    place = (room, name.replace("-", "_"))
    if _running and place in _running[-1]:
        return _running[-1][place].module
    if not FOLDERS and f"benchmark.{room}.{place[1]}" in sys.modules:
        return None  # the usual case, asked with every job: what packages offer need not be looked at
    found, twice = _found()
    if place in twice:
        raise CardError(twice[place])
    return found.get(place)


def planned(room: str, name: str) -> PlannedModule:
    """The user's own module with its code: that of the running jobs, or as it is now.

    Raises:
        UnknownName: there is none.
        CardError: its name is taken twice, or a file of it cannot be read.
    """
    place = (room, name.replace("-", "_"))
    if _running and place in _running[-1]:
        return _running[-1][place]
    module = find(room, name)
    if module is None:
        raise UnknownName(room.rstrip("s"), name, names(room))
    stamp, known = _stamps.get(place, ((), None))
    if known is None or known.module != module or stamp != _stamp(known):
        known = module.planned()
        _stamps[place] = _stamp(known), known
    return known


def every() -> tuple[OwnModule, ...]:
    """Every module of the user's own, also those whose name is taken twice: those that came first."""
    return tuple(_found()[0].values())


def taken_twice() -> tuple[str, ...]:
    """A sentence for every name that is taken twice."""
    return tuple(_found()[1].values())


@contextlib.contextmanager
def as_planned(modules: Sequence[PlannedModule]) -> Iterator[None]:
    """While it lasts, names of the user's own modules mean these, whatever is included: for jobs that were planned with them."""
    _running.append({(one.module.room, one.module.name): one for one in modules})
    try:
        yield
    finally:
        _running.pop()


def forget() -> None:
    """Looks for modules anew when next asked."""
    shipped.cache_clear()
    _found.cache_clear()
    _names_found.cache_clear()


@cache  # asked with every metric of every record
def _names_found(room: str) -> tuple[str, ...]:
    return tuple(sorted(name for of, name in _found()[0] if of == room)) if room in rooms.ROOMS else ()


@cache
def _found() -> tuple[dict[tuple[str, str], OwnModule], dict[tuple[str, str], str]]:
    """The user's own modules by room and name; and a sentence for each name that is taken twice."""
    found: dict[tuple[str, str], OwnModule] = {}
    twice: dict[tuple[str, str], str] = {}
    for one in (*(module for folder in FOLDERS for module in rooms.in_folder(folder)), *rooms.installed()):
        place = (one.room, one.name)
        room = next((room for room in _same_names(one.room) if one.name in shipped(room)), None)
        if room is not None:
            twice[place] = f"{one.where}:1: LOBE has a {one.what} already, benchmark/{room}/{one.name}.py. Give it another name."
        elif place in found and found[place].file != one.file:
            twice[place] = f"{one.where}:1: there is a {one.what} already, {found[place].where}. Give it another name."
        found.setdefault(place, one)
    return found, twice


def _stamp(planned: PlannedModule) -> tuple[int, ...]:
    """Changes with every file of the module's code."""
    try:
        found = [os.stat(planned.module.base / name) for name, _ in planned.code.files]
    except OSError:
        return ()
    return tuple(number for one in found for number in (one.st_ino, one.st_size, one.st_mtime_ns))


def _same_names(room: str) -> tuple[str, ...]:
    """Rooms in which one name would mean two things: a kind of task that trains nothing stands for its head."""
    return ("heads", "kinds") if room == "heads" else (room,)
