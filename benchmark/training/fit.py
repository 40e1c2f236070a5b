"""Fit jobs: data, model, loop, one test, a record. Generators, so that whoever drives them sees decoding and epochs as they happen."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmark import parallel
from benchmark.cards import BackboneRef, EncoderMode, Epoch, Experiment, Job, Normalisation, Record
from benchmark.encoders import conformance, python_file, sources
from benchmark.encoders.base import Backbone
from benchmark.encoders.build import build_backbone
from benchmark.encoders.describe import state_digest
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import CheckpointError, ConformanceError, DataError, LobeError, TrainingError
from benchmark.heads.base import Head, HeadRequest, seeded_init
from benchmark.heads.networks.pyramid import WithPyramid, on_one_grid
from benchmark.kinds.base import Part
from benchmark.kinds.kit import stored
from benchmark.kinds.kit.embedding import UntrainedJob
from benchmark.metrics import spec
from benchmark.readers.base import ids_digest
from benchmark.readers.kit.audit import leakage
from benchmark.registry import plugin
from benchmark.training import evaluate, features
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.compiled import compile_network
from benchmark.training.data import JobData, load, load_untrained
from benchmark.training.determinism import required_device
from benchmark.training.features import FeatureBank
from benchmark.training.loop import Precision, Selected, train
from benchmark.training.micro_batches import require_same_result
from benchmark.training.model import Model
from benchmark.training.place import Place
from benchmark.training.together import train_together

RECORDED_PACKAGES = (
    "torch",
    "torchvision",
    "mmdet",
    "mmcv-lite",
    "numpy",
    "scipy",
    "pydicom",
    "pillow",
    "pycocotools",
    "timm",
    "lobe-bench",
)


@dataclass
class Bench:
    """What jobs of one unit share: the last frozen encoder with its features, and what the test splits give away by themselves."""

    key: tuple | None = None
    encoder: SealedEncoder | None = None
    bank: FeatureBank | None = None
    account: dict[str, int] = field(default_factory=dict)
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    anchors: dict[tuple, dict[str, dict[str, float]]] = field(default_factory=dict)

    def require_unchanged(self) -> None:
        """Raises TrainingError when the frozen encoder is no longer, to the bit, what it was when built."""
        assert self.encoder is not None
        now = self.encoder.state_dict()
        moved = [name for name, tensor in self.state.items() if not torch.equal(tensor, now[name])]
        if moved:
            raise TrainingError(
                f"The encoder of a frozen task changed while the head was trained: {len(moved)} tensors, first {moved[0]}. "
                "Does the backbone switch itself to train mode, or update something in pyramid()?"
            )


@dataclass
class _Ready:
    """What runs of one experiment start from, and what their records need of it; one model per run, on one encoder and bank."""

    data: JobData
    digests: dict[str, str]
    models: list[Model]
    account: dict[str, int]
    timings: dict[str, float]


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
    if experiment.words is not None:
        yield (yield from _untrained(job, place, produced, bench))
        return
    ready = yield from _ready([job], place, bench)
    clock = time.monotonic()
    model, data, finetune = ready.models[0], ready.data, experiment.encoder is EncoderMode.FINETUNE
    if model.most is not None:
        require_same_result(model, data.train, data.batch_size, finetune, _autocast(experiment))
    if place.compiled:
        compile_network(model, data.train, data.batch_size, finetune, _autocast(experiment))
        ready.timings["compiling"], clock = _lap(clock)
    # Dropout and stochastic depth draw from the global generator: a job's draws must not depend on what ran before it.
    torch.manual_seed(experiment.head_seed + parallel.rank())
    checkpoint = place.checkpoints and Checkpoint(place.checkpoints, job.key, learning_rate, place.checkpoint_every_s)
    selected = yield from train(model, data, experiment, learning_rate, experiment.dataset.classes, checkpoint)
    ready.timings["training"], _ = _lap(clock)
    if parallel.rank() == 0:  # the leader tests and tells
        yield _tested(
            job, place, produced, learning_rate, bench, ready, model, selected, path="plain", warnings=_how(checkpoint, place, model.most)
        )


def fit_together(
    jobs: Sequence[Job], place: Place, produced: Path, learning_rates: Sequence[float], bench: Bench
) -> Iterator[tuple[int, int] | tuple[str, Epoch | Record | LobeError]]:
    """Fits jobs of one `together.group_key` side by side; each gets the record that `fit` would give it, within 1e-5.

    Args:
        produced: empty folder; a job's files go to the sub-folder of its key.

    Yields:
        (images decoded, of how many), then a job's key with each of its epochs and, as soon as it has ended, its record or what failed it.

    Raises:
        LobeError: data or encoder cannot be used, by any of the jobs.
    """
    ready = yield from _ready(jobs, place, bench)
    shared = {name: seconds / len(jobs) for name, seconds in ready.timings.items()}
    for run, event in train_together(ready.models, ready.data, [job.experiment for job in jobs], learning_rates):
        job = jobs[run]
        if not isinstance(event, Selected):
            yield job.key, event
            continue
        mine = replace(ready, timings={**shared, "training": event.seconds})
        folder = produced / job.key
        folder.mkdir()
        try:
            yield job.key, _tested(job, place, folder, learning_rates[run], bench, mine, ready.models[run], event, path="fused")
        except LobeError as error:
            yield job.key, error


def _ready(jobs: Sequence[Job], place: Place, bench: Bench) -> Generator[tuple[int, int], None, _Ready]:
    """Data, encoder, features, and a head for every job; the jobs agree in all but rates and seeds."""
    experiment = jobs[0].experiment
    device = required_device(experiment.device_type)
    timings = {}
    clock = time.monotonic()
    data: JobData = yield from load(experiment, place)
    timings["data"], clock = _lap(clock)
    digests = _sample_digests(_parts(data))
    if data.validation.n_positive() == 0:
        raise TrainingError(f"No epoch can be chosen by {experiment.select}: the validation split has no positive image. Use more images.")

    finetune = experiment.encoder is EncoderMode.FINETUNE
    encoder, account = _encoder(experiment, place, device, bench if not finetune else Bench())
    heads = [_head(job.experiment, encoder, device) for job in jobs]
    timings["encoder"], clock = _lap(clock)
    bank, most = None, place.most_at_once(data.batch_size)
    if not finetune:
        bank = bench.bank if bench.bank is not None and set(heads[0].strides) <= set(bench.bank.strides) else None
        bank = bank or FeatureBank(
            encoder,
            heads[0].strides,
            place.feature_budget_bytes,
            _autocast(experiment),
            folder=place.cache.parent / "features",
            batch=features.BATCH if most is None else min(features.BATCH, most),
        )
        bench.bank = bank
        encoder.set_mode("frozen")
        for part in _parts(data):
            if part.augmentation is None:
                bank.prepare(part)
    timings["features"], clock = _lap(clock)
    for module in (*heads, encoder):
        parallel.with_global_batchnorm(module)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return _Ready(data, digests, [Model(encoder, head, bank, device, most) for head in heads], account, timings)


def _tested(
    job: Job,
    place: Place,
    produced: Path,
    learning_rate: float,
    bench: Bench,
    ready: _Ready,
    model: Model,
    selected: Selected,
    *,
    path: Literal["plain", "fused"],
    warnings: tuple[str, ...] = (),
) -> Record:
    """The record of a trained model after its one test."""
    experiment, data, timings = job.experiment, ready.data, ready.timings
    finetune = experiment.encoder is EncoderMode.FINETUNE
    clock = time.monotonic()
    model.restore(selected.state, finetune)
    result = evaluate.test(model, data.test, data.batch_size, place.card, _autocast(experiment))
    anchors = _anchors(experiment, model.head, data, bench)
    _require_possible(result.metrics)
    timings["test"], clock = _lap(clock)
    if not finetune:
        bench.require_unchanged()
    _require_same_files(ready.digests, _parts(data), place)
    stored.write(produced, job, data.test, result, with_examples=place.card.redistribution != "none")
    timings["storing"], clock = _lap(clock)

    return Record(
        key=job.key,
        job=job,
        status="ok",
        scale="limited" if job.limited else "full",
        phantom=place.phantom,
        redistribution=place.card.redistribution,
        path=path,
        metrics=result.metrics,
        validation=selected.metrics,
        counts={part.name: _counts(part, experiment.dataset.classes) for part in _parts(data)},
        sample_digests=ready.digests,
        micro_batches=place.micro_batches,
        leakage=_leakage(data),
        anchors=anchors,
        learning_rate=learning_rate,
        selected_epoch=selected.epoch,
        steps=selected.steps,
        curve=tuple(selected.curve),
        parameters=_parameters(model.encoder, model.head, finetune),
        account=ready.account,
        timings_s={name: round(seconds, 3) for name, seconds in timings.items()},
        peak_memory_bytes=_peak_memory(torch.device(experiment.device_type)),
        environment=environment(torch.device(experiment.device_type)),
        warnings=(*data.warnings, *result.warnings, *warnings),
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def _untrained(job: Job, place: Place, produced: Path, bench: Bench) -> Generator[tuple[int, int], None, Record]:
    """The record of a job that trains nothing: one pass over the test split, and over validation where a threshold needs it."""
    experiment = job.experiment
    device = required_device(experiment.device_type)
    clock, timings = time.monotonic(), {}
    reader, samples, parts = yield from load_untrained(experiment, place)
    timings["data"], clock = _lap(clock)
    digests = _sample_digests(parts.values())
    encoder, account = _encoder(experiment, place, device, bench)
    most = place.most_at_once(experiment.recipe.batch_size) or experiment.recipe.batch_size
    result = evaluate.answer(UntrainedJob(job, encoder, parts, device, _autocast(experiment), most))
    timings["test"], clock = _lap(clock)
    _require_possible(result.metrics)
    bench.require_unchanged()
    _require_same_files(digests, parts.values(), place)
    stored.write(produced, job, parts["test"], result, with_examples=place.card.redistribution != "none")
    timings["storing"], clock = _lap(clock)
    n_parameters = sum(p.numel() for p in encoder.parameters())
    return Record(
        key=job.key,
        job=job,
        status="ok",
        scale="limited" if job.limited else "full",
        phantom=place.phantom,
        redistribution=place.card.redistribution,
        metrics=result.metrics,
        micro_batches=place.micro_batches,
        counts={name: {"images": len(listed), "positives": sum(bool(s.positive) for s in listed)} for name, listed in samples.items()},
        sample_digests=digests,
        parameters={"trained": 0, "frozen": n_parameters, "head": 0, "encoder": n_parameters},
        account=account,
        timings_s={name: round(seconds, 3) for name, seconds in timings.items()},
        peak_memory_bytes=_peak_memory(device),
        environment=environment(device),
        warnings=(*reader.warnings, *result.warnings),
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def _require_possible(metrics: Mapping[str, float]) -> None:
    """A stored record with a value that its metric cannot have is refused wherever it is read: such a value is a bug, said here."""
    if fault := spec.fault_of(metrics):
        raise TrainingError(f"The test gave what cannot be: {fault}. This is a bug of the metric: please report it.")


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
    key = (
        experiment.backbone.model_dump_json(),
        experiment.dataset.model_dump_json(exclude={"target", "split", "split_rule"}),
        str(device),
    )
    if bench.key != key:
        ref = experiment.backbone.model_copy(update={"model": place.backbone_model})
        if experiment.backbone.family == "python_file":
            _require_planned_files(experiment.backbone, place)
        backbone, account = build_backbone(ref, place.weights, init_seed=ref.init_seed)
        if experiment.backbone.family == "python_file":
            _require_planned(experiment.backbone, backbone, place)
        bench.encoder = SealedEncoder(backbone, _statistics(experiment, backbone)).to(device)
        if experiment.backbone.family == "python_file":
            # Shipped families keep the contract by their own tests; an author's file is checked before every use.
            conformance.check(bench.encoder, experiment.dataset.frame_size)
        bench.state = {name: tensor.clone() for name, tensor in bench.encoder.state_dict().items()}
        bench.account, bench.bank, bench.key = account.counts, None, key
    assert bench.encoder is not None
    return bench.encoder, bench.account


def _statistics(experiment: Experiment, backbone: Backbone) -> Normalisation:
    """Mean and deviation that the job's protocol asks for."""
    if experiment.dataset.normalised_by == "dataset":
        return experiment.dataset.statistics
    own = backbone.spec.normalisation
    if own is None:
        raise ConformanceError(
            f"{backbone.spec.name} states no normalisation of its own, and the protocol asks for it: set `normalisation` in its spec or "
            "card to the mean and deviation it was trained with, or use a protocol that normalises by the dataset's."
        )
    return own


