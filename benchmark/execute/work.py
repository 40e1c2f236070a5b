"""What every executor runs: one work unit, in this process, yielding an event for everything the driver wants to see.

A unit is one job, or all jobs of one head and dataset on one frozen backbone, which share a pass over its features. An executor knows
resources, retries and processes; this function is the only thing it calls.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cards import EncoderMode, Epoch, Failure, Job, Record, Role
from benchmark.errors import LobeError, NotSelected
from benchmark.execute import gang, spool
from benchmark.faults import OUT_OF_MEMORY, is_environment, is_of_memory, of_environment
from benchmark.plan import select_learning_rate
from benchmark.readers.kit.withheld import without_names
from benchmark.training.place import Place, place_key

if TYPE_CHECKING:
    from benchmark.training.fit import Bench


@dataclass(frozen=True)
class WorkUnit:
    """Jobs that share one pass over features, in an order in which selection comes before what waits for it.

    Attributes:
        name: for people: task and backbone.
        place: where the inputs lie.
        outcomes: results of selection jobs that other units computed, by key.
        store_id: whose spool keeps finished records on this node until the driver has them; empty keeps none.
        gpu_share: of one device, 0..1: what this process may take of its memory, so that it cannot push its neighbours out; 0 sees no GPU.
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
    """What a final job needs to know of a selection job: its learning rate and value, or that it failed.

    Attributes:
        environment: it failed by a fault of the environment, and will be computed again.
    """

    key: str
    learning_rate: float
    value: float | None
    environment: bool = False


@dataclass(frozen=True)
class Hashing:
    """Content of a dataset's files is being read, before jobs can be planned."""

    dataset: str
    done_bytes: int
    total_bytes: int


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


@dataclass(frozen=True)
class Noticed:
    """What a person should know of the machines; it concerns no job."""

    sentence: str


Event = Hashing | Decoding | Started | EpochEnded | Finished | Noticed


def units(jobs: Iterable[Job], places: Mapping[tuple[str, str], Place]) -> list[WorkUnit]:
    """Groups jobs: those of one head and dataset on one frozen backbone together (its shares of labels see the same features), every
    fine-tuning job alone.

    Args:
        places: `place_key` of backbone and dataset -> place.
    """
    groups: dict[tuple, list[Job]] = {}
    for job in jobs:
        e, names = job.experiment, job.labels
        where = place_key(e.backbone, e.dataset.name)
        shared = (where, e.head, names.protocol)
        groups.setdefault(shared if e.encoder is EncoderMode.FROZEN else (*shared, job.key), []).append(job)
    return [
        WorkUnit(
            name=_name(group[0]),
            jobs=tuple(group),
            place=places[place_key(group[0].experiment.backbone, group[0].experiment.dataset.name)],
        )
        for group in groups.values()
    ]


