"""What `lobe bench growth` has measured so far, so that it may be made in several sittings. A step that was not done begins anew."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmark import json_files
from benchmark.files import write_atomically
from tests.perf.growth_reach import Point

FILE = "progress.json"


class Asked(BaseModel):
    """What must be the same for one sitting to go on where another ended.

    Attributes:
        commits: of the sides, in order.
        sizes: as the page names them.
        data: folder of generated data.
        machine: processor and packages.
    """

    model_config = ConfigDict(frozen=True)

    quick: bool
    commits: tuple[str, ...]
    sizes: dict[str, str]
    data: str
    machine: dict[str, str]


class Progress(BaseModel):
    """
    Attributes:
        done: steps, as `growth` names them.
        series, metrics: by side, as `growth` keeps them.
        floor_s: of the tasks together, where it was measured.
        seconds: of all sittings.
        sittings: how often the bench was started.
    """

    asked: Asked
    done: tuple[str, ...] = ()
    series: dict[str, dict[str, tuple[Point, ...]]] = {}
    metrics: dict[str, list[tuple[int, str, str, float]]] = {}
    floor_s: float | None = None
    seconds: float = 0.0
    sittings: int = 0

    def keep(self, work: Path) -> None:
        write_atomically(work / FILE, self.model_dump_json().encode())


def enter(work: Path, asked: Asked) -> Progress:
    """What an earlier sitting left in `work`; where that was asked something else or left nothing, the folder is emptied."""
    try:
        found = Progress.model_validate(json_files.read(work / FILE))
    except (OSError, ValueError, ValidationError):
        found = None
    if found is None or found.asked != asked:
        shutil.rmtree(work, ignore_errors=True)
        found = Progress(asked=asked)
    work.mkdir(parents=True, exist_ok=True)
    return found.model_copy(update={"sittings": found.sittings + 1})