def _require_planned_files(ref: BackboneRef, place: Place) -> None:
    """The author's files must be what the job's key stands for: they may have been edited since planning, or be others on this machine."""
    file = Path(place.backbone_model.rpartition(":")[0])
    sources.require_unchanged(place.sources, file.parent, file.name)
    if ref.model.rpartition(":")[2] != sources.combined(place.sources):
        raise CheckpointError(f"{file.name} comes without the list of files it was planned with. Run the same command again.")


def _require_planned(ref: BackboneRef, backbone: Backbone, place: Place) -> None:
    """What was built must be what the job's key stands for: of those files, with those weights."""
    python_file.require_planned(backbone, place.backbone_model, place.sources)
    if ref.digest is not None and ref.digest != state_digest(backbone):
        raise CheckpointError(
            f"{Path(place.backbone_model).name} builds other weights than those the job was planned with. Run the same command again to "
            "plan with what is there now."
        )


def _head(experiment: Experiment, encoder: SealedEncoder, device: torch.device) -> Head:
    request = HeadRequest(
        channels=encoder.backbone.spec.strides,
        n_classes=len(experiment.dataset.classes),
        frame_size=experiment.dataset.frame_size,
        switches=experiment.switches,
        embed_dim=encoder.backbone.spec.embed_dim,
    )
    build, taps = plugin("heads", experiment.head).build, encoder.backbone.spec.taps
    return seeded_init(lambda: on_one_grid(request, build, taps), experiment.head_seed).to(device)


