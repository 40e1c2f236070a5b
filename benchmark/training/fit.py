"""Fits jobs: data, model, loop, one test at most, a record. Generators of events, so that decoding and epochs are seen as they happen.

Built elsewhere: the encoder and what else a unit's jobs share (`shared_work`), and the record (`record`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import torch

from benchmark import parallel
from benchmark.cards import EncoderMode, Epoch, Experiment, Job, Record
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import DataChanged, LobeError, TrainingError
from benchmark.events import Decoded, Encoded, EpochEnded, Event, Finished, Noticed, Steps
from benchmark.generators import seed_all
from benchmark.heads.base import Head, HeadRequest, seeded_init
from benchmark.heads.networks.pyramid import on_one_grid
from benchmark.kinds.base import Part, Predicted, ScoredSplit
from benchmark.kinds.kit import stored
from benchmark.kinds.kit.embedding import UntrainedJob
from benchmark.machine import forget_peak_memory
from benchmark.metrics import spec
from benchmark.registry import plugin
from benchmark.training import evaluate, record
from benchmark.training.at_once import learn_at_once
from benchmark.training.background import Background
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.compiled import compile_network
from benchmark.training.data import JobData, load, load_untrained
from benchmark.training.determinism import required_device
from benchmark.training.embeddings import Embedder
from benchmark.training.features import FeatureBank
from benchmark.training.inputs import Inputs
from benchmark.training.loop import Precision, Selected, train
from benchmark.training.micro_batches import require_same_result
from benchmark.training.model import Model
from benchmark.training.options import RunOptions
from benchmark.training.passage import Passage, passage_of_embedding
from benchmark.training.record import Clock
from benchmark.training.shared_work import SharedWork
from benchmark.training.together import train_together

Loaded = TypeVar("Loaded")


def fit(
    job: Job, inputs: Inputs, options: RunOptions, learning_rate: float, shared: SharedWork, background: Background | None = None
) -> Iterator[Event]:
    """Trains, selects on validation, tests once. A job that trains nothing is only tested; a search may leave the test split closed.

    Args:
        learning_rate: the fixed or selected rate.
        shared: by the jobs of a unit.
        background: scores and stores the predictions of a trained job, and tells its end; None does it here.

    Yields:
        Decoded while images are read, an EpochEnded per epoch, and Finished at the end unless the background tells it. Where several
        processes share the job, only the leading one tests and yields Finished.

    Raises:
        LobeError: the result cannot be trusted; see `benchmark.errors`.
    """
    experiment = job.experiment
    if experiment.words is not None:
        yield from _untrained(job, inputs, options, shared)
        return
    ready = yield from ready_to_train([job], inputs, options, shared)
    model, data, finetune = ready.models[0], ready.data, experiment.encoder is EncoderMode.FINETUNE
    once = plugin("heads", experiment.head).FACTS.at_once
    if model.most is not None and not once:
        require_same_result(model, data.train, data.batch_size, finetune, _autocast(experiment))
    if options.compiled and not once:
        compile_network(model, data.train, data.batch_size, finetune, _autocast(experiment))
        ready.clock.lap("compiling")
    # Dropout and stochastic depth draw from the process's generators: a job's draws must not depend on what ran before it.
    seed_all(experiment.head_seed + parallel.rank())
    names, checkpoint = experiment.dataset.classes, None
    if options.checkpoints is not None and not once:
        checkpoint = Checkpoint(options.checkpoints, job.key, learning_rate, options.checkpoint_every_s)
    training = Steps(learn_at_once(model, data, experiment) if once else train(model, data, experiment, learning_rate, names, checkpoint))
    for epoch in training:
        yield EpochEnded(job.key, epoch)
    ready.clock.lap("training")
    if parallel.rank() == 0:
        notes, selected = _execution_notes(checkpoint, options, model.most), training.result
        yield from _tested(job, inputs, options, learning_rate, shared, ready, model, selected, background, path="plain", notes=notes)


def fit_together(
    jobs: Sequence[Job],
    inputs: Inputs,
    options: RunOptions,
    learning_rates: Sequence[float],
    shared: SharedWork,
    background: Background | None = None,
) -> Iterator[Event]:
    """Fits jobs of one `together.group_key` side by side; each gets the record that `fit` would give it, within 1e-5.

    Yields:
        As `fit`. Each job is tested as soon as it has ended; what fails one job is its failed record.

    Raises:
        LobeError: data or encoder cannot be used, by any of the jobs.
    """
    began = time.monotonic()
    ready = yield from ready_to_train(jobs, inputs, options, shared)
    preparing = {phase: seconds / len(jobs) for phase, seconds in ready.clock.seconds.items()}
    for run, event in train_together(ready.models, ready.data, [job.experiment for job in jobs], learning_rates):
        job, model = jobs[run], ready.models[run]
        if isinstance(event, Epoch):
            yield EpochEnded(job.key, event)
            continue
        try:
            if isinstance(event, LobeError):
                raise event
            mine = replace(ready, clock=Clock({**preparing, "training": event.seconds}))
            yield from _tested(job, inputs, options, learning_rates[run], shared, mine, model, event, background, path="fused")
        except LobeError as error:
            yield Finished(record.failed(job, inputs, options, error, time.monotonic() - began))


@dataclass
class Ready:
    """What runs of one experiment start from, and what their records need of it; one model per run, on one encoder and bank."""

    data: JobData
    digests: Mapping[str, str]
    models: Sequence[Model]
    account: Mapping[str, int]
    passage: Passage
    clock: Clock

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.data.parts


def ready_to_train(jobs: Sequence[Job], inputs: Inputs, options: RunOptions, shared: SharedWork) -> Generator[Event, None, Ready]:
    """Data, encoder, features, and a head for every job; the jobs agree in all but rates and seeds."""
    experiment = jobs[0].experiment
    device, finetune = required_device(experiment.device_type), experiment.encoder is EncoderMode.FINETUNE
    clock = Clock()
    data = yield from _decoded(jobs, load(experiment, inputs))
    parts = data.parts
    clock.lap("data")
    digests = record.sample_digests(parts)
    if data.validation.n_positive() == 0:
        raise TrainingError(f"No epoch can be chosen by {experiment.select}: the validation split has no positive image. Use more images.")

    owner = SharedWork() if finetune else shared  # a fine-tuned encoder is no other job's
    encoder = owner.encoder_of(experiment, inputs, device)
    heads = [head_of(job.experiment, encoder, device) for job in jobs]
    passed = owner.passage_of(experiment, heads[0])
    clock.lap("encoder")
    bank, most = None, options.most_at_once(data.batch_size)
    if not finetune:
        bank = shared.bank_of(experiment, heads[0], inputs, options, data.train.cache, data.batch_size, _autocast(experiment))
        yield from _encoded(jobs, bank, [part for part in parts if part.augmentation is None])
        data = replace(data, warnings=(*data.warnings, *bank.mended()))
    clock.lap("features")
    for module in (*heads, encoder):
        parallel.with_global_batchnorm(module)
    _forget_peak_memory(device)
    return Ready(data, digests, [Model(encoder, head, bank, device, most) for head in heads], owner.account, passed, clock)


def _tested(
    job: Job,
    inputs: Inputs,
    options: RunOptions,
    learning_rate: float,
    shared: SharedWork,
    ready: Ready,
    model: Model,
    selected: Selected,
    background: Background | None,
    *,
    path: Literal["plain", "fused"],
    notes: tuple[str, ...] = (),
) -> Iterator[Finished]:
    """The one test of a trained model: predictions here, scores and files in the background where there is one.

    A search that leaves the test split closed ends with what it chose on validation.
    """
    experiment, data, clock, head = job.experiment, ready.data, ready.clock, model.head
    test = data.test
    finetune = experiment.encoder is EncoderMode.FINETUNE
    model.restore(selected.state, finetune)
    selected.state = {}  # it is in the model now
    parts, digests, account, parameters = ready.parts, ready.digests, ready.account, record.parameters_of(model.encoder, head, finetune)

    def made(result: ScoredSplit | None, anchors: Mapping[str, Mapping[str, float]]) -> Record:
        return record.succeeded(
            job,
            inputs,
            options,
            result,
            parts,
            digests=digests,
            parameters=parameters,
            account=account,
            clock=clock,
            passage=ready.passage,
            warnings=(*data.warnings, *(() if result is None else result.warnings), *notes),
            learning_rate=learning_rate,
            selected=selected,
            anchors=anchors,
            path=path,
        )

    if test is None:
        if not finetune:
            shared.require_unchanged()
        _require_same_files(digests, parts, inputs)
        yield Finished(made(None, {}), {})
        return

    def predicted() -> Predicted:
        yield from evaluate.predictions(model, test, data.batch_size, _autocast(experiment))
        if not finetune:
            shared.require_unchanged()

    def scored(predictions: Predicted) -> Finished:
        result = evaluate.test(predictions, test, data.batch_size, inputs.card, head)
        anchors = shared.anchors_of(experiment, head, test)
        _require_possible(result.metrics)
        clock.lap("test")
        _require_same_files(digests, parts, inputs)
        files = _files_of(job, test, result, inputs)
        clock.lap("storing")
        return Finished(made(result, anchors), files)

    if background is None:
        yield scored(predicted())
    else:
        background.score(job, predicted(), scored)


def _untrained(job: Job, inputs: Inputs, options: RunOptions, shared: SharedWork) -> Iterator[Event]:
    """A job that trains nothing: one pass over the test split, and over validation where a threshold needs it."""
    experiment, clock, device = job.experiment, Clock(), required_device(job.experiment.device_type)
    reader, samples, by_name = yield from _decoded([job], load_untrained(experiment, inputs))
    parts = tuple(by_name.values())
    clock.lap("data")
    digests = record.sample_digests(parts)
    encoder = shared.encoder_of(experiment, inputs, device)
    clock.lap("encoder")
    _forget_peak_memory(device)
    passed = passage_of_embedding(encoder, experiment.dataset.frame_size)
    most = options.most_at_once(experiment.recipe.batch_size)
    at_once, autocast = most or experiment.recipe.batch_size, _autocast(experiment)
    embedder = shared.embedder_of(job, inputs, by_name["test"].cache, at_once, autocast)
    yield from _encoded([job], embedder, parts)
    clock.lap("features")
    result = evaluate.answer(UntrainedJob(job, encoder, by_name, device, autocast, at_once, embedder))
    clock.lap("test")
    yield from _encoded([job], embedder, ())  # what it noticed while it answered
    reader.warnings += embedder.mended()
    _require_possible(result.metrics)
    shared.require_unchanged()
    _require_same_files(digests, parts, inputs)
    files = _files_of(job, by_name["test"], result, inputs)
    clock.lap("storing")
    pieces = (f"embedded at most {most} images at once: equal to whole batches up to rounding",) if most is not None else ()
    made = record.succeeded(
        job,
        inputs,
        options,
        result,
        parts,
        digests=digests,
        parameters=record.parameters_of(encoder, None, finetune=False),
        account=shared.account,
        clock=clock,
        passage=passed,
        warnings=(*reader.warnings, *result.warnings, *pieces),
        n_positive={name: sum(bool(sample.positive) for sample in listed) for name, listed in samples.items()},
    )
    yield Finished(made, files)


def _decoded(jobs: Sequence[Job], loading: Generator[tuple[int, int], None, Loaded]) -> Generator[Event, None, Loaded]:
    """Tells how far images are, and returns what was loaded."""
    keys, steps = tuple(job.key for job in jobs), Steps(loading)
    for done, total in steps:
        yield Decoded(keys, done, total)
    return steps.result


def _encoded(jobs: Sequence[Job], by: FeatureBank | Embedder, parts: Sequence[Part]) -> Iterator[Event]:
    """Computes or reads what a frozen encoder makes of the parts; tells how far it is, and what a person should know of it."""
    for part in parts:
        for done, total in by.prepare_in_steps(part):
            yield Encoded(tuple(job.key for job in jobs), done, total)
    yield from map(Noticed, by.notices)
    by.notices.clear()


def _files_of(job: Job, part: Part, result: ScoredSplit, inputs: Inputs) -> dict[str, bytes]:
    """What a tested job stores, by name."""
    with tempfile.TemporaryDirectory(prefix=f"lobe-{job.key}-") as folder:
        stored.write(Path(folder), job, part, result, with_examples=inputs.card.redistribution != "none")
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def head_of(experiment: Experiment, encoder: SealedEncoder, device: torch.device) -> Head:
    """The job's head as it is before training."""
    request = HeadRequest(
        channels=encoder.backbone.spec.strides,
        n_classes=len(experiment.dataset.classes),
        frame_size=experiment.dataset.frame_size,
        switches=experiment.switches,
        embed_dim=encoder.backbone.spec.embed_dim,
    )
    build, taps = plugin("heads", experiment.head).build, encoder.backbone.spec.taps
    return seeded_init(lambda: on_one_grid(request, build, taps), experiment.head_seed).to(device)


