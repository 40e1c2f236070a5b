"""What every executor runs: one work unit, in this process, yielding an event for everything the driver wants to see.

A unit is one job, or all jobs of one task on one frozen backbone, which share a pass over its features. An executor knows resources,
retries and processes; this function is the only thing it calls.
"""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.cards import EncoderMode, Epoch, Failure, Job, Record, Role
from benchmark.errors import LobeError
from benchmark.execute import gang, spool
from benchmark.plan import select_learning_rate
from benchmark.training.place import Place, place_key


@dataclass(frozen=True)
class WorkUnit:
    """Jobs that share one pass over features, in an order in which selection comes before what waits for it.

    Attributes:
        name: for people: task and backbone.
        place: where the inputs lie.
        outcomes: results of selection jobs that other units computed, by key.
        store_id: whose spool keeps finished records on this node until the driver has them; empty keeps none.
        gpu_share: of one device, 0..1: what a process may take of its memory, so that it cannot push its neighbours out.
        workers: processes, each with a device of its own, that share the batches of each job.
        growth: how often its memory was not enough.
    """

    name: str
    jobs: tuple[Job, ...]
    place: Place
    outcomes: tuple[Outcome, ...] = ()
    store_id: str = ""
    growth: int = 0
    workers: int = 1
    gpu_share: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a final job needs to know of a selection job: its learning rate and value, or that it failed."""

    key: str
    learning_rate: float
    value: float | None


@dataclass(frozen=True)
class Decoding:
    unit: str
    done: int
    total: int


@dataclass(frozen=True)
class Started:
    key: str


@dataclass(frozen=True)
class EpochEnded:
    key: str
    epoch: Epoch


@dataclass(frozen=True)
class Finished:
    """A job's record, and the files it made, by name: bytes, so that they travel from any node."""

    record: Record
    files: Mapping[str, bytes] = field(default_factory=dict)


Event = Decoding | Started | EpochEnded | Finished


def units(jobs: Iterable[Job], places: Mapping[tuple[str, str], Place]) -> list[WorkUnit]:
    """Groups jobs: those of one task on one frozen backbone together, every fine-tuning job alone.

    Args:
        places: `place_key` of backbone and dataset -> place.
    """
    groups: dict[tuple, list[Job]] = {}
    for job in jobs:
        e, names = job.experiment, job.labels
        where = place_key(e.backbone, e.dataset.name)
        shared = (where, names.task, names.protocol)
        groups.setdefault(shared if e.encoder is EncoderMode.FROZEN else (*shared, job.key), []).append(job)
    return [
        WorkUnit(
            name=f"{group[0].labels.task} · {group[0].labels.backbone}",
            jobs=tuple(group),
            place=places[place_key(group[0].experiment.backbone, group[0].experiment.dataset.name)],
        )
        for group in groups.values()
    ]


def run_unit(unit: WorkUnit) -> Iterator[Event]:
    """Runs the unit's jobs one after another. A job that fails yields a failed record and the next one goes on."""
    import torch  # it enters the process here and not before

    from benchmark.training import fit as fitting
    from benchmark.training.checkpoint import discard
    from benchmark.training.determinism import prepare_process

    outcomes = {o.key: o for o in unit.outcomes}
    prepare_process(unit.jobs[0].experiment.threads)
    if 0 < unit.gpu_share < 1:
        torch.cuda.set_per_process_memory_fraction(unit.gpu_share)
    bench = fitting.Bench()
    for job in unit.jobs:
        yield Started(job.key)
        started = time.monotonic()
        files: dict[str, bytes] = {}
        with tempfile.TemporaryDirectory(prefix=f"lobe-{job.key}-") as produced:
            try:
                record = None
                rate = _learning_rate(job, outcomes)
                with gang.together(job, unit.place, rate, unit.workers):
                    for event in fitting.fit(job, unit.place, Path(produced), rate, bench):
                        if isinstance(event, Record):
                            record = event
                        elif isinstance(event, Epoch):
                            yield EpochEnded(job.key, event)
                        else:
                            yield Decoding(unit.name, *event)
                assert record is not None
                files = {path.name: path.read_bytes() for path in sorted(Path(produced).iterdir())}
            except Exception as error:  # every failure becomes a record; the others go on
                record = failed(job, unit.place, error, time.monotonic() - started)
        if job.experiment.role is Role.SELECTION:
            outcomes[job.key] = outcome_of(record)
        if record.status == "ok" and unit.store_id:
            spool.keep(unit.store_id, record, files)
        if unit.place.checkpoints is not None:
            discard(unit.place.checkpoints, job.key)
        yield Finished(record, files)


def near(unit: WorkUnit) -> str:
    """What units share a node's caches by: dataset and image size."""
    data = unit.jobs[0].experiment.dataset
    return f"{data.name}|{data.frame_size}"


def outcome_of(record: Record) -> Outcome:
    value = record.validation.get(record.job.experiment.select) if record.status == "ok" else None
    return Outcome(record.key, record.job.experiment.learning_rate or 0.0, value)


def failed(job: Job, place: Place, error: BaseException, seconds: float = 0.0) -> Record:
    """The record of a job that ended in an error. The traceback keeps code lines, never data."""
    sentence = str(error) if isinstance(error, LobeError) else f"{type(error).__name__}: {error}"
    return Record(
        key=job.key,
        job=job,
        status="failed",
        scale="limited" if job.limited else "full",
        phantom=place.phantom,
        redistribution=place.card.redistribution,
        timings_s={"total": round(seconds, 3)},
        failure=Failure(
            kind=type(error).__name__,
            sentence=sentence or type(error).__name__,
            traceback="" if isinstance(error, LobeError) else "".join(traceback.format_exception(error))[-8000:],
        ),
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def _learning_rate(job: Job, outcomes: Mapping[str, Outcome]) -> float:
    fixed = job.experiment.learning_rate
    if fixed is not None:
        return fixed
    found = [outcomes[key] for key in job.depends_on]
    lost = [o for o in found if o.value is None]
    if lost:
        rates = ", ".join(f"{o.learning_rate:g}" for o in lost)
        raise LobeError(f"The learning rate could not be selected: the selection run at {rates} failed. See its own record.")
    return select_learning_rate(job.experiment.recipe.grid, {o.learning_rate: o.value for o in found if o.value is not None})
