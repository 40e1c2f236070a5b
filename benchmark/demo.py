"""The newcomer's journey: phantom corpora, a random and a text-pretrained ResNet-18, four tasks, a leaderboard page.

The pretraining corpus has another seed and so other patients; its images come with report text only, never with boxes or masks.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from rich.console import Console

from benchmark import registry
from benchmark.api import Request, evaluate, write_report
from benchmark.cards import Record
from benchmark.phantom.corpus import Plan, write_corpus
from benchmark.progress import Live, bar

EVALUATION_SEED, PRETRAINING_SEED = 1, 1001
PATIENTS = {"rsna": 64, "covid-rural": 36}
PRETRAINING_PATIENTS = 200
# More findings than in the real releases, so that so few images hold enough of them to learn from and to be scored on.
POSITIVE_SHARE = 0.5
PRETRAINING_S = 55.0
PROCESSES = 2
SUITE: str | None = "demo"
TASKS: tuple[str, ...] = ()  # of the suite; a test names fewer


def run_demo(folder: Path, executor: Literal["ray", "inline"], console: Console) -> int:
    """Runs the whole journey in `folder`; run again, it computes only what is missing.

    Returns:
        Exit code: 0 all good, 1 some job failed.
    """
    started = time.monotonic()
    console.print(
        "LOBE demo: generated radiographs in the public formats, two backbones, four tasks, one page. About five minutes on two cores."
    )
    for name, patients in PATIENTS.items():
        share = POSITIVE_SHARE if name == "rsna" else None
        _corpus(
            Plan(dataset=name, n_patients=patients, seed=EVALUATION_SEED, positive_share=share),
            folder / "data" / registry.dataset(name).folder,
            console,
        )
    weights = folder / "resnet18-text-pretrained.safetensors"
    if not weights.exists():
        corpus = folder / "pretraining-data" / "rsna"
        _corpus(
            Plan(dataset="rsna", n_patients=PRETRAINING_PATIENTS, seed=PRETRAINING_SEED, positive_share=POSITIVE_SHARE), corpus, console
        )
        from benchmark.training.text_pretraining import pretrain

        with bar(console, "pre-training on report text") as step:
            pretrain(corpus, weights, seconds=PRETRAINING_S, processes=PROCESSES, progress=step)
    request = Request(
        backbones=["torchvision:resnet18", f"torchvision:resnet18@{weights}"],
        suite=SUITE,
        tasks=TASKS,
        data=[str(folder / "data")],
        out=folder / "out",
        cache=folder / "cache",
        executor=executor,
    )
    with Live(console) as live:
        evaluation = evaluate(request, live)
    page = write_report(request.out, title="LOBE demo")
    for line in _ahead(evaluation.records):
        console.print(line)
    for record in evaluation.failures:
        assert record.failure is not None
        console.print(f"[red]failed:[/] {record.job.labels.task}: {record.failure.sentence}", soft_wrap=True)
    console.print(f"Done in {time.monotonic() - started:.0f} s.")
    console.print(f"Leaderboard: {page}", soft_wrap=True)
    console.print(f"Tracking:    mlflow ui --backend-store-uri sqlite:///{(request.out / 'mlflow.db').resolve()}", soft_wrap=True)
    return 1 if evaluation.failures or evaluation.planned.problems else 0


def pretrained_wins(records: list[Record]) -> dict[str, tuple[float, float]]:
    """Task -> (random, pre-trained) value of the reported metric, for tasks with both."""
    values: dict[str, dict[bool, float]] = {}
    for record in records:
        if record.status == "ok":
            experiment = record.job.experiment
            values.setdefault(record.job.labels.task, {})[experiment.backbone.digest is not None] = record.metrics[experiment.report]
    return {task: (pair[False], pair[True]) for task, pair in values.items() if len(pair) == 2}


def _ahead(records: list[Record]) -> list[str]:
    pairs = pretrained_wins(records)
    ahead = [task for task, (random, trained) in pairs.items() if trained > random]
    lines = [f"The pre-trained backbone is ahead on {len(ahead)} of {len(pairs)} tasks."]
    lines += [
        f"  behind on {task}: {trained * 100:.1f} against {random * 100:.1f}"
        for task, (random, trained) in pairs.items()
        if trained <= random
    ]
    return lines


def _corpus(plan: Plan, folder: Path, console: Console) -> None:
    if (folder / "PHANTOM.json").exists():
        return
    with bar(console, f"phantom radiographs · {plan.dataset}") as step:
        write_corpus(plan, folder, progress=step, workers=PROCESSES)
