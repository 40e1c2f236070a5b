"""Two sides timed in turn in one run, their numbers compared, and the result as a plain document.

A ratio is the median of the ratios of neighbouring pairs; its spread is the smallest and largest pair. No verdict is given on a side that
computes other numbers: such a row says so and is no measurement.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict

from benchmark.machine import usable_cores

SCHEMA_VERSION = 1


class Timed(BaseModel):
    """Seconds of one side, one entry per repetition."""

    model_config = ConfigDict(frozen=True)

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Compared(TypedDict):
    """What several rows say alike of the numbers they compared; see `Measurement`."""

    compared: str
    difference: float | None
    tolerance: float


class Measurement(BaseModel):
    """One comparison.

    Attributes:
        plain, fast: the two sides; what each does is said in `what` and the bench's `sides`.
        goal: "faster" wants plain / fast of at least `target`; "near" wants fast / plain of at most `target`.
        target: of the ratio; None where the ratio is for information.
        compared: which numbers of the two sides were compared; `difference` is the largest one and must not exceed `tolerance`. None where
            they cannot be compared, because a side failed or chose otherwise.
        details: further measured or counted values by name; a name ending in "(computed)" is arithmetic on measured ones.
    """

    model_config = ConfigDict(frozen=True)

    what: str
    plain: Timed
    fast: Timed
    goal: Literal["faster", "near"] = "faster"
    target: float | None = None
    compared: str
    difference: float | None
    tolerance: float
    details: Mapping[str, float | int | str] = {}

    @property
    def equal(self) -> bool:
        return self.difference is not None and self.difference <= self.tolerance

    @property
    def ratios(self) -> tuple[float, ...]:
        pairs = list(zip(self.plain.seconds, self.fast.seconds, strict=False))
        return tuple(p / f if self.goal == "faster" else f / p for p, f in pairs)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def reached(self) -> bool | None:
        """None without a target; False when the numbers differ."""
        if self.target is None:
            return None
        return self.equal and (self.ratio >= self.target if self.goal == "faster" else self.ratio <= self.target)


class BenchResult(BaseModel):
    """One bench: its rows, what was measured on what, and on which machine."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
    bench: str
    sides: str
    quick: bool
    sizes: dict[str, float | int | str]
    rows: tuple[Measurement, ...]
    seconds: float
    machine: dict[str, str]
    finished_at: str

    @property
    def equal(self) -> bool:
        return all(row.equal for row in self.rows)


def report(bench: str, sides: str, quick: bool, sizes: dict[str, Any], rows: Sequence[Measurement], started: float) -> BenchResult:
    """Closes a bench begun at `started` (time.monotonic)."""
    return BenchResult(
        bench=bench,
        sides=sides,
        quick=quick,
        sizes=sizes,
        rows=tuple(rows),
        seconds=round(time.monotonic() - started, 1),
        machine=machine(),
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def alternate(plain: Callable[[], Any], fast: Callable[[], Any], repeats: int) -> tuple[Timed, Timed, Any, Any]:
    """Times the two sides in turn; gives their times and their last results. The caller warms what must be warm."""
    seconds: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    for _ in range(repeats):
        for side, call in enumerate((plain, fast)):
            began = time.perf_counter()
            results[side] = call()
            seconds[side].append(time.perf_counter() - began)
    return Timed(seconds=tuple(seconds[0])), Timed(seconds=tuple(seconds[1])), results[0], results[1]


def machine() -> dict[str, str]:
    """What the numbers belong to."""
    packages = {name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "opencv-python-headless", "pillow")}
    return {
        "processor": _processor(),
        "cores": str(usable_cores()),
        "load at the end": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **packages,
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "not a checkout"
