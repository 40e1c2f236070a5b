"""Runs a module of a user's own, held to the code that it was planned with; what goes wrong in it is one sentence with file and line.

A module of a folder is run in a private package (`modules`): another folder's helper of the same name is another module, also in one
process. An installed module is imported as any other. Each state of the code is run once in a process.
"""

from __future__ import annotations

import importlib
import os
import traceback
from pathlib import Path
from types import ModuleType

from benchmark.errors import CardError, CheckpointChanged, LobeError
from benchmark.own.contract import OWED, PAGE
from benchmark.own.modules import Kept, OwnModules
from benchmark.own.rooms import PlannedModule
from benchmark.own.source import changed_in

_LOADED: dict[tuple[str, str], tuple[ModuleType, Kept | None]] = {}


def load(planned: PlannedModule) -> ModuleType:
    """The module.

    Raises:
        CardError: it is no Python, fails when it is imported, or lacks what its room asks for.
        CheckpointChanged: a file is another one than it was planned with, or it imports one that was not found by reading it.
    """
    module = planned.module
    key = (str(module.file), planned.code.digest)
    if key not in _LOADED:
        if changed := changed_in(planned.code, module.base):
            raise CheckpointChanged(
                f"The {module.what} was planned with another {changed} than lies in {module.base}. Run the same command again to plan with "
                "what is there now."
            )
        module.require_whole()
        _LOADED[key] = _run(planned)
    return _LOADED[key][0]


def _run(planned: PlannedModule) -> tuple[ModuleType, Kept | None]:
    module = planned.module
    spaces = None if module.dotted else OwnModules(module.file, (module.base,))
    try:
        if spaces is None:
            found, kept = importlib.import_module(module.dotted), None
        else:
            with spaces.building():
                found = spaces.factory()
            spaces.require({os.path.realpath(module.base / name): digest for name, digest in planned.code.files}, lambda path: True)
            kept = spaces.kept()
        lacking = [name for name in OWED[module.room] if not hasattr(found, name)]
        if lacking:
            raise CardError(f"{module.file}:1: it has no {' and no '.join(lacking)}. {PAGE}")
    except BaseException as error:
        if spaces is not None:
            spaces.forget()
        if isinstance(error, LobeError) or not isinstance(error, Exception):
            raise
        raise CardError(f"{_place(error, module.base, module.file)}: {_said(error)}. The {module.what} cannot be used.") from error
    return found, kept


def _place(error: Exception, base: Path, file: Path) -> str:
    """`file:line` of the user's own code where it went wrong."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(base)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else f"{file}:1"


def _said(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {' '.join(line.strip() for line in lines[:3])}" if lines else type(error).__name__
