"""The newcomer's journey: phantom corpora, a random and a text-pretrained ResNet-18, four tasks, a leaderboard page.

The pretraining corpus has another seed and so other patients; its images come with report text only, never with boxes or masks.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console

from benchmark import registry
from benchmark.api import Request, costs_of, evaluate, write_report
from benchmark.cards import Record
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.progress import Live, bar
from benchmark.report.numbers import mean
from benchmark.report.rows import metric_title
from benchmark.tracking.address import database_uri

EVALUATION_SEED, PRETRAINING_SEED = 1, 1001
PROCESSES = 2


@dataclass(frozen=True)
class Journey:
    """How much of everything; the default fits five minutes on two cores.

    Attributes:
        patients: generated patients by dataset.
        images_per_patient: least and most; few, because another patient teaches and tests more than another image of the same one.
        positive_share: of RSNA images; more findings than in the real release, so that so few images hold enough of them.
        pretraining_images, pretraining_s: budget of pre-training; whichever comes first ends it.
        tasks: all of the suite `demo`.
    """

    patients: dict[str, int] = field(default_factory=lambda: {"rsna": 200, "covid-rural": 100})
    pretraining_patients: int = 390
    images_per_patient: tuple[int, int] = (1, 2)
    positive_share: float = 0.5
    pretraining_images: int = 2400
    pretraining_s: float = 90.0
    tasks: tuple[str, ...] = field(default_factory=lambda: registry.suite("demo").tasks)


def run_demo(folder: Path, executor: Literal["ray", "inline"], console: Console, journey: Journey | None = None) -> int:
    """Runs the whole journey in `folder`; run again, it computes only what is missing.

    Returns:
        Exit code: 0 all good, 1 some job failed.
    """
    journey = journey or Journey()
    started = time.monotonic()
    console.print(
        "LOBE demo: generated radiographs in the public formats, two backbones, four tasks, one page. About five minutes on two cores."
    )
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
            pretrain(corpus, weights, size, journey.pretraining_images, journey.pretraining_s, processes=PROCESSES, progress=step)
    request = Request(
        backbones=["torchvision:resnet18", f"torchvision:resnet18@{weights}"],
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
    for record in evaluation.failures:
        assert record.failure is not None
        console.print(f"[red]failed:[/] {record.job.labels.task}: {record.failure.sentence}", soft_wrap=True)
    console.print(f"Done in {time.monotonic() - started:.0f} s.")
    console.print(f"Leaderboard: {page}", soft_wrap=True)
    console.print(f"Tracking:    mlflow ui --backend-store-uri {shlex.quote(database_uri(request.out))}", soft_wrap=True)
    console.print('             its view "Model training", experiment "lobe", holds the evaluation with its tasks and runs inside')
    return 1 if evaluation.failures or evaluation.planned.problems else 0


def pretrained_wins(records: list[Record]) -> dict[str, tuple[float, float]]:
    """Task -> (random, pre-trained) value of the reported metric, for tasks with both."""
    values: dict[str, dict[bool, float]] = {}
    for record in records:
        if record.status == "ok":
            experiment = record.job.experiment
            values.setdefault(record.job.labels.task, {})[experiment.backbone.digest is not None] = record.metrics[experiment.report]
    return {task: (pair[False], pair[True]) for task, pair in values.items() if len(pair) == 2}


def means_by_metric(records: list[Record]) -> dict[str, tuple[float, float, int]]:
    """Metric's title -> (random, pre-trained, number of tasks): the mean over the tasks of one metric, never over two.

    One short run of one task may fall either way.
    """
    titles = {record.job.labels.task: metric_title(record.job) for record in records}
    grouped: dict[str, list[tuple[float, float]]] = {}
    for task, pair in pretrained_wins(records).items():
        grouped.setdefault(titles[task], []).append(pair)
    return {
        title: (mean([random for random, _ in pairs]), mean([trained for _, trained in pairs]), len(pairs))
        for title, pairs in grouped.items()
    }


def _comparison_lines(records: list[Record]) -> list[str]:
    pairs = pretrained_wins(records)
    if not pairs:
        return []
    ahead = sum(trained > random for random, trained in pairs.values())
    lines = [f"The pre-trained row is ahead on {ahead} of {len(pairs)} tasks. By metric, pre-trained against untrained:"]
    lines += [
        f"  {title}: {trained * 100:.1f} against {random * 100:.1f}{f', mean of {n_tasks} tasks' if n_tasks > 1 else ''}"
        for title, (random, trained, n_tasks) in means_by_metric(records).items()
    ]
    lines += [
        f"  behind on {task}: {trained * 100:.1f} against {random * 100:.1f}"
        for task, (random, trained) in pairs.items()
        if trained <= random
    ]
    return lines


def _corpus(plan: CorpusPlan, folder: Path, console: Console) -> None:
    if (folder / "PHANTOM.json").exists():
        return
    with bar(console, f"phantom radiographs · {plan.dataset}") as step:
        write_corpus(plan, folder, progress=step, workers=PROCESSES)
