"""The newcomer's journey: phantom corpora, three backbones, four tasks, a leaderboard page.

The backbones are a random ResNet-18, the same pre-trained here on report text, and a small network with real ImageNet weights, which come
inside a Python package. The pretraining corpus has another seed and so other patients; its images come with report text only, never with
boxes or masks.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from benchmark import registry
from benchmark.api import Request, costs_of, evaluate, write_report
from benchmark.cards import Record
from benchmark.encoders import kept_weights
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.progress import Live, bar
from benchmark.report import side_by_side
from benchmark.report.numbers import mean
from benchmark.report.rows import metric_title
from benchmark.tracking.address import database_uri

EVALUATION_SEED, PRETRAINING_SEED = 1, 1001
PROCESSES = 2
IMAGENET = "efficientnet-lite0"  # card whose weights the extra `demo` installs
RANDOM_ROW, TEXT_ROW, IMAGENET_ROW = "random", "pre-trained on text", "ImageNet"


@dataclass(frozen=True)
class Journey:
    """How much of everything; the default takes about four minutes on two cores.

    Attributes:
        patients: generated patients by dataset.
        images_per_patient: least and most; few, because another patient teaches and tests more than another image of the same one.
        positive_share: of RSNA images; more findings than in the real release, so that so few images hold enough of them.
        pretraining_images: budget of pre-training; no clock ends it, so that the same file comes out on a slow machine.
        tasks: all of the suite `demo`.
    """

    patients: dict[str, int] = field(default_factory=lambda: {"rsna": 200, "covid-rural": 100})
    pretraining_patients: int = 390
    images_per_patient: tuple[int, int] = (1, 2)
    positive_share: float = 0.5
    pretraining_images: int = 2400
    tasks: tuple[str, ...] = field(default_factory=lambda: registry.suite("demo").tasks)


def run_demo(folder: Path, executor: Literal["ray", "inline"], console: Console, journey: Journey | None = None) -> int:
    """Runs the whole journey in `folder`; run again, it computes only what is missing.

    Returns:
        Exit code: 0 all good, 1 some job failed.
    """
    journey = journey or Journey()
    started = time.monotonic()
    photographs = kept_weights.in_package(registry.backbones()[IMAGENET])
    counted = "three" if photographs else "two"
    console.print(
        f"LOBE demo: generated radiographs in the public formats, {counted} backbones, four tasks, one page. "
        "About four minutes on two cores."
    )
    if photographs is None:
        console.print(f"Without the row of ImageNet's weights: {kept_weights.how_to_get(registry.backbones()[IMAGENET])} adds it.")
    for name, patients in journey.patients.items():
        share = journey.positive_share if name == "rsna" else None
        _corpus(
            CorpusPlan(name, patients, EVALUATION_SEED, journey.images_per_patient, share),
            folder / "data" / registry.dataset(name).folder,
            console,
        )
    weights = folder / "resnet18-text-pretrained.safetensors"
    if not weights.exists():
        corpus = folder / "pretraining-data" / "rsna"
        plan = CorpusPlan("rsna", journey.pretraining_patients, PRETRAINING_SEED, journey.images_per_patient, journey.positive_share)
        _corpus(plan, corpus, console)
        from benchmark.training.text_pretraining import pretrain

        (size,) = {registry.task(task).frame_size for task in journey.tasks}
        with bar(console, "pre-training on report text") as step:
            pretrain(corpus, weights, size, journey.pretraining_images, processes=PROCESSES, progress=step)
    request = Request(
        backbones=["torchvision:resnet18", f"torchvision:resnet18@{weights}", *([IMAGENET] if photographs else [])],
        tasks=journey.tasks,
        data=[str(folder / "data")],
        out=folder / "out",
        cache=folder / "cache",
        executor=executor,
    )
    with Live(console, costs=costs_of(request)) as live:
        evaluation = evaluate(request, live)
    page = write_report(request.out, title="LOBE demo").page
    for line in _comparison_lines(evaluation.records):
        console.print(line)
    for drawn in picture_lines(evaluation.records, journey.tasks, request.out, console):
        console.print(drawn, soft_wrap=True)
    for record in evaluation.failures:
        assert record.failure is not None
        console.print(f"[red]failed:[/] {escape(f'{record.job.labels.task}: {record.failure.sentence}')}", soft_wrap=True)
    console.print(f"Done in {time.monotonic() - started:.0f} s.")
    console.print(f"Leaderboard: {escape(str(page))}", soft_wrap=True)
    console.print(f"Tracking:    mlflow ui --backend-store-uri {escape(shlex.quote(database_uri(request.out)))}", soft_wrap=True)
    console.print('             its view "Model training", experiment "lobe", holds the evaluation with its tasks and runs inside')
    return 1 if evaluation.failures or evaluation.planned.problems else 0


def values_by_row(records: list[Record]) -> dict[str, dict[str, float]]:
    """Task -> row -> value of the reported metric, rows in the order in which the demo names them."""
    values: dict[str, dict[str, float]] = {}
    for record in records:
        if record.status == "ok":
            experiment = record.job.experiment
            values.setdefault(record.job.labels.task, {})[_row(record)] = record.metrics[experiment.report]
    rows = (RANDOM_ROW, TEXT_ROW, IMAGENET_ROW)
    return {task: {row: found[row] for row in rows if row in found} for task, found in values.items()}


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
    found = {_row(record): record for record in records if record.status == "ok" and record.job.labels.task == task}
    ordered = sorted(every[task], key=lambda row: every[task][row])
    title = metric_title(found[ordered[0]].job)
    rows = {f"{row}: {every[task][row] * 100:.1f}": found[row] for row in (ordered[0], ordered[-1])}
    drawn = side_by_side.lines(rows, out, console)
    return [Text(f"{task}: {title}, and one test radiograph"), *drawn] if drawn else []


def _row(record: Record) -> str:
    backbone = record.job.experiment.backbone
    if backbone.digest is None:
        return RANDOM_ROW
    return IMAGENET_ROW if backbone.model == registry.backbones()[IMAGENET].model else TEXT_ROW


def _comparison_lines(records: list[Record]) -> list[str]:
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


def _corpus(plan: CorpusPlan, folder: Path, console: Console) -> None:
    if (folder / "PHANTOM.json").exists():
        return
    with bar(console, f"phantom radiographs · {plan.dataset}") as step:
        write_corpus(plan, folder, progress=step, workers=PROCESSES)
