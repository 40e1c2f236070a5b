"""The steps of `lobe bench growth`: each is one public command, or one call that both commits have, in a process of its own."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.errors import EnvironmentProblem, LobeError
from benchmark.machine import usable_cores
from benchmark.training import feature_folders
from tests.perf import growth_data
from tests.perf.corpus import fixed_weights
from tests.perf.growth_progress import Progress
from tests.perf.growth_reach import Point
from tests.perf.growth_sides import Side
from tests.perf.growth_sizes import N_RECORDED, RECORDED, RECORDS_A_BACKBONE, Sizes

LINEAR, YOLO = "rsna-linear-frozen-100", "rsna-yolov3-frozen-100"
TOGETHER = ("rsna-yolov3-frozen-10", YOLO, "rsna-linear-frozen-10", LINEAR)
LISTED = "mimic-cxr-retrieval-lobe"
RANDOM = "torchvision:resnet18"
N_TOGETHER = 2  # seeds
BUDGET = "1GB"
SHORT_S, REPEATS = 20.0, 3  # a command that takes no longer is timed so often
MB = 1e6

Show = Callable[[int, int], None]
"""Told how many of the expected seconds have gone."""


def threads() -> int:
    return min(2, usable_cores())


Tick = Callable[[], None]


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        side: that it measures; None makes data for all.
        expected_s: seconds on two quiet cores, for the bar alone.
        work: given what is to be called while it goes on.
    """

    side: Side | None
    name: str
    expected_s: float
    work: Callable[[Tick], None]

    @property
    def full_name(self) -> str:
        return self.name if self.side is None else f"{self.name}, {self.side.name}"


