"""`lobe bench growth`: how time, memory and bytes grow with images and records, against a commit before, and what that is held to.

Every step is one public command, or one call that both commits have, in a process of its own, so that its memory is its own. Both sides
work on the same generated data, which is made outside the clock, with caches and results of their own. A step that fails leaves its rows
without a value and its sentence on the page; the others go on.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.errors import EnvironmentProblem, LobeError, UsageError
from benchmark.machine import usable_cores
from tests.perf import growth_data
from tests.perf.corpus import fixed_weights
from tests.perf.growth_reach import GrowthReport, Measured, Point
from tests.perf.growth_sides import ROOT, Side, unpack
from tests.perf.measure import machine

AGAINST = "8c8d211"  # the last commit whose predictions were JSON and whose features were each head's own
NONE = "none"  # in the place of a commit: this side alone
LINEAR, YOLO = "rsna-linear-frozen-100", "rsna-yolov3-frozen-100"
TOGETHER = ("rsna-yolov3-frozen-10", YOLO, "rsna-linear-frozen-10", LINEAR)
RECORDED = ("rsna-yolov3-frozen-10", YOLO)
LISTED = "mimic-cxr-retrieval-lobe"
RANDOM = "torchvision:resnet18"
N_TOGETHER, N_RECORDED = 2, 5  # seeds
BUDGET = "1GB"
SHORT_S, REPEATS = 20.0, 3  # a command that takes no longer is timed so often
MB = 1e6

Show = Callable[[int, int], None]
"""Told how many of the expected seconds have gone."""


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        images: `--limit`s.
        records: in a store; multiples of `RECORDS_A_BACKBONE`.
        lists: frontal images of MIMIC-CXR's list.
        steps: of a smoke run, by head; None takes each head's own.
        steps_together: of the runs of several tasks in one command: few, so that what is shared weighs.
        boxes: made on each image of one run.
        boxes_of_a_record: of each record of a store.
    """

    images: tuple[int, ...]
    records: tuple[int, ...]
    lists: tuple[int, ...]
    steps: Mapping[str, int] | None
    steps_together: Mapping[str, int]
    boxes: int
    boxes_of_a_record: int


RECORDS_A_BACKBONE = len(RECORDED) * N_RECORDED
FULL = Sizes((200, 800, 3200), (1000, 4000), (23_569, 94_277, 377_110), None, {"linear": 20, "yolov3": 2}, 1150, 10)
QUICK = Sizes((16, 64), (20, 80), (500, 2000), {"linear": 4, "yolov3": 2}, {"linear": 4, "yolov3": 2}, 50, 5)


