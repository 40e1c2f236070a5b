"""`lobe bench growth`: how time, memory and bytes grow with images and records, against a commit before, and what that is held to.

Every step is one public command, or one call that both commits have, in a process of its own, so that its memory is its own. Both sides
work on the same generated data, which is made outside the clock, with caches and results of their own. A step that fails leaves its rows
without a value and its sentence on the page; the others go on. What is done is kept (`growth_progress`): a bench that was stopped goes on
with the step that it was at, which removes first what it had left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.perf.growth_progress import Asked, Progress, enter
from tests.perf.growth_reach import GrowthReport, Measured
from tests.perf.growth_sides import ROOT, Side, named, unpack
from tests.perf.growth_sizes import AGAINST, Sizes
from tests.perf.growth_steps import Bench, Show, threads
from tests.perf.measure import machine

NONE = "none"  # in the place of a commit: this side alone


def run(
    sizes: Sizes,
    folder: Path,
    work: Path,
    *,
    quick: bool,
    against: str = AGAINST,
    command: str = "lobe bench growth",
    show: Show = lambda done, total: None,
    keep: Callable[[GrowthReport], None] = lambda report: None,
) -> GrowthReport:
    """Measures this checkout and the commit `against`.

    Args:
        folder: of generated data; what lies there already is used again.
        work: folder of the bench alone, for everything else; what an earlier sitting of the same bench measured there stands.
        against: a commit of this repository, or `NONE`.
        command: that the page names.
        keep: given what is known so far, after every step.

    Raises:
        UsageError: there is no such commit.
    """
    sides = [Side("now", machine()["commit"], ROOT, work / "now")]
    if against != NONE:
        commit = named(against)
        sides.insert(0, Side("before", commit, work / "checkout" / commit, work / "before"))
    progress = enter(work, _asked(sides, sizes, folder, quick))
    for side in sides[:-1]:
        unpack(side.commit, side.root)
    return measure(sides, sizes, folder, quick=quick, command=command, show=show, keep=keep, progress=progress, work=work)


def measure(
    sides: Sequence[Side],
    sizes: Sizes,
    folder: Path,
    *,
    quick: bool,
    command: str = "",
    show: Show = lambda done, total: None,
    keep: Callable[[GrowthReport], None] = lambda report: None,
    progress: Progress | None = None,
    work: Path | None = None,
) -> GrowthReport:
    """All steps on all sides; the last is the present one. See `run`.

    Args:
        progress: of earlier sittings; None begins.
        work: where the progress is kept after every step; None = nowhere.
    """
    started = time.monotonic()
    before = progress or Progress(asked=_asked(sides, sizes, folder, quick), sittings=1)
    bench = Bench(sides, sizes, folder)
    bench.go_on(before)

    def seconds() -> float:
        return round(before.seconds + time.monotonic() - started, 1)

    def after() -> None:
        if work is not None:
            bench.progress(before, seconds()).keep(work)
        keep(report())

    def report() -> GrowthReport:
        difference, compared = bench.difference()
        return GrowthReport(
            quick=quick,
            command=command,
            sizes=_told(sizes, bench.threads),
            sides=tuple(
                Measured(name=s.name, commit=s.commit, series=bench.series[s.name], failures=bench.failures[s.name]) for s in sides
            ),
            difference=difference,
            compared=compared,
            seconds=seconds(),
            sittings=before.sittings,
            machine=machine(),
            finished_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )

    bench.take(list(bench.steps()), show, after)
    return report()


def _told(sizes: Sizes, threads: int) -> dict[str, str]:
    """Sizes as the page names them."""
    return {
        "--limit": ", ".join(f"{n:,}" for n in sizes.images),
        "records": ", ".join(f"{n:,}" for n in sizes.records),
        "images of the list": ", ".join(f"{n:,}" for n in sizes.lists),
        "threads": str(threads),
        "steps of a run": _by_head(sizes.steps),
        "steps of the tasks together": _by_head(sizes.steps_together),
        "made boxes an image": f"{sizes.boxes:,}",
    }


def _asked(sides: Sequence[Side], sizes: Sizes, folder: Path, quick: bool) -> Asked:
    about = {name: value for name, value in machine().items() if not name.startswith("load")}
    told = {**_told(sizes, threads()), "boxes of a record": str(sizes.boxes_of_a_record)}
    return Asked(quick=quick, commits=tuple(side.commit for side in sides), sizes=told, data=str(folder), machine=about)


def _by_head(steps: Mapping[str, int]) -> str:
    return " ".join(f"{head} {n}" for head, n in steps.items())
