"""Makes complete jobs and records by code: every report test starts from these. Nothing here trains or reads a file."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from benchmark import registry
from benchmark.cards import (
    BackboneRef,
    Contamination,
    DatasetRef,
    EncoderMode,
    Epoch,
    Experiment,
    Failure,
    Job,
    Labels,
    Normalisation,
    Recipe,
    Record,
    Role,
    SplitRule,
    Switches,
    Words,
)

GREY = Normalisation(mean=(0.49,), std=(0.25,))
CARDS = dict(registry.datasets())  # some tests go without cards; digests of lists are facts all the same

# task id -> dataset, head, encoder, fraction, metric, title of the metric
TASKS = {
    "rsna-yolov3-frozen-10": ("rsna", "yolov3", "frozen", 0.1, "mAP", "mAP (LoVT)"),
    "rsna-yolov3-frozen-100": ("rsna", "yolov3", "frozen", 1.0, "mAP", "mAP (LoVT)"),
    "rsna-yolov3-finetune-100": ("rsna", "yolov3", "finetune", 1.0, "mAP", "mAP (LoVT)"),
    "rsna-linear-frozen-10": ("rsna", "linear", "frozen", 0.1, "opacity_dice", "opacity Dice"),
    "covid-rural-unet-frozen-100": ("covid-rural", "unet", "frozen", 1.0, "opacity_dice", "opacity Dice"),
    "siim-unet-frozen-10": ("siim", "unet", "frozen", 0.1, "pneumothorax_dice", "pneumothorax Dice"),
    "siim-unet-frozen-100": ("siim", "unet", "frozen", 1.0, "pneumothorax_dice", "pneumothorax Dice"),
    "object-cxr-yolov3-frozen-100": ("object-cxr", "yolov3", "frozen", 1.0, "froc", "FROC (LoVT)"),
}


def make_job(
    task: str = "rsna-yolov3-frozen-10",
    backbone: str = "resnet50 (random)",
    run: int = 0,
    *,
    digest: str | None = None,
    model: str = "resnet50",
    role: Role = Role.FINAL,
    learning_rate: float | None = 1e-3,
    grid: tuple[float, ...] = (),
    protocol: str = "published",
    limit: int | None = None,
    threads: int = 1,
    split: str = "lovt",
    order_seed: int = 12345,
    depends_on: tuple[str, ...] = (),
    words: Words | None = None,
    suite: str | None = None,
    contamination: Contamination | None = None,
    custom: tuple[str, ...] = (),
) -> Job:
    dataset, head, encoder, fraction, metric, title = TASKS[task]
    seed = 12345 + run
    experiment = Experiment(
        task_version=1,
        backbone=BackboneRef(family="torchvision", model=model, digest=digest, init_seed=None if digest else seed),
        dataset=DatasetRef(
            name=dataset,
            digest=f"{dataset:0<64}",
            split=split,
            split_rule=SplitRule(rule="permutation" if split == "lovt" else f"permutation, {split}"),
            classes=("opacity",),
            target="boxes" if head == "yolov3" else "masks",
            intensity="as-stored",
            statistics=GREY,
        ),
        head=head,
        encoder=EncoderMode(encoder),
        fraction=fraction,
        recipe=Recipe(batch_size=8, learning_rate=1e-3, max_epochs=3, patience=3, grid=grid),
        select=metric,
        report=metric,
        switches=Switches(),
        role=role,
        learning_rate=learning_rate,
        head_seed=seed,
        order_seed=order_seed,
        limit=limit,
        threads=threads,
        words=words,
    )
    labels = Labels(
        task=task,
        task_title=f"{dataset} · {head} · {encoder} · {fraction * 100:g} %",
        suite=suite,
        protocol=protocol,
        backbone=backbone,
        run=run,
        fraction_text=f"{fraction * 100:g} %",
        encoder_text=encoder,
        metric_title=title,
        contamination=contamination,
        custom=custom,
    )
    return Job(experiment=experiment, labels=labels, depends_on=depends_on)


def published_digests(job: Job) -> dict[str, str]:
    """What a job on LoVT's own lists records: the digests of the dataset card."""
    expected = CARDS[job.experiment.dataset.name].splits["lovt"].expected
    train = "train" if job.experiment.fraction == 1 else f"train_{job.experiment.fraction * 100:.0f}pct"
    parts = {"train": train, "validation": "validation", "test": "test"}
    return {f"{split} sorted": expected[name].sha256_sorted for split, name in parts.items() if name in expected}


def make_record(value: float | None = 0.2, *, job: Job | None = None, phantom: bool = False, failure: str = "", **options) -> Record:
    """A finished record; `failure` makes it a failed one, options go to `make_job` or, where they are fields, to the record."""
    fields = {name: options.pop(name) for name in list(options) if name in Record.model_fields}
    job = job or make_job(**options)
    metric = job.experiment.report
    limited = job.experiment.limit is not None
    common = {
        "key": job.key,
        "job": job,
        "scale": "limited" if limited else "full",
        "phantom": phantom,
        "redistribution": "open",
        "timings_s": {"data": 1.0, "training": 12.5},
        "environment": {"torch": "2.15.0", "device": "cpu", "mmdet": "absent"},
    }
    if failure:
        common |= {"status": "failed", "failure": Failure(kind="TrainingError", sentence=failure, traceback="Traceback …")}
    else:
        curve = tuple(
            Epoch(
                epoch=e,
                step=10 * (e + 1),
                train_loss=1.0 / (e + 1),
                validation_loss=1.2 / (e + 1),
                learning_rate=1e-3,
                metrics={metric: 0.1 * e},
            )
            for e in range(3)
        )
        common |= {
            "status": "ok",
            "metrics": {metric: value},
            "validation": {metric: value},
            "curve": curve,
            "selected_epoch": 2,
            "steps": 30,
            "learning_rate": 1e-3,
            "counts": {"train": {"images": 160, "positives": 36}, "test": {"images": 100, "positives": 22}},
            "sample_digests": published_digests(job),
            "parameters": {"trained": 21_626_934, "frozen": 23_508_032},
            "peak_memory_bytes": 900 * 2**20,
        }
    return Record(**(common | fields))


def make_runs(values: list[float], **options) -> list[Record]:
    return [make_record(value, run=run, **options) for run, value in enumerate(values)]


@pytest.fixture(scope="session")
def make() -> Callable:
    """`make.job`, `make.record`, `make.runs`, `make.digests`."""
    return SimpleNamespace(job=make_job, record=make_record, runs=make_runs, digests=published_digests, tasks=TASKS)