def chosen(asked: Mapping[str, str], *, quick: bool) -> tuple[Sizes, str]:
    """Sizes and the commit before, by options of the command line.

    Raises:
        UsageError: sizes that are no rising numbers, or a store that does not come out even.
    """
    sizes = QUICK if quick else FULL
    for option, name, at_least in (("--sizes", "images", 8), ("--records", "records", RECORDS_A_BACKBONE), ("--lists", "lists", 50)):
        if option in asked:
            sizes = replace(sizes, **{name: _rising(option, asked[option], at_least)})
    if uneven := [n for n in sizes.records if n % RECORDS_A_BACKBONE]:
        raise UsageError(f"--records {uneven[0]}: a made backbone has {RECORDS_A_BACKBONE} records; give a multiple of that.")
    return sizes, asked.get("--against", AGAINST)


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
        work: empty folder for everything else.
        against: a commit of this repository, or `NONE`.
        command: that the page names.
        keep: given what is known so far, after every step.

    Raises:
        UsageError: there is no such commit.
    """
    sides = [Side("now", machine()["commit"], ROOT, work / "now")]
    if against != NONE:
        commit, root = unpack(against, work / "checkout")
        sides.insert(0, Side("before", commit, root, work / "before"))
    return measure(sides, sizes, folder, quick=quick, command=command, show=show, keep=keep)


def measure(
    sides: Sequence[Side],
    sizes: Sizes,
    folder: Path,
    *,
    quick: bool,
    command: str = "",
    show: Show = lambda done, total: None,
    keep: Callable[[GrowthReport], None] = lambda report: None,
) -> GrowthReport:
    """All steps on all sides; the last is the present one. See `run`."""
    started = time.monotonic()
    bench = _Bench(sides, sizes, folder)

    def report() -> GrowthReport:
        difference, compared = bench.difference()
        return GrowthReport(
            quick=quick,
            command=command,
            sizes={
                "--limit": ", ".join(f"{n:,}" for n in sizes.images),
                "records": ", ".join(f"{n:,}" for n in sizes.records),
                "images of the list": ", ".join(f"{n:,}" for n in sizes.lists),
                "threads": str(bench.threads),
                "steps of a run": "each head's own" if sizes.steps is None else _by_head(sizes.steps),
                "steps of the tasks together": _by_head(sizes.steps_together),
                "made boxes an image": f"{sizes.boxes:,}",
            },
            sides=tuple(
                Measured(name=s.name, commit=s.commit, series=bench.series[s.name], failures=bench.failures[s.name]) for s in sides
            ),
            difference=difference,
            compared=compared,
            seconds=round(time.monotonic() - started, 1),
            machine=machine(),
            finished_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )

    bench.take(list(bench.steps()), show, lambda: keep(report()))
    return report()


Tick = Callable[[], None]


@dataclass(frozen=True)
class _Step:
    """One thing to do.

    Attributes:
        side: that it measures; None makes data for all.
        expected_s: seconds on two quiet cores of the commit before, for the bar alone.
        work: given what is to be called while it goes on.
    """

    side: Side | None
    name: str
    expected_s: float
    work: Callable[[Tick], None]


@dataclass
class _Bench:
    """The steps; what they find is kept by side.

    Attributes:
        floor_s: of the tasks together: one pass, and their heads on tensors in memory.
    """

    sides: Sequence[Side]
    sizes: Sizes
    folder: Path
    series: dict[str, dict[str, tuple[Point, ...]]] = field(default_factory=lambda: defaultdict(dict))
    failures: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    metrics: dict[str, dict[tuple[int, str, str], float]] = field(default_factory=lambda: defaultdict(dict))
    threads: int = field(default_factory=lambda: min(2, usable_cores()))
    floor_s: float | None = None

    def steps(self) -> Iterator[_Step]:
        """Everything, in order: what works on the caches and records of an earlier step comes after it, and sides take turns."""
        sizes, middle, largest = self.sizes, self.sizes.images[len(self.sizes.images) // 2], self.sizes.images[-1]
        yolo_s = 10.0 if sizes.steps else 165.0  # of training
        for limit in sizes.images:
            run_s = 10 + 0.022 * limit
            yield _Step(None, f"images for {limit:,}", 0.7 * limit, partial(self._corpus, limit))
            for side in self.sides:
                yield _Step(side, f"linear task at {limit:,}", run_s, partial(self._task, side, "linear", LINEAR, limit))
                yield _Step(side, f"YOLOv3 task at {limit:,}", run_s + yolo_s, partial(self._task, side, "yolo", YOLO, limit))
                if limit == largest:
                    name = f"YOLOv3 task at {limit:,} with {BUDGET}"
                    yield _Step(side, name, run_s + yolo_s, partial(self._budget, side, limit))
        yield _Step(self.sides[-1], "one pass, and heads in memory", 60 + 0.1 * middle, partial(self._floor, self.sides[-1], middle))
        for side in self.sides:
            yield _Step(side, "frozen tasks together", 60 + 0.1 * middle, partial(self._together, side, middle))
            yield _Step(side, f"files of a run at {largest:,}", 60, partial(self._files, side, largest))
        for n in sizes.records:
            for side in self.sides:
                yield _Step(side, f"{n:,} records", 20 + 0.2 * n, partial(self._records, side, n))
        for n in sizes.lists:
            yield _Step(None, f"a list of {n:,}", 0.001 * n, partial(self._list_made, n))
            for side in self.sides:
                yield _Step(side, f"plan of a list of {n:,}", 10 + 0.0005 * n, partial(self._list, side, n))

    def take(self, steps: Sequence[_Step], show: Show, after: Callable[[], None]) -> None:
        """Takes the steps, and calls `after` after each. What fails one that measures is kept, and the next goes on; without data,
        nothing can."""
        total, done = round(sum(step.expected_s for step in steps)), 0.0
        for step in steps:
            began = time.monotonic()

            def tick(began: float = began, done: float = done, most: float = 0.95 * step.expected_s) -> None:
                show(round(done + min(time.monotonic() - began, most)), total)

            tick()
            try:
                step.work(tick)
            except (LobeError, OSError, LookupError) as error:
                if step.side is None or isinstance(error, EnvironmentProblem):
                    raise
                self.failures[step.side.name][step.name] = self._without_paths(step.side, str(error) or type(error).__name__)
            done += step.expected_s
            after()
        show(total, total)

    def _without_paths(self, side: Side, sentence: str) -> str:
        """A page is read elsewhere: folders of this machine say nothing there."""
        for folder in (side.work, side.root, self.folder):
            sentence = sentence.replace(str(folder), folder.name)
        return sentence

    def _corpus(self, limit: int, tick: Tick) -> None:
        growth_data.rsna(self.folder, limit, lambda done, total: tick())

    def _list_made(self, n_images: int, tick: Tick) -> None:
        growth_data.mimic_list(self.folder, n_images)

    def _task(self, side: Side, name: str, task: str, limit: int, tick: Tick) -> None:
        """One run from the command line; the YOLOv3 task follows the linear one on the same cache."""
        asked = self._request(side, limit, [task], out="out")
        ran = side.call("command", {"words": _words(asked), "steps": self.sizes.steps}, tick)
        record = _record(Path(asked["out"]), task)
        n_images, n_test = _n_images(record), record["counts"]["test"]["images"]
        self._add(side, f"{name}_s", limit, n_images, ran["seconds"])
        self._add(side, f"{name}_memory", limit, n_images, ran["peak_bytes"] / MB)
        self._add(side, f"{name}_features_s", limit, n_images, record["timings_s"]["features"])
        for phase in ("test", "storing"):
            self._add(side, f"{name}_{phase}_s", limit, n_test, record["timings_s"][phase])
        n_bytes = sum((Path(asked["out"]) / file).stat().st_size for file in record["predictions"])
        self._add(side, f"{name}_bytes", limit, n_test, n_bytes / MB)
        self.metrics[side.name] |= {(limit, name, metric): value for metric, value in record["metrics"].items()}

    def _budget(self, side: Side, limit: int, tick: Tick) -> None:
        """The YOLOv3 task once more, under a budget of memory."""
        asked = self._request(side, limit, [YOLO], out="budget")
        ran = side.call("command", {"words": [*_words(asked), "--cache-budget", BUDGET], "steps": self.sizes.steps}, tick)
        record, freely = (_record(side.work / f"{out}-{limit}", YOLO) for out in ("budget", "out"))
        apart = [abs(value - record["metrics"][name]) for name, value in freely["metrics"].items()]
        self._add(side, "budget_memory", limit, _n_images(record), ran["peak_bytes"] / MB)
        self._add(side, "budget_difference", limit, len(apart), max(apart))

    def _floor(self, side: Side, limit: int, tick: Tick) -> None:
        asked = self._request(side, limit, TOGETHER, out="floor", seeds=N_TOGETHER, backbones=[self._weights()])
        found = side.call("floor", {"request": asked, "steps": self.sizes.steps_together}, tick)
        self.floor_s = found["pass_s"] + found["heads_s"]
        self._add(side, "floor_pass_s", limit, found["images"], found["pass_s"])
        self._add(side, "floor_heads_s", limit, found["images"], found["heads_s"])

    def _together(self, side: Side, limit: int, tick: Tick) -> None:
        """All frozen tasks of one backbone in one command.

        What it takes again when everything is done (start, planning, the table) is left out.
        """
        asked = self._request(side, limit, TOGETHER, out="together", seeds=N_TOGETHER, backbones=[self._weights()])
        given = {"words": _words(asked), "steps": self.sizes.steps_together}
        took, again = (side.call("command", given, tick)["seconds"] for _ in range(2))
        out = Path(asked["out"])
        n_images = _n_images(_record(out, YOLO))
        for record in _records(out):
            self.metrics[side.name] |= {(limit, record["key"], metric): value for metric, value in record["metrics"].items()}
        self._add(side, "pass_s", limit, n_images, took - again)
        if self.floor_s is not None:
            self._add(side, "pass_ratio", limit, n_images, (took - again) / self.floor_s)

    def _files(self, side: Side, limit: int, tick: Tick) -> None:
        """The files of one run with made boxes."""
        asked = self._request(side, limit, [YOLO], out="files")
        found = side.call("files", {"request": asked, "boxes_per_image": self.sizes.boxes}, tick)
        self._add(side, "files_s", limit, found["boxes"], found["write_s"])
        self._add(side, "files_bytes", limit, found["boxes"], found["bytes"] / MB)
        self._add(side, "files_memory", limit, found["boxes"], found["peak_bytes"] / MB)

    def _records(self, side: Side, n_records: int, tick: Tick) -> None:
        """A report, the same again, and the run of all jobs again, on a store of made records."""
        limit = self.sizes.images[0]
        # Names that a plan takes as they stand: nothing is built of what is stored.
        names = [f"timm:made-{number:04}" for number in range(n_records // RECORDS_A_BACKBONE)]
        asked = self._request(side, limit, RECORDED, out=f"records-{n_records}", seeds=N_RECORDED, backbones=names)
        like = {"like": str(side.work / f"out-{limit}"), "head": "yolov3", "boxes_per_image": self.sizes.boxes_of_a_record}
        made = side.call("records", {"request": asked, "steps": self.sizes.steps, **like}, tick)["records"]
        reporting = {"words": ["report", "--out", asked["out"]], "steps": None}
        self._add(side, "report_first_s", n_records, made, side.call("command", reporting, tick)["seconds"])
        self._add_command(side, "report", n_records, made, reporting, tick)
        self._add_command(side, "resume", n_records, made, {"words": _words(asked), "steps": self.sizes.steps}, tick)
        shutil.rmtree(asked["out"])

    def _list(self, side: Side, n_images: int, tick: Tick) -> None:
        """The plan of one task on a list of so many images, of which none is read."""
        words = ["run", "--backbone", RANDOM, "--task", LISTED, "--data", str(self.folder / f"mimic-{n_images}"), "--dry-run", "--json"]
        words += [
            "--protocol",
            "corrected",
            "--out",
            str(side.work / "list"),
            "--cache",
            str(side.work / "cache-list"),
            "--executor",
            "inline",
            "--device",
            "cpu",
        ]
        self._add_command(side, "list", n_images, n_images, {"words": words, "steps": None}, tick)

    def difference(self) -> tuple[float | None, int]:
        """The largest between metrics that both sides have, and how many those are."""
        if len(self.sides) < 2:
            return None, 0
        before, now = (self.metrics[side.name] for side in self.sides)
        apart = [abs(before[name] - now[name]) for name in before.keys() & now.keys()]
        return max(apart, default=None), len(apart)

    def _request(
        self, side: Side, limit: int, tasks: Sequence[str], *, out: str, seeds: int = 1, backbones: Sequence[str] = (RANDOM,)
    ) -> dict[str, Any]:
        """As `benchmark.api.Request` has it, ready for JSON."""
        return {
            "backbones": list(backbones),
            "tasks": list(tasks),
            "data": [str(self.folder / f"rsna-{limit}")],
            "out": str(side.work / f"{out}-{limit}"),
            "cache": str(side.work / f"cache-{limit}"),
            "executor": "inline",
            "device": "cpu",
            "runs": seeds,
            "limit": limit,
            "profile": "smoke",
            "threads": self.threads,
            "tracking": False,
        }

    def _weights(self) -> str:
        """A backbone with weights: a random one is drawn anew for every seed, and shares nothing."""
        return f"{RANDOM}@{fixed_weights(self.folder / 'weights')}"

    def _add(self, side: Side, name: str, size: int, x: float, value: float) -> None:
        self.series[side.name][name] = (*self.series[side.name].get(name, ()), Point(size=size, x=x, value=value))

    def _add_command(self, side: Side, name: str, size: int, x: float, given: Mapping[str, Any], tick: Tick) -> None:
        """Seconds, the median where that is cheap, and memory."""
        ran = [side.call("command", given, tick)]
        while len(ran) < REPEATS and ran[0]["seconds"] <= SHORT_S:
            ran.append(side.call("command", given, tick))
        self._add(side, f"{name}_s", size, x, statistics.median(one["seconds"] for one in ran))
        self._add(side, f"{name}_memory", size, x, statistics.median(one["peak_bytes"] for one in ran) / MB)


def _rising(option: str, text: str, at_least: int) -> tuple[int, ...]:
    try:
        numbers = tuple(int(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < at_least or list(numbers) != sorted(set(numbers)):
        raise UsageError(f"{option} {text!r}: rising whole numbers of at least {at_least} are expected, like 200,800,3200.")
    return numbers


def _words(asked: Mapping[str, Any]) -> list[str]:
    """The command line of a request."""
    words = ["run", *(word for name in asked["backbones"] for word in ("--backbone", name))]
    words += [word for task in asked["tasks"] for word in ("--task", task)]
    words += ["--data", *asked["data"], "--out", asked["out"], "--cache", asked["cache"], "--limit", str(asked["limit"])]
    words += ["--profile", asked["profile"], "--seeds", str(asked["runs"]), "--threads", str(asked["threads"])]
    return [*words, "--executor", asked["executor"], "--device", asked["device"], "--no-tracking", "--json"]


def _record(out: Path, task: str) -> dict[str, Any]:
    """The first record of a task in an output folder."""
    record = next((record for record in _records(out) if record["job"]["labels"]["task"] == task), None)
    if record is None:
        raise LookupError(f"there is no record of {task}: its run failed")
    return record


def _records(out: Path) -> Iterator[dict[str, Any]]:
    """The records of an output folder as their files have them: whichever release wrote them."""
    return (json.loads(file.read_text()) for file in sorted((out / "records").glob("*.json")))


def _n_images(record: Mapping[str, Any]) -> int:
    return sum(counts["images"] for counts in record["counts"].values())


def _by_head(steps: Mapping[str, int]) -> str:
    return " ".join(f"{head} {n}" for head, n in steps.items())
