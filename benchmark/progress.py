"""What a terminal shows while work goes on: jobs by state, GPUs, time left, failures with their sentence; plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import live
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

from benchmark.cards import Job, Role
from benchmark.events import Decoded, Encoded, EpochEnded, Event, Finished, Hashing, Noticed, Started
from benchmark.execute.costs import Costs
from benchmark.execute.nodes import GpuUse, gpu_use
from benchmark.faults import of_environment
from benchmark.rate_search import is_out
from benchmark.report.rows import metric_title

PLAIN_EVERY_S = 10.0
GPU_EVERY_S = 2.0
NARROW = 60  # columns of a terminal in which a bar leaves no room for the words before it
BLINK_S = 1.0  # what takes no longer is not worth a line
MOST_LINES = 8  # of running jobs; a fused group alone may have dozens


@contextmanager
def bar(console: Console, title: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar for one piece of work; yields `step(done, total)`."""
    if quiet:
        yield lambda done, total: None
        return
    if not console.is_terminal:
        last = [0.0]

        def line(done: int, total: int) -> None:
            now = time.monotonic()
            if done == total or now - last[0] >= PLAIN_EVERY_S:
                last[0] = now
                console.print(f"{title}: {done} of {total}")

        yield line
        return
    with _progress(console, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class HashingLine:
    """How far the reading of images is, with rate and time left: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, progress: Progress | None = None, clock: Callable[[], float] = time.monotonic):
        self.console, self.progress, self.clock = console, progress, clock
        self.task: TaskID | None = None
        self._dataset, self._began, self._last, self._told = "", 0.0, 0.0, False

    def event(self, event: Hashing) -> None:
        now = self.clock()
        if event.dataset != self._dataset:
            self._dataset, self._began, self._last, self._told = event.dataset, now, now + BLINK_S - PLAIN_EVERY_S, False
        if self.progress is not None:
            self._draw(event)
        elif now - self._last >= PLAIN_EVERY_S or (self._told and event.done_bytes == event.total_bytes):
            self._last, self._told = now, True
            self.console.print(hashing_line(event, now - self._began), soft_wrap=True, markup=False)

    def _draw(self, event: Hashing) -> None:
        assert self.progress is not None
        if event.done_bytes == event.total_bytes:
            if self.task is not None:
                self.progress.remove_task(self.task)
            self.task, self._dataset = None, ""
            return
        if self.task is None:
            self.task = self.progress.add_task(f"{event.dataset} · reading images", total=event.total_bytes)
        self.progress.update(self.task, completed=event.done_bytes, total=event.total_bytes)


def hashing_line(event: Hashing, seconds: float) -> str:
    """`rsna: 1.2 of 3.9 GB of images hashed, 350 MB/s, about 8 s left`."""
    rate = event.done_bytes / seconds if seconds > 0 else 0.0
    done, total = size_text(event.done_bytes), size_text(event.total_bytes)
    remaining = event.total_bytes - event.done_bytes
    left = f", about {duration(remaining / rate)} left" if rate and remaining else ""
    return f"{event.dataset}: {done} of {total} of images hashed, {rate / 1e6:,.0f} MB/s{left}"


class Live:
    """Watches an evaluation.

    On a terminal: a bar and jobs by state, a line per running job, the GPUs of this machine. Failures stay above with their sentence.

    Args:
        quiet: show nothing (`--json`).
        costs: what jobs are expected to take, to weigh what is left; None takes rough guesses.
        gpus: asks for the use of every GPU of this machine.
    """

    def __init__(self, console: Console, quiet: bool = False, costs: Costs | None = None, gpus: Callable[[], tuple[GpuUse, ...]] = gpu_use):
        self.console, self.quiet, self.costs, self.gpus = console, quiet, costs or Costs(), gpus
        self.on_screen = console.is_terminal and not quiet
        self.whole, self.running = _progress(console, TimeElapsedColumn()), _progress(console, TimeElapsedColumn(), TimeRemainingColumn())
        hashing = _progress(console, TransferSpeedColumn(), TimeRemainingColumn(), count=DownloadColumn())
        self.hashing = HashingLine(console, hashing if self.on_screen else None)
        self.total: TaskID | None = None
        self.lines: dict[str, TaskID] = {}
        self.jobs: dict[str, Job] = {}
        self.weights: dict[str, float] = {}  # expected seconds, of jobs that have not ended
        self.share: dict[str, float] = {}  # done of a running job, 0..1
        self.n_done = self.n_failed = 0
        self._noticed: set[str] = set()
        self._weight_done, self._started = 0.0, time.monotonic()
        self._states = ""  # as of the last event: the screen is drawn by another thread, which must not count what changes
        self._gpus: tuple[GpuUse, ...] = ()
        self._ended = threading.Event()
        self._screen = live.Live(get_renderable=self.picture, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Live:
        if self.on_screen:
            threading.Thread(target=self._watch_gpus, daemon=True, name="gpus").start()
            self._screen.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self.on_screen:
            self._screen.stop()

    @property
    def n_jobs(self) -> int:
        return len(self.jobs)

    def planned(self, planned) -> None:
        """Says once what will happen."""
        self.jobs = {job.key: job for unit in planned.todo for job in unit.jobs}
        self.weights = {job.key: self.costs.seconds(job, unit.inputs) for unit in planned.todo for job in unit.jobs}
        self._started, self._states = time.monotonic(), self.states()
        if self.quiet:
            return
        self.console.print(planned.equipment.sentence, soft_wrap=True, markup=False)
        for text in planned.warnings:
            self.console.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True)
        if planned.adopted:
            self.console.print(f"{planned.adopted} results of an earlier release taken over: same images, labels and weights, new keys.")
        if self.jobs:
            self.console.print(f"{len(planned.jobs)} jobs, {len(planned.done)} already stored, {self.n_jobs} to compute.")
            self.total = self.whole.add_task("all jobs", total=self.n_jobs)

    def event(self, event: Event) -> None:
        if isinstance(event, Hashing):
            if not self.quiet:
                self.hashing.event(event)
        elif isinstance(event, Started):
            self._start(event.key)
        elif isinstance(event, Decoded | Encoded):
            what = "images" if isinstance(event, Decoded) else "features"
            for key in self.lines.keys() & event.keys:
                self.running.update(self.lines[key], description=f"{self._name(key)} · {what}", completed=event.done, total=event.total)
        elif isinstance(event, EpochEnded):
            self._epoch(event)
        elif isinstance(event, Finished):
            self._finish(event)
        elif isinstance(event, Noticed) and not self.quiet and event.sentence not in self._noticed:
            self._noticed.add(event.sentence)  # every unit of a node may notice the same
            self.console.print(event.sentence, style="yellow", soft_wrap=True, markup=False)
        self._states = self.states()

    def left_s(self) -> float | None:
        """Seconds to the end, were the rest to go as the jobs so far; None while nothing is known."""
        under_way = sum(self.share.get(key, 0.0) * weight for key, weight in self.weights.items())
        done, left = self._weight_done + under_way, sum(self.weights.values()) - under_way
        return (time.monotonic() - self._started) * left / done if done else None

    def states(self) -> str:
        """How many jobs wait, run, are done and failed."""
        n_waiting = self.n_jobs - self.n_done - self.n_failed - len(self.lines)
        counts = {"done": self.n_done, "failed": self.n_failed, "running": len(self.lines), "waiting": n_waiting}
        return " · ".join(f"{n} {state}" for state, n in counts.items() if n or state != "failed") + self._remaining_time()

    def picture(self) -> RenderableType:
        """What the terminal shows now."""
        if self.hashing.task is not None:
            assert self.hashing.progress is not None
            return self.hashing.progress
        if self.total is None:
            return Text("")
        shown: list[RenderableType] = [self.whole, Text(self._states), self.running]
        if len(self.lines) > MOST_LINES:
            shown.append(Text(f"… and {len(self.lines) - MOST_LINES} more"))
        shown += [Text(_gpu_line(gpu)) for gpu in self._gpus]
        return Group(*shown)

    def _start(self, key: str) -> None:
        self._end(key)  # its process was lost: it starts again
        self.lines[key] = self.running.add_task(self._name(key), total=None, visible=len(self.lines) < MOST_LINES)

    def _epoch(self, event: EpochEnded) -> None:
        recipe = self.jobs[event.key].experiment.recipe
        done = event.epoch.step / recipe.max_steps if recipe.max_steps else (event.epoch.epoch + 1) / recipe.max_epochs
        self.share[event.key] = min(done, 1.0)
        text = f"{self._name(event.key)} · epoch {event.epoch.epoch + 1}, loss {event.epoch.train_loss:.3f}"
        if event.key in self.lines:
            self.running.update(self.lines[event.key], description=text, completed=event.epoch.step, total=recipe.max_steps)

    def _finish(self, event: Finished) -> None:
        key, failed = event.record.key, event.record.status == "failed" and not is_out(event.record)
        self._end(key)
        self._weight_done += self.weights.pop(key, 0.0)
        self.n_done, self.n_failed = self.n_done + (not failed), self.n_failed + failed
        if self.total is not None:
            self.whole.update(self.total, completed=self.n_done + self.n_failed)
        if self.on_screen and failed:
            self.console.print(self._outcome(event), style="red", soft_wrap=True, markup=False)
        elif not self.on_screen and not self.quiet:
            count = f"[{self.n_done + self.n_failed}/{self.n_jobs}]"
            self.console.print(f"{count} {self._outcome(event)}{self._remaining_time()}", soft_wrap=True, markup=False)

    def _end(self, key: str) -> None:
        self.share.pop(key, None)
        line = self.lines.pop(key, None)
        if line is not None:
            self.running.remove_task(line)
            for other in list(self.lines.values())[:MOST_LINES]:
                self.running.update(other, visible=True)

    def _remaining_time(self) -> str:
        left = self.left_s()
        return f" · about {duration(left)} left" if left is not None and self.weights else ""

    def _outcome(self, event: Finished) -> str:
        record = event.record
        name = self._name(record.key)
        if record.failure is not None:
            state = "not computed" if of_environment(record.failure) else "failed"
            return f"{name}: {state}: {record.failure.sentence}"
        if record.not_needed:
            return f"{name}: not needed, {record.not_needed}"
        value = record.metrics.get(record.job.experiment.report)
        shown = f"{metric_title(record.job)} {value * 100:.1f}" if value is not None else "done"
        return f"{name}: {shown} ({sum(record.timings_s.values()):.0f} s)"

    def _name(self, key: str) -> str:
        if key not in self.jobs:
            return key
        labels, experiment = self.jobs[key].labels, self.jobs[key].experiment
        rate = "" if experiment.learning_rate is None else f" at rate {experiment.learning_rate:g}"
        which = f"search{rate or ' beyond the grid'}, run" if experiment.role is Role.SELECTION else "run"
        return f"{labels.task} · {labels.backbone} · {which} {labels.run_number}"

    def _watch_gpus(self) -> None:
        while not self._ended.is_set() and (seen := self.gpus()):  # none here: nothing to watch
            self._gpus = seen
            self._ended.wait(GPU_EVERY_S)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size_text(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"


def _gpu_line(gpu: GpuUse) -> str:
    filled = round(gpu.busy * 10)
    memory = f"{gpu.used_bytes / 2**30:.1f} of {gpu.total_bytes / 2**30:.1f} GiB"
    return f"GPU {gpu.index} {'█' * filled}{'░' * (10 - filled)} {gpu.busy * 100:3.0f} % busy, {memory}"


def _progress(console: Console, *times: ProgressColumn, count: ProgressColumn | None = None) -> Progress:
    narrow = console.width < NARROW
    # Names and paths may hold brackets. On a narrow terminal they take more lines, so that the count beside them is whole.
    description = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=not narrow, overflow="fold"))
    count = count or MofNCompleteColumn(table_column=Column(no_wrap=True))
    columns = (description, count, times[-1]) if narrow else (description, BarColumn(bar_width=24), count, *times)
    return Progress(*columns, console=console, transient=True)
