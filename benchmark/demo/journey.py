"""The newcomer's journey: phantom corpora, three backbones, four tasks, a rank, two questions in words, a leaderboard page.

The backbones are a random ResNet-18, the same pre-trained here on report text, and a small network with real ImageNet weights, which come
inside a Python package. The pretraining corpus has another seed and so other patients; its images come with report text only, never with
boxes or masks. The rank is on the scale of eight encoders made by hand, which are measured here too.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape

from benchmark import registry
from benchmark.api import Evaluation, Request, costs_of, evaluate, write_report
from benchmark.demo import rank
from benchmark.demo.rows import IMAGENET, comparison_lines, picture_lines
from benchmark.encoders import kept_weights
from benchmark.errors import UsageError
from benchmark.files import write_atomically
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.progress import Live, bar
from benchmark.report.rows import metric_title
from benchmark.tracking.address import database_uri

EVALUATION_SEED, PRETRAINING_SEED = 1, 1001
PROCESSES = 2
BACKBONE_FILE, FACTORY = "resnet18.py", "text_pretrained"
BACKBONE = f'''"""The demo's ResNet-18, pre-trained on report text, with the words it learnt."""

from pathlib import Path

from benchmark.demo.word_backbone import pretrained


def {FACTORY}():
    return pretrained(Path(__file__).with_name("resnet18.safetensors"))
'''


@dataclass(frozen=True)
class Journey:
    """How much of everything; the default takes about four minutes on two cores.

    Attributes:
        patients: generated patients by dataset.
        images_per_patient: least and most; few, because another patient teaches and tests more than another image of the same one.
        positive_share: of RSNA images; more findings than in the real release, so that so few images hold enough of them.
        pretraining_images: budget of pre-training; no clock ends it, so that the same file comes out on a slow machine.
        tasks: of all backbones, from the suite `demo`.
        words: asked of the backbone that read reports.
    """

    patients: dict[str, int] = field(default_factory=lambda: {"rsna": 170, "covid-rural": 100})
    pretraining_patients: int = 340
    images_per_patient: tuple[int, int] = (1, 2)
    positive_share: float = 0.5
    pretraining_images: int = 1800
    tasks: tuple[str, ...] = field(default_factory=lambda: registry.suite("demo").tasks)
    words: tuple[str, ...] = field(default_factory=lambda: registry.suite("demo-words").tasks)


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
        f"LOBE demo: generated radiographs in the public formats, {counted} backbones, four tasks, a rank, one page. "
        "About four minutes on two cores."
    )
    if photographs is None:
        console.print(f"Without the row of ImageNet's weights: {kept_weights.how_to_get(registry.backbones()[IMAGENET])} adds it.")
    for name, patients in journey.patients.items():
        share = journey.positive_share if name == "rsna" else None
        plan = CorpusPlan(name, patients, EVALUATION_SEED, journey.images_per_patient, share)
        _corpus(plan, folder / "data" / registry.dataset(name).folder, console)
    text_pretrained = _pretrained(folder, journey, console)
    request = Request(
        backbones=["torchvision:resnet18", text_pretrained, *([IMAGENET] if photographs else [])],
        tasks=journey.tasks,
        data=[str(folder / "data")],
        out=folder / "out",
        cache=folder / "cache",
        executor=executor,
    )
    evaluation = _evaluated(request, console)
    console.print("Two questions in words to the backbone that read reports, and eight encoders made by hand as a scale to rank by.")
    words = _evaluated(replace(request, backbones=[text_pretrained], tasks=journey.words, executor="inline", tracking=False), console)
    ranked, made_by_hand = (_evaluated(each, console) for each in rank.requests_of(request, folder / "panel"))
    _include_panel(made_by_hand, folder / "panel", console)
    page = write_report(request.out, title="LOBE demo").page
    for line in comparison_lines(evaluation.records):
        console.print(line)
    for record in words.records:
        if record.status == "ok":
            value = record.metrics[record.job.experiment.report]
            console.print(f"Asked in words, {record.job.labels.task}: {metric_title(record.job)} {value * 100:.1f}")
    if lines := rank.rank_lines(request.out):
        console.print("Ranks, and headlines in spreads of the encoders made by hand above their median; intervals are of 95 %:")
        for line in lines:
            console.print(line, soft_wrap=True, markup=False)
    for drawn in picture_lines(evaluation.records, journey.tasks, request.out, console):
        console.print(drawn, soft_wrap=True)
    failures = [*evaluation.failures, *words.failures, *ranked.failures, *made_by_hand.failures]
    for record in failures:
        assert record.failure is not None
        console.print(f"[red]failed:[/] {escape(f'{record.job.labels.task}: {record.failure.sentence}')}", soft_wrap=True)
    console.print(f"Done in {time.monotonic() - started:.0f} s.")
    console.print(f"Leaderboard: {escape(str(page))}", soft_wrap=True)
    again = ("lobe", "--include", str(folder / "panel"), "report", "--out", str(request.out))
    console.print(f"Once more:   {escape(shlex.join(again))}", soft_wrap=True)
    console.print(f"Tracking:    mlflow ui --backend-store-uri {escape(shlex.quote(database_uri(request.out)))}", soft_wrap=True)
    console.print('             its view "Model training", experiment "lobe", holds the evaluation with its tasks and runs inside')
    return 1 if failures or any(one.planned.problems for one in (evaluation, words, ranked, made_by_hand)) else 0


def _pretrained(folder: Path, journey: Journey, console: Console) -> str:
    """The name of the backbone that is pre-trained here, once."""
    home = folder / "text-pretrained"
    weights, file = home / "resnet18.safetensors", home / BACKBONE_FILE
    if not weights.exists():
        corpus = folder / "pretraining-data" / "rsna"
        plan = CorpusPlan("rsna", journey.pretraining_patients, PRETRAINING_SEED, journey.images_per_patient, journey.positive_share)
        _corpus(plan, corpus, console)
        from benchmark.training.text_pretraining import pretrain

        home.mkdir(parents=True, exist_ok=True)
        (size,) = {registry.task(task).frame_size for task in journey.tasks}
        with bar(console, "pre-training on report text") as step:
            pretrain(corpus, weights, size, journey.pretraining_images, processes=PROCESSES, progress=step)
    write_atomically(file, BACKBONE.encode())
    return f"{file}:{FACTORY}"


def _evaluated(request: Request, console: Console) -> Evaluation:
    with Live(console, costs=costs_of(request)) as live:
        return evaluate(request, live)


def _include_panel(measured: Evaluation, folder: Path, console: Console) -> None:
    """Without a rank the journey goes on: few images may give no scale."""
    try:
        rank.include_panel(measured, folder)
    except UsageError as error:
        console.print(f"No rank: {escape(str(error))}", soft_wrap=True)


def _corpus(plan: CorpusPlan, folder: Path, console: Console) -> None:
    if (folder / "PHANTOM.json").exists():
        return
    with bar(console, f"phantom radiographs · {plan.dataset}") as step:
        write_corpus(plan, folder, progress=step, workers=PROCESSES)
