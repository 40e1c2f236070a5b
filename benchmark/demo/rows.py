"""What the demo says of its rows: which is ahead of the random one, means that may be taken, and one radiograph in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from benchmark import registry
from benchmark.cards import Record
from benchmark.report import side_by_side
from benchmark.report.numbers import mean
from benchmark.report.rows import metric_title

IMAGENET = "efficientnet-lite0"  # card whose weights the extra `demo` installs
RANDOM_ROW, TEXT_ROW, IMAGENET_ROW = "random", "pre-trained on text", "ImageNet"


def values_by_row(records: list[Record]) -> dict[str, dict[str, float]]:
    """Task -> row -> mean of the reported metric over its runs, rows in the order in which the demo names them."""
    values: dict[str, dict[str, list[float]]] = {}
    for record in records:
        if record.status == "ok":
            of_task = values.setdefault(record.job.labels.task, {})
            of_task.setdefault(row_of(record), []).append(record.metrics[record.job.experiment.report])
    rows = (RANDOM_ROW, TEXT_ROW, IMAGENET_ROW)
    return {task: {row: mean(found[row]) for row in rows if row in found} for task, found in values.items()}


def pairs_with_random(records: list[Record], row: str) -> dict[str, tuple[float, float]]:
    """Task -> (random, `row`), for tasks with both."""
    every = values_by_row(records)
    return {task: (found[RANDOM_ROW], found[row]) for task, found in every.items() if {RANDOM_ROW, row} <= found.keys()}


def means_by_metric(records: list[Record]) -> dict[str, tuple[dict[str, float], int]]:
    """Metric's title -> (mean by row, number of tasks): over the tasks of one metric that every row has, never over two metrics.

    One short run of one task may fall either way.
    """
    titles = {record.job.labels.task: metric_title(record.job) for record in records}
    every = values_by_row(records)
    rows = list(dict.fromkeys(row for found in every.values() for row in found))
    grouped: dict[str, list[dict[str, float]]] = {}
    for task, found in every.items():
        if len(found) == len(rows):
            grouped.setdefault(titles[task], []).append(found)
    return {title: ({row: mean([one[row] for one in found]) for row in rows}, len(found)) for title, found in grouped.items()}


def picture_lines(records: list[Record], tasks: Sequence[str], out: Path, console: Console) -> list[Text]:
    """The worst and the best row of the first of `tasks` that has two, on one test radiograph; nothing where the console has no room."""
    every = values_by_row(records)
    task = next((task for task in tasks if len(every.get(task, {})) > 1), None)
    if task is None:
        return []
    found = {row_of(record): record for record in records if record.status == "ok" and record.job.labels.task == task}
    ordered = sorted(every[task], key=lambda row: every[task][row])
    title = metric_title(found[ordered[0]].job)
    rows = {f"{row}: {every[task][row] * 100:.1f}": found[row] for row in (ordered[0], ordered[-1])}
    drawn = side_by_side.lines(rows, out, console)
    return [Text(f"{task}: {title}, and one test radiograph"), *drawn] if drawn else []


def row_of(record: Record) -> str:
    """Which of the demo's rows a record is of."""
    backbone = record.job.experiment.backbone
    if backbone.digest is None:
        return RANDOM_ROW
    return IMAGENET_ROW if backbone.model == registry.backbones()[IMAGENET].model else TEXT_ROW


def comparison_lines(records: list[Record]) -> list[str]:
    lines: list[str] = []
    for row in (TEXT_ROW, IMAGENET_ROW):
        if pairs := pairs_with_random(records, row):
            behind = [task for task, (random, trained) in pairs.items() if trained <= random]
            told = f"; behind on {', '.join(behind)}" if behind else ""
            lines.append(f"Row {row!r} is ahead of {RANDOM_ROW!r} on {len(pairs) - len(behind)} of {len(pairs)} tasks{told}.")
    if lines:
        for title, (means, n_tasks) in means_by_metric(records).items():
            values = ", ".join(f"{row} {value * 100:.1f}" for row, value in means.items())
            lines.append(f"  {title}{f', mean of {n_tasks} tasks' if n_tasks > 1 else ''}: {values}")
    return lines