def _anchors(experiment: Experiment, head: Head, data: JobData, bench: Bench) -> dict[str, dict[str, float]]:
    """Computed once per test part and grid."""
    key = (experiment.dataset.model_dump_json(), data.test.digest(), head.grid)
    if key not in bench.anchors:
        bench.anchors[key] = data.test.trained_kind.anchors(data.test, experiment.dataset.classes, head)
    return bench.anchors[key]


def _autocast(experiment: Experiment):
    return Precision(experiment, torch.device(experiment.device_type)).autocast


def _parameters(encoder: SealedEncoder, head: Head, finetune: bool) -> dict[str, int]:
    in_head = sum(p.numel() for p in head.parameters())
    in_encoder = sum(p.numel() for p in encoder.parameters())
    pyramid = {"pyramid": sum(p.numel() for p in head.pyramid.parameters())} if isinstance(head, WithPyramid) else {}
    return {
        "trained": in_head + (in_encoder if finetune else 0),
        "frozen": 0 if finetune else in_encoder,
        "head": in_head,
        "encoder": in_encoder,
        **pyramid,
    }


def _how(checkpoint: Checkpoint | None, place: Place, most: int | None) -> tuple[str, ...]:
    """What of the way a job ran may show in its last digits, or should be known."""
    n = parallel.size()
    several = (f"trained by {n} processes that shared each batch: equal to one process up to rounding",) if n > 1 else ()
    pieces = (f"trained in micro-batches of at most {most} images: equal to whole batches up to rounding",) if most is not None else ()
    compiled = ("run by torch.compile: equal to the plain network up to rounding",) if place.compiled else ()
    return (*several, *pieces, *compiled, *([checkpoint.problem] if checkpoint is not None and checkpoint.problem else ()))