@dataclass
class Bench:
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
    threads: int = field(default_factory=threads)
    floor_s: float | None = None
    done: list[str] = field(default_factory=list)

    def go_on(self, progress: Progress) -> None:
        """Takes over what earlier sittings measured."""
        self.done, self.floor_s = list(progress.done), progress.floor_s
        for side, found in progress.series.items():
            self.series[side] |= found
        for side, values in progress.metrics.items():
            self.metrics[side] |= {(limit, name, metric): value for limit, name, metric, value in values}

    def progress(self, before: Progress, seconds: float) -> Progress:
        """What the next sitting is to know."""
        metrics = {side: [(*name, value) for name, value in found.items()] for side, found in self.metrics.items()}
        series = {side: dict(found) for side, found in self.series.items()}
        found = {"done": tuple(self.done), "series": series, "metrics": metrics, "floor_s": self.floor_s, "seconds": seconds}
        return before.model_copy(update=found)

    def steps(self) -> Iterator[Step]:
        """Everything, in order: what works on the caches and records of an earlier step comes after it, and sides take turns.

        The commit before has YOLOv3 runs and lists of the smallest and the largest size alone, and the smallest store: the others are for
        an exponent, which it is not held to.
        """
        sizes, middle, largest = self.sizes, self.sizes.images[len(self.sizes.images) // 2], self.sizes.images[-1]
        yolo_s = 6.0 * sizes.steps["yolov3"]  # of training
        for limit in sizes.images:
            run_s = 10 + 0.022 * limit
            yield Step(
                None,
                f"images for {limit:,}",
                0.0 if growth_data.is_made(self.folder, limit) else 0.07 * limit,
                partial(self._corpus, limit),
            )
            for side in self.sides:
                yield Step(side, f"linear task at {limit:,}", run_s, partial(self._task, side, "linear", LINEAR, limit))
                if side in self._sides(limit, sizes.images):
                    yield Step(side, f"YOLOv3 task at {limit:,}", run_s + yolo_s, partial(self._task, side, "yolo", YOLO, limit))
        now = self.sides[-1]
        yield Step(now, f"YOLOv3 task at {largest:,} with {BUDGET}", 10 + 0.022 * largest + yolo_s, partial(self._budget, now, largest))
        yield Step(now, "one pass, and heads in memory", 60 + 0.1 * middle, partial(self._floor, now, middle))
        for side in self.sides:
            yield Step(side, "frozen tasks together", 60 + 0.1 * middle, partial(self._together, side, middle))
            yield Step(side, f"files of a run at {largest:,}", 60, partial(self._files, side, largest))
        for n in sizes.records:
            for side in self._sides(n, sizes.records[:1]):
                yield Step(side, f"{n:,} records", 20 + 0.2 * n, partial(self._records, side, n))
        for n in sizes.lists:
            yield Step(None, f"a list of {n:,}", 0.001 * n, partial(self._list_made, n))
            for side in self._sides(n, sizes.lists):
                yield Step(side, f"plan of a list of {n:,}", 10 + 0.0005 * n, partial(self._list, side, n))

    def _sides(self, size: int, sizes: Sequence[int]) -> Sequence[Side]:
        """Both sides at the smallest and the largest of the sizes, else the present one."""
        return self.sides if size in (sizes[0], sizes[-1]) else self.sides[-1:]

    def take(self, steps: Sequence[Step], show: Show, after: Callable[[], None]) -> None:
        """Takes the steps, and calls `after` after each. What fails one that measures is kept, and the next goes on; without data,
        nothing can."""
        total, done = round(sum(step.expected_s for step in steps)), 0.0
        for step in steps:
            began = time.monotonic()

            def tick(began: float = began, done: float = done, most: float = 0.95 * step.expected_s) -> None:
                show(round(done + min(time.monotonic() - began, most)), total)

            if step.side is not None and step.full_name in self.done:
                done += step.expected_s
                continue
            tick()
            try:
                step.work(tick)
                self.done.append(step.full_name)
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
        asked = self._request(side, limit, [task], out=name)
        _clear(asked["out"], *([asked["cache"]] if task == LINEAR else []))
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
        _clear(asked["out"])
        ran = side.call("command", {"words": [*_words(asked), "--cache-budget", BUDGET], "steps": self.sizes.steps}, tick)
        record, freely = (_record(side.work / f"{out}-{limit}", YOLO) for out in ("budget", "yolo"))
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
        # Features of other weights lie there as well, and no step needs them any more.
        _clear(asked["out"], *Path(asked["cache"]).glob(f"**/{feature_folders.FOLDER}"))
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
        like = {"like": str(side.work / f"yolo-{limit}"), "head": "yolov3", "boxes_per_image": self.sizes.boxes_of_a_record}
        _clear(asked["out"])
        made = side.call("records", {"request": asked, "steps": self.sizes.steps, **like}, tick)["records"]
        reporting = {"words": ["report", "--out", asked["out"]], "steps": None}
        self._add(side, "report_first_s", n_records, made, side.call("command", reporting, tick)["seconds"])
        self._add_command(side, "report", n_records, made, reporting, tick)
        self._add_command(side, "resume", n_records, made, {"words": _words(asked), "steps": self.sizes.steps}, tick)
        shutil.rmtree(asked["out"])

    def _list(self, side: Side, n_images: int, tick: Tick) -> None:
        """The plan of one task on a list of so many images, of which none is read."""
        _clear(side.work / "cache-list")
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
        others = (point for point in self.series[side.name].get(name, ()) if point.size != size)
        self.series[side.name][name] = (*others, Point(size=size, x=x, value=value))

    def _add_command(self, side: Side, name: str, size: int, x: float, given: Mapping[str, Any], tick: Tick) -> None:
        """Seconds, the median where that is cheap, and memory."""
        ran = [side.call("command", given, tick)]
        while len(ran) < (REPEATS if side is self.sides[-1] else 1) and ran[0]["seconds"] <= SHORT_S:
            ran.append(side.call("command", given, tick))
        self._add(side, f"{name}_s", size, x, statistics.median(one["seconds"] for one in ran))
        self._add(side, f"{name}_memory", size, x, statistics.median(one["peak_bytes"] for one in ran) / MB)


def _clear(*folders: Path | str) -> None:
    """What a step left that was stopped would make it quicker."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


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
