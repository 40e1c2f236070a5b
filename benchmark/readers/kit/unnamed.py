"""Reading files of data whose agreement lets no id leave: an error names the row that lists a file, never file, id or patient.

What may leave the output folder is decided by the dataset card (`redistribution`); messages also reach terminals and logs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmark.errors import EnvironmentProblem, ImageError

Decoded = TypeVar("Decoded")
UNNAMED = "withheld"


def read_unnamed(read: Callable[[Path, str], Decoded], path: Path, where: str) -> Decoded:
    """What `read(path, id)` gives.

    Args:
        read: a decoder whose errors begin with path and id, as all of `imaging` do.
        where: what finds the file for those who hold it, such as table and line.

    Raises:
        ImageError, EnvironmentProblem: as `read` does, in its words, with `where` in place of the file.
    """
    try:
        return read(path, UNNAMED)
    except (ImageError, EnvironmentProblem) as error:
        sentence = str(error).replace(str(path), "the file").replace(f" (id {UNNAMED})", "")
        # A library's own words may name the file alone.
        for name in (path.name, path.stem):
            sentence = sentence.replace(name, UNNAMED)
        raise type(error)(f"{where}: {sentence}") from None
