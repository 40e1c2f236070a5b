"""Whether the pages of a report are still what would be written: made of the same files by the same code, and not touched since.

Told from names, sizes, times and inodes alone. What a page is made of is kept in the index of the first folder (`benchmark.record_index`),
and with it the stamp of every page: one that was edited or deleted is written again, as all are where anything is in doubt.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmark import planned, registry
from benchmark.contents import is_recent, stamp_in, stamp_of
from benchmark.integrity import PREDICTIONS
from benchmark.shelf import Shelf

CONTENT = ("tasks", "datasets", "backbones", "results")
DRAWN_BY = ("plotly", "itables", "jinja2", "numpy", "scipy", "pillow")  # and LOBE's own code


def made_of(title: str, shelves: Iterable[Shelf]) -> str | None:
    """A digest of everything that the pages depend on; None where something changed so shortly ago that a later change might not show."""
    shelves, now = list(shelves), time.time_ns()
    sha = hashlib.sha256(f"{title}\n{platform.python_version()}\n".encode())
    sha.update("".join(f"{name} {metadata.version(name)}\n" for name in DRAWN_BY).encode())
    own = [Path(registry.__file__).parent, *map(registry.content, CONTENT), *registry.included()]
    for path, stamp in (found for folder in own for found in _files_below(folder)):
        sha.update(os.fsencode(path) + b"\0" + stamp)
    for shelf in shelves:
        sha.update(f"{shelf.out.resolve()}\n{planned.stamps(shelf.out)}\n".encode())
        predictions = _files_below(shelf.out / PREDICTIONS)
        for name, stamp in (*shelf.stamps.items(), *predictions):
            if not stamp or is_recent(stamp, now):
                return None
            sha.update(os.fsencode(name) + b"\0" + stamp)
    return sha.hexdigest()


def is_written(report: Path, digest: str | None, kept: dict[str, Any] | None) -> bool:
    """Whether the pages that lie in the folder are those of the digest, as they were written."""
    return digest is not None and kept is not None and kept.get("made_of") == digest and kept.get("pages") == _pages(report, kept)


def written(report: Path, digest: str) -> dict[str, Any]:
    """What to keep of pages that were written just now."""
    pages = {os.path.relpath(path, report): stamp.hex() for path, stamp in _files_below(report)}
    return {"made_of": digest, "pages": pages}


def _pages(report: Path, kept: dict[str, Any]) -> dict[str, str] | None:
    """Stamps today of the pages that were kept; others that lie beside them say nothing."""
    try:
        return {name: stamp_of(report / name).hex() for name in kept["pages"]}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Files at any depth with their stamps, in order of their names; what Python compiles aside."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in found:
        if entry.name == "__pycache__":
            continue
        if entry.is_dir():
            yield from _files_below(Path(entry.path))
        else:
            try:
                yield entry.path, stamp_in(entry.stat())
            except OSError:  # a link to nowhere
                yield entry.path, b""
