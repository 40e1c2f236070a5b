"""What may stand for a backbone in Python, and the name that the command line would give it.

A job is found again by the digest of the files that its backbone is made of, and built anew in every process. So a function stands for the
file that defines it, and what lives in memory alone, a module or a function typed into a notebook, has no name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError

BackboneLike = str | Path | Callable[..., Any]
"""A name as of `lobe run --backbone`, a file with a function `build`, or a function at the top level of a file."""

_HOW = (
    "Write it to a file, in a notebook with %%writefile mine.py, as a function that returns the backbone (`lobe new backbone mine.py` "
    "begins one), and give 'mine.py:build'."
)


def name_of(backbone: BackboneLike) -> str:
    """The backbone's name on the command line.

    Raises:
        UsageError: it cannot be built anew from a file; says what to do.
    """
    if isinstance(backbone, str):
        return backbone
    if isinstance(backbone, Path):
        return f"{backbone}:build" if backbone.suffix == ".py" else str(backbone)
    if inspect.isfunction(backbone):
        return _of_function(backbone)
    raise UsageError(f"A {type(backbone).__name__} that lives in memory has no digest of its code, so no job could be found again. {_HOW}")


def _of_function(function: Callable[..., Any]) -> str:
    file, name = inspect.getsourcefile(function), function.__qualname__
    if file is None or not Path(file).is_file() or Path(file).suffix != ".py" or "<locals>" in name or "." in name or name == "<lambda>":
        raise UsageError(f"The function {name} is at the top level of no file, so nobody could build its backbone again. {_HOW}")
    required = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty and p.kind not in (2, 4)]
    if required:
        raise UsageError(f"The function {name} of {file} needs {', '.join(required)}; a backbone is built by a function without arguments.")
    return f"{Path(file).resolve()}:{name}"
