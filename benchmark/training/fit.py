"""Fit one job: data, model, loop, one test, a record. A generator, so that whoever drives it sees decoding and epochs as they happen."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import torch

from benchmark.cards import EncoderMode, Epoch, Experiment, Job, Record
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.heads.base import Head, HeadRequest, seeded_init
from benchmark.registry import plugin
from benchmark.training import evaluate, predictions
from benchmark.training.data import JobData, load
from benchmark.training.features import FeatureBank
from benchmark.training.loop import Precision, train
from benchmark.training.model import Model
from benchmark.training.place import Place

RECORDED_PACKAGES = ("torch", "torchvision", "mmdet", "mmcv-lite", "numpy", "scipy", "pydicom", "pillow", "pycocotools", "timm", "lobe-bench")


@dataclass
class Bench:
    """What jobs of one unit share: the last frozen encoder with its features."""

    key: tuple | None = None
    encoder: SealedEncoder | None = None
    bank: FeatureBank | None = None
    account: dict[str, int] = field(default_factory=dict)


def fit(job: Job, place: Place, produced: Path, learning_rate: float, bench: Bench) -> Iterator[tuple[int, int] | Epoch | Record]:
    """Trains, selects on validation, tests once.

    Args:
        produced: empty folder for predictions and per-image statistics.
        learning_rate: the fixed or selected rate.
        bench: shared between the jobs of a unit.

    Yields:
        (images decoded, of how many), then an Epoch per epoch, then the Record.

    Raises:
        LobeError: whatever makes the result untrustworthy; see `benchmark.errors`.
    """
    experiment = job.experiment
    device = torch.device(experiment.device_type)
    timings = {}
    clock = time.monotonic()
    data: JobData = yield from load(experiment, place)
    timings["data"], clock = _lap(clock)

    finetune = experiment.encoder is EncoderMode.FINETUNE
    encoder, account = _encoder(experiment, place, device, bench if not finetune else Bench())
    head = _head(experiment, encoder, device)
    bank = None
    if not finetune:
        bank = bench.bank if bench.bank is not None and set(head.strides) <= set(bench.bank.strides) else None
        bank = bank or FeatureBank(encoder, head.strides, place.feature_budget_bytes)
        bench.bank = bank
        encoder.set_mode("frozen")
        for part in (data.train, data.validation, data.test):
            bank.prepare(part)
    timings["features"], clock = _lap(clock)

    model = Model(encoder, head, bank, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    selected = yield from train(model, data, experiment, learning_rate, experiment.dataset.classes)
    timings["training"], clock = _lap(clock)

    model.restore(selected.state, finetune)
    result = evaluate.test(model, data.test, data.batch_size, place.card, _autocast(experiment))
    timings["test"], clock = _lap(clock)
    predictions.write(produced, job, data.test, result, with_examples=place.card.redistribution != "none")
    timings["storing"], clock = _lap(clock)

    yield Record(
        key=job.key,
        job=job,
        status="ok",
        scale="limited" if job.limited else "full",
        phantom=place.phantom,
        redistribution=place.card.redistribution,
        metrics=result.metrics,
        validation=selected.metrics,
        counts={p.name: {"images": len(p), "positives": p.n_positive(), "boxes": sum(map(len, p.boxes))} for p in _parts(data)},
        sample_digests={p.name: p.digest() for p in _parts(data)},
        learning_rate=learning_rate,
        selected_epoch=selected.epoch,
        steps=selected.steps,
        curve=tuple(selected.curve),
        parameters=_parameters(encoder, head, finetune),
        account=account,
        timings_s={name: round(seconds, 3) for name, seconds in timings.items()},
        peak_memory_bytes=_peak_memory(device),
        environment=environment(device),
        warnings=(*data.warnings, *result.warnings),
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def environment(device: torch.device) -> dict[str, str]:
    """Versions and machine, for provenance; never part of a key."""
    versions = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {**versions, "python": platform.python_version(), "platform": platform.platform(), "device": name}


def _encoder(experiment: Experiment, place: Place, device: torch.device, bench: Bench) -> tuple[SealedEncoder, dict[str, int]]:
    key = (experiment.backbone.model_dump_json(), experiment.dataset.model_dump_json(exclude={"target", "split", "split_rule"}), str(device))
    if bench.key != key:
        ref = experiment.backbone.model_copy(update={"model": place.backbone_model})
        backbone, account = build_backbone(ref, place.weights, init_seed=ref.init_seed)
        bench.encoder = SealedEncoder(backbone, experiment.dataset.statistics).to(device)
        bench.account, bench.bank, bench.key = account.counts, None, key
    assert bench.encoder is not None
    return bench.encoder, bench.account


def _head(experiment: Experiment, encoder: SealedEncoder, device: torch.device) -> Head:
    request = HeadRequest(
        channels=encoder.backbone.spec.strides,
        n_classes=len(experiment.dataset.classes),
        frame_size=experiment.dataset.frame_size,
        switches=experiment.switches,
    )
    return seeded_init(lambda: plugin("heads", experiment.head).build(request), experiment.head_seed).to(device)


def _autocast(experiment: Experiment):
    return Precision(experiment, torch.device(experiment.device_type)).autocast


def _parameters(encoder: SealedEncoder, head: Head, finetune: bool) -> dict[str, int]:
    in_head = sum(p.numel() for p in head.parameters())
    in_encoder = sum(p.numel() for p in encoder.parameters())
    return {"trained": in_head + (in_encoder if finetune else 0), "frozen": 0 if finetune else in_encoder, "head": in_head, "encoder": in_encoder}


def _parts(data: JobData):
    return (data.train, data.validation, data.test)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _lap(since: float) -> tuple[float, float]:
    now = time.monotonic()
    return now - since, now
