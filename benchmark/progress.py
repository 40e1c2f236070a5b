"""What a terminal shows while work goes on: one bar with an estimate, failures with their sentence; plain lines when not a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmark.execute.work import Decoding, EpochEnded, Event, Finished, Started

PLAIN_EVERY_S = 10.0


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
    with _progress(console) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class Live:
    """Watches an evaluation: one line per running job, one for the whole.

    Args:
        quiet: show nothing (`--json`).
    """

    def __init__(self, console: Console, quiet: bool = False):
        self.console, self.quiet = console, quiet
        self.progress = _progress(console) if console.is_terminal and not quiet else None
        self.total: TaskID | None = None
        self.lines: dict[str, TaskID] = {}
        self.names: dict[str, str] = {}
        self.budgets: dict[str, int] = {}
        self.n_jobs, self.n_done = 0, 0

    def __enter__(self) -> Live:
        if self.progress is not None:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def planned(self, planned) -> None:
        """Says once what will happen."""
        self.n_jobs = planned.n_todo
        for unit in planned.todo:
            for job in unit.jobs:
                labels, recipe = job.labels, job.experiment.recipe
                self.names[job.key] = f"{labels.task} · {labels.backbone} · run {labels.run + 1}"
                self.budgets[job.key] = recipe.max_steps or 0
        if self.quiet:
            return
        for text in planned.warnings:
            self.console.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True)
        if self.n_jobs:
            self.console.print(f"{len(planned.jobs)} jobs, {len(planned.done)} already stored, {self.n_jobs} to compute.")
        if self.progress is not None and self.n_jobs:
            self.total = self.progress.add_task("all jobs", total=self.n_jobs)

    def event(self, event: Event) -> None:
        if self.quiet:
            return
        if self.progress is None:
            self._plain(event)
        else:
            self._live(self.progress, event)

    def _plain(self, event: Event) -> None:
        if not isinstance(event, Finished):
            return
        self.n_done += 1
        self.console.print(f"[{self.n_done}/{self.n_jobs}] {self._outcome(event)}", soft_wrap=True, markup=False)

    def _live(self, progress: Progress, event: Event) -> None:
        if isinstance(event, Started):
            self.lines[event.key] = progress.add_task(self.names.get(event.key, event.key), total=None)
        elif isinstance(event, Decoding):
            for key, line in self.lines.items():
                if event.unit and self.names.get(key, "").startswith(event.unit):
                    progress.update(line, description=f"{self.names[key]} · images", completed=event.done, total=event.total)
        elif isinstance(event, EpochEnded):
            budget = self.budgets.get(event.key)
            name = self.names.get(event.key, event.key)
            text = f"{name} · epoch {event.epoch.epoch + 1}, loss {event.epoch.train_loss:.3f}"
            progress.update(self.lines[event.key], description=text, completed=event.epoch.step, total=budget or None)
        elif isinstance(event, Finished):
            line = self.lines.pop(event.record.key, None)
            if line is not None:
                progress.remove_task(line)
            if event.record.status == "failed":
                progress.console.print(self._outcome(event), style="red", soft_wrap=True, markup=False)
            if self.total is not None:
                progress.advance(self.total)

    def _outcome(self, event: Finished) -> str:
        record = event.record
        name = self.names.get(record.key, record.key)
        if record.failure is not None:
            return f"{name}: failed: {record.failure.sentence}"
        value = record.metrics.get(record.job.experiment.report)
        shown = f"{record.job.labels.metric_title} {value * 100:.1f} %" if value is not None else "done"
        return f"{name}: {shown} ({sum(record.timings_s.values()):.0f} s)"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),  # names and paths may hold brackets
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
