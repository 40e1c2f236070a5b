"""Output folders with as many records as a community's, made without training: whole jobs of LoVT's suite with numbers drawn for results.

Every record is sealed, so that it is believed. Runs have curves and no predictions: what grows with test images is measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np

from benchmark import registry
from benchmark.cards import BackboneRef, DatasetCard, DatasetRef, Epoch, Job, Record, TaskCard
from benchmark.integrity import sealed
from benchmark.plan import NamedBackbone, Settings, prepare
from benchmark.store import Store

SUITE = "lovt-18"
N_EPOCHS = 30
COUNTS = {split: {"images": n, "positives": n // 4} for split, n in (("train", 16_000), ("validation", 5_337), ("test", 5_337))}
ENVIRONMENT = {"python": "3.11.7", "torch": "2.9.0", "numpy": "2.3.0", "device": "one processor", "platform": "linux"}
TIMINGS = {"loading": 1.5, "features": 60.0, "training": 240.0, "testing": 30.0}


def make_store(folder: Path, n_records: int, n_epochs: int = N_EPOCHS) -> Path:
    """Writes an output folder of so many records, with its plan, and returns it. The same numbers give the same records.

    Backbones follow one another, the untrained one first, each with all of its selection and final runs.
    """
    store = Store(folder)
    jobs = list(islice(many_jobs(), n_records))
    with store.lock():
        store.plan(jobs)
    for job in jobs:
        store.path(job.key).write_text(
            sealed(record_of(job, n_epochs)).model_dump_json(indent=1)
        )  # not put: a disk would be waited for twice a record
    return folder


def many_jobs() -> Iterator[Job]:
    """Jobs of the suite on one backbone after another, without end."""
    tasks = [registry.task(name) for name in registry.suite(SUITE).tasks]
    datasets = {task.dataset: _dataset(registry.dataset(task.dataset), task) for task in tasks}
    prepared = prepare(tasks, datasets, registry.protocol("published"), Settings(suite=SUITE))
    for number in count():
        digest = None if number == 0 else f"{number:064x}"
        name = "resnet50 (random)" if digest is None else f"resnet50 of method {number}"
        yield from prepared.jobs(NamedBackbone(name, BackboneRef(family="torchvision", model="resnet50", digest=digest)))


def _dataset(card: DatasetCard, task: TaskCard) -> DatasetRef:
    return DatasetRef(
        name=card.name,
        digest=f"{len(card.name):064x}",
        split=task.split,
        split_rule=card.splits[task.split].model_copy(update={"expected": {}}),
        classes=card.classes,
        target="masks",
        intensity=card.intensity,
        statistics=card.statistics,
    )


def record_of(job: Job, n_epochs: int = N_EPOCHS) -> Record:
    """What a job that went well might have stored."""
    rng, e = np.random.default_rng(int(job.key[:12], 16)), job.experiment
    losses, scores = np.sort(rng.random(n_epochs))[::-1], np.sort(rng.random(n_epochs)) * 0.4
    curve = tuple(
        Epoch(epoch=k, step=250 * (k + 1), train_loss=loss, validation_loss=1.1 * loss, learning_rate=1e-3, metrics={e.select: score})
        for k, (loss, score) in enumerate(zip(losses.tolist(), scores.tolist(), strict=True))
    )
    return Record(
        key=job.key,
        job=job,
        status="ok",
        scale="full",
        phantom=True,
        redistribution="open",
        metrics={e.report: 0.3 + 0.05 * rng.random()},
        validation={e.select: float(scores[-1])},
        counts=COUNTS,
        sample_digests={name: f"{number:064x}" for number, name in enumerate((*COUNTS, *(f"{split} files" for split in COUNTS)))},
        learning_rate=e.learning_rate or 1e-3,
        selected_epoch=n_epochs - 1,
        steps=250 * n_epochs,
        curve=curve,
        parameters={"trained": 2_049, "frozen": 23_508_032},
        account={"loaded": 318, "missing": 0, "unexpected": 0},
        timings_s=TIMINGS,
        peak_memory_bytes=2**31,
        environment=ENVIRONMENT,
        finished_at="2026-01-01T00:00:00+00:00",
    )