def _autocast(experiment: Experiment):
    return Precision(experiment, torch.device(experiment.device_type)).autocast


def _forget_peak_memory(device: torch.device) -> None:
    """A process runs one job after another, and each is charged with its own."""
    if device.type == "cuda":  # pragma: no cover: needs CUDA; `make gpu` runs it
        torch.cuda.reset_peak_memory_stats()
    else:
        forget_peak_memory()


def _execution_notes(checkpoint: Checkpoint | None, options: RunOptions, most: int | None) -> tuple[str, ...]:
    """What may show in a record's last digits, or should be known, of the way the job ran."""
    n = parallel.size()
    several = (f"trained by {n} processes that shared each batch: equal to one process up to rounding",) if n > 1 else ()
    pieces = (f"trained in micro-batches of at most {most} images: equal to whole batches up to rounding",) if most is not None else ()
    compiled = ("run by torch.compile: equal to the plain network up to rounding",) if options.compiled else ()
    return (*several, *pieces, *compiled, *([checkpoint.problem] if checkpoint is not None and checkpoint.problem else ()))


def _require_possible(metrics: Mapping[str, float]) -> None:
    """A stored record with a value that its metric cannot have is refused wherever it is read: such a value is a bug, said here."""
    if fault := spec.fault_of(metrics):
        raise TrainingError(f"The test gave what cannot be: {fault}. This is a bug of the metric: please report it.")


def _require_same_files(digests: Mapping[str, str], parts: Sequence[Part], inputs: Inputs) -> None:
    if digests != record.sample_digests(parts):
        raise DataChanged(f"{inputs.card.name}: images in {inputs.dataset_root} changed while the job ran. Run the same command again.")
