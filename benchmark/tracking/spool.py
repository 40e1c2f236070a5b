"""Notes for the tracking server on disk, in order, until the server has them. Knows no MLflow.

One file a note, written atomically: a killed driver loses none, and the next driver of the folder goes on with what is left.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import json_files, private
from benchmark.errors import NotRegular
from benchmark.files import write_atomically

FOLDER = "tracking"  # in the output folder
SUFFIX = ".json"
REJECTED = "rejected"
KINDS = ("open", "epochs", "finished", "values", "close")


def behind(out: Path) -> bool:
    """True when notes of earlier evaluations of an output folder wait for the server."""
    return len(Spool(out / FOLDER)) > 0


@dataclass(frozen=True)
class Note:
    """One thing to tell: `kind` is one of `KINDS`; `content` is plain JSON."""

    path: Path
    kind: str
    content: dict[str, Any]


class Spool:
    """
    Args:
        folder: created when the first note is written. One driver at a time, as the store's lock has it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._count = 0

    def add(self, kind: str, content: dict[str, Any]) -> None:
        """Keeps a note; it is on disk when this returns.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        private.folder(self.folder)
        self._count += 1
        name = f"{time.time_ns():020d}-{os.getpid()}-{self._count:06d}{SUFFIX}"
        write_atomically(self.folder / name, json.dumps({"kind": kind, **content}).encode(), private.opener)

    def waiting(self) -> Iterator[Note]:
        """Notes in the order they were added. One that cannot be read is set aside."""
        for path in sorted(self.folder.glob(f"[0-9]*{SUFFIX}")):
            try:
                content = json_files.read(path)
                if content.get("kind") not in KINDS:
                    raise ValueError("it is no note")
                yield Note(path, content.pop("kind"), content)
            except (NotRegular, ValueError, KeyError, AttributeError, TypeError):
                self.reject(path)

    def done(self, note: Note) -> None:
        note.path.unlink(missing_ok=True)

    def reject(self, path: Path) -> None:
        """Sets a note aside that the server will never take, for a person to look at."""
        private.folder(self.folder / REJECTED)
        os.replace(path, self.folder / REJECTED / path.name)

    def __len__(self) -> int:
        return sum(1 for _ in self.folder.glob(f"[0-9]*{SUFFIX}"))