def with_share_of_memory(unit: WorkUnit, n_at_once: int) -> WorkUnit:
    """The unit as one of so many that run side by side on a node: the node's memory for features is divided between them."""
    return replace(unit, place=replace(unit.place, feature_budget_bytes=unit.place.feature_budget_bytes // n_at_once))


def run_unit(unit: WorkUnit) -> Iterator[Event]:
    """Runs the unit's jobs in order, those that may train together as one. A job that fails yields a failed record; the others go on."""
    import torch  # it enters the process here and not before

    from benchmark.training import fit as fitting
    from benchmark.training.determinism import prepare_process
    from benchmark.training.together import group_key

    outcomes = {o.key: o for o in unit.outcomes}
    prepare_process(unit.jobs[0].experiment.threads)
    if unit.gpu_share > 0 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(unit.gpu_share)
    bench = fitting.Bench()
    groups: dict[str, list[Job]] = {}
    for job in unit.jobs:
        groups.setdefault(group_key(job) or job.key, []).append(job)
    for group in groups.values():
        together = group_key(group[0]) is not None and unit.place.micro_batches == 1
        for event in (_run_together if together else _run_alone)(group, unit, outcomes, bench):
            if isinstance(event, Finished):
                _hand_over(unit, event, outcomes)
            yield event


def _hand_over(unit: WorkUnit, finished: Finished, outcomes: dict[str, Outcome]) -> None:
    """Before anybody hears of it: later jobs of the unit see the outcome, the node keeps the record, its checkpoint is of no more use."""
    from benchmark.training.checkpoint import discard

    record = finished.record
    if record.job.experiment.role is Role.SELECTION:
        outcomes[record.key] = outcome_of(record)
    if record.status == "ok" and unit.store_id:
        spool.keep(unit.store_id, record, finished.files)
    if unit.place.checkpoints is not None and not of_environment(record.failure):  # such a job goes on from it
        discard(unit.place.checkpoints, record.key)


def _run_alone(jobs: Sequence[Job], unit: WorkUnit, outcomes: Mapping[str, Outcome], bench: Bench) -> Iterator[Event]:
    """One after another, each by as many processes as the unit has workers."""
    from benchmark.training import fit as fitting

    for job in jobs:
        yield Started(job.key)
        started = time.monotonic()
        files: dict[str, bytes] = {}
        with tempfile.TemporaryDirectory(prefix=f"lobe-{job.key}-") as produced:
            try:
                record = None
                given = (job, unit.place, Path(produced), _learning_rate(job, outcomes))
                for event in fitting.fit(*given, bench) if unit.workers == 1 else gang.fit(*given, unit.workers):
                    if isinstance(event, Record):
                        record = event
                    elif isinstance(event, Epoch):
                        yield EpochEnded(job.key, event)
                    else:
                        yield Decoding(_name(job), *event)
                assert record is not None
                files = _files(Path(produced))
            except gang.GangLost:  # the executor's business
                raise
            except Exception as error:  # every failure becomes a record; the others go on
                record = failed(job, unit.place, error, time.monotonic() - started)
        yield Finished(record, files)


def _run_together(jobs: Sequence[Job], unit: WorkUnit, outcomes: Mapping[str, Outcome], bench: Bench) -> Iterator[Event]:
    """Side by side. What fails them all and is no sentence for the user is tried once more with every job on its own."""
    place = unit.place
    rates: dict[str, float] = {}
    for job in jobs:
        yield Started(job.key)
        try:
            rates[job.key] = _learning_rate(job, outcomes)
        except LobeError as error:
            yield Finished(failed(job, place, error))
    left = [job for job in jobs if job.key in rates]
    if not left:
        return
    done: set[str] = set()
    started = time.monotonic()
    try:
        for event in _side_by_side(left, place, rates, bench):
            if isinstance(event, Finished):
                done.add(event.record.key)
            yield event
    except Exception as error:
        left = [job for job in left if job.key not in done]
        if isinstance(error, LobeError) or len(left) == 1:
            for job in left:
                yield Finished(failed(job, place, error, time.monotonic() - started))
            return
        for job in left:
            try:
                yield from _side_by_side([job], place, rates, bench)
            except Exception as own:
                yield Finished(failed(job, place, own, time.monotonic() - started))


def _side_by_side(jobs: Sequence[Job], place: Place, rates: Mapping[str, float], bench: Bench) -> Iterator[Event]:
    from benchmark.training import fit as fitting

    by_key = {job.key: job for job in jobs}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"lobe-{jobs[0].key}-") as produced:
        for first, event in fitting.fit_together(jobs, place, Path(produced), [rates[job.key] for job in jobs], bench):
            if isinstance(event, int):
                yield Decoding(_name(jobs[0]), first, event)
            elif isinstance(event, Epoch):
                yield EpochEnded(first, event)
            elif isinstance(event, Record):
                folder = Path(produced) / first
                yield Finished(event, _files(folder))
                shutil.rmtree(folder)
            else:
                yield Finished(failed(by_key[first], place, event, time.monotonic() - started))


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _name(job: Job) -> str:
    return f"{job.labels.task} · {job.labels.backbone}"


def near(unit: WorkUnit) -> str:
    """What units share a node's caches by: dataset and image size."""
    data = unit.jobs[0].experiment.dataset
    return f"{data.name}|{data.frame_size}"


def outcome_of(record: Record) -> Outcome:
    value = record.validation.get(record.job.experiment.select) if record.status == "ok" else None
    return Outcome(record.key, record.job.experiment.learning_rate or 0.0, value, of_environment(record.failure))


def failed(job: Job, place: Place, error: BaseException, seconds: float = 0.0) -> Record:
    """The record of a job that ended in an error. The traceback keeps code lines, never data.

    It says whether the environment is at fault; such a record is told, and never stored (`benchmark.faults`).
    A foreign error may quote what it choked on, a report's words for one; where the agreement lets nothing leave, its message is dropped.
    """
    kind, foreign, starved = type(error).__name__, not isinstance(error, LobeError), is_of_memory(error)
    sentence, trace = str(error), ""
    if foreign and place.card.redistribution == "none":
        sentence = f"{kind}: message withheld, it may quote data that must not be passed on."
        trace = "".join(traceback.format_tb(error.__traceback__))[-8000:]
    elif place.card.redistribution == "none":
        sentence = without_names(sentence, place.dataset_root)
    elif foreign:
        sentence, trace = f"{kind}: {error}", "".join(traceback.format_exception(error))[-8000:]
    if starved and place.micro_batches > 1:
        sentence = f"Memory is too small even for batches in {place.micro_batches} pieces: use a device with more. {sentence}"
    return Record(
        key=job.key,
        job=job,
        status="failed",
        scale="limited" if job.limited else "full",
        phantom=place.phantom,
        redistribution=place.card.redistribution,
        timings_s={"total": round(seconds, 3)},
        failure=Failure(
            kind=OUT_OF_MEMORY if starved else kind,
            sentence=sentence or kind,
            traceback=trace,
            environment=is_environment(error),
        ),
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def _learning_rate(job: Job, outcomes: Mapping[str, Outcome]) -> float:
    if job.experiment.words is not None:
        return 0.0  # nothing learns
    fixed = job.experiment.learning_rate
    if fixed is not None:
        return fixed
    found = [outcomes[key] for key in job.depends_on]
    lost = [o for o in found if o.value is None]
    if lost:
        not_computed = [o for o in lost if o.environment]
        rates = ", ".join(f"{o.learning_rate:g}" for o in not_computed or lost)
        if not_computed:
            raise NotSelected(
                f"The learning rate could not be selected: the selection run at {rates} was not computed. "
                "Mend what its own sentence names and run the same command again."
            )
        raise LobeError(f"The learning rate could not be selected: the selection run at {rates} failed. See its own record.")
    return select_learning_rate(job.experiment.recipe.grid, {o.learning_rate: o.value for o in found if o.value is not None})