def _parts(data: JobData):
    return (data.train, data.validation, data.test)


def _require_same_files(digests: dict[str, str], parts: Iterable[Part], place: Place) -> None:
    if digests != _sample_digests(parts):
        raise DataError(f"{place.card.name}: image files in {place.dataset_root} changed while the job ran. Run the same command again.")


def _sample_digests(parts: Iterable[Part]) -> dict[str, str]:
    digests = {}
    for part in parts:
        digests |= {part.name: part.digest(), f"{part.name} sorted": ids_digest(part.ids), f"{part.name} files": part.files_digest()}
    return digests


def _counts(part: Part, classes: Sequence[str]) -> dict[str, int]:
    """Images, positives and boxes of a part; with several classes of boxes, those of each: a class of few boxes is only described."""
    labels = np.concatenate([*part.labels, np.zeros(0, np.int64)])
    each = {f"boxes of {name}": int((labels == k).sum()) for k, name in enumerate(classes)} if len(classes) > 1 and len(labels) else {}
    return {"images": len(part), "positives": part.n_positive(), "boxes": len(labels), **each}


def _leakage(data: JobData) -> dict[str, int]:
    patients = {i: patient for part in _parts(data) for i, patient in zip(part.ids, part.patients, strict=True)}
    return leakage({part.name: part.ids for part in _parts(data)}, patients.get)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _lap(since: float) -> tuple[float, float]:
    now = time.monotonic()
    return now - since, now
