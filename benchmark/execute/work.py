"""What every executor runs: one work unit, in this process, yielding an event for everything the driver wants to see.

A unit is one job, or all jobs of one head and dataset on one frozen backbone, which share a pass over its features. An executor knows
resources, retries and processes; this function is the only thing it calls.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmark import rate_search
from benchmark.cards import Choice, EncoderMode, Job, Record, Role
from benchmark.errors import LobeError, NotSelected
from benchmark.events import Event, Finished, Started
from benchmark.execute import connected, gang, spool
from benchmark.faults import of_environment
from benchmark.machine import usable_cores
from benchmark.own import catalogue
from benchmark.training.inputs import Inputs
from benchmark.training.options import RunOptions
from benchmark.training.record import failed, not_needed

if TYPE_CHECKING:
    from benchmark.training.background import Background
    from benchmark.training.shared_work import SharedWork


@dataclass(frozen=True)
class WorkUnit:
    """Jobs that share one pass over features, in an order in which selection comes before what waits for it.

    Attributes:
        name: for people: task and backbone.
        inputs: where the inputs of all its jobs lie.
        options: how they run.
        outcomes: results of selection jobs that other units computed, by key.
        store_id: whose spool keeps finished records on this node until the driver has them; empty keeps none.
        growth: how often its memory was not enough.
        workers: processes, each with a device of its own, that share the batches of each job.
        heads: of all units of the plan that read the same features (`features_read`), so that whoever comes first computes for all.
        gpu_share: of one device, 0..1: what this process may take of its memory, so that it cannot push its neighbours out; 0 sees no GPU.
    """

    name: str
    jobs: tuple[Job, ...]
    inputs: Inputs
    options: RunOptions = field(default_factory=RunOptions)
    outcomes: tuple[Outcome, ...] = ()
    store_id: str = ""
    growth: int = 0
    workers: int = 1
    heads: tuple[str, ...] = ()
    gpu_share: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a final job needs to know of a selection job: its learning rate and value, or that it failed.

    Attributes:
        learning_rate: as planned; 0 for one beyond the grid's edge, which follows from the others.
        environment: it failed by a fault of the environment, and will be computed again.
        training: it failed in training, as at a rate that is too high.
        needed: False for one beyond the edge of a grid whose winner lies inside.
    """

    key: str
    learning_rate: float
    value: float | None
    environment: bool = False
    training: bool = False
    needed: bool = True


@dataclass
class Search:
    """What a unit knows of searches for learning rates: outcomes by key of the selection job, and what was chosen for jobs that waited."""

    outcomes: dict[str, Outcome]
    choices: dict[str, Choice] = field(default_factory=dict)


def units(jobs: Iterable[Job], inputs: Mapping[str, Inputs]) -> list[WorkUnit]:
    """Groups jobs: those of one head on the same inputs with a frozen encoder together (shares of labels see the same features), every
    fine-tuning job alone.

    Args:
        inputs: by key of the job.
    """
    groups: dict[tuple, list[Job]] = {}
    for job in jobs:
        shared = (inputs[job.key], job.experiment.head, job.labels.protocol)
        frozen = job.experiment.encoder is EncoderMode.FROZEN
        groups.setdefault(shared if frozen else (*shared, job.key), []).append(job)
    heads: dict[str, set[str]] = {}
    for group in groups.values():
        if (read := features_read(group[0])) is not None:
            heads.setdefault(read, set()).add(group[0].experiment.head)
    made = []
    for group in groups.values():
        read = features_read(group[0])
        also = () if read is None else tuple(sorted(heads[read]))
        made.append(WorkUnit(name=_name(group[0]), jobs=tuple(group), inputs=inputs[group[0].key], heads=also))
    return made


def with_share_of_memory(unit: WorkUnit, n_at_once: int) -> WorkUnit:
    """The unit as one of so many that run side by side on a node: the node's memory for features is divided between them."""
    budget = unit.options.feature_budget_bytes // n_at_once
    return replace(unit, options=replace(unit.options, feature_budget_bytes=budget, units_at_once=n_at_once))


def run_unit(unit: WorkUnit) -> Iterator[Event]:
    """Runs the unit's jobs in order, those that may train together as one. A job that fails yields a failed record; the others go on.

    Where a core is idle, a job's scores and files are made while the next one trains: its Finished then comes after that one's Started.
    """
    with catalogue.as_planned(unit.inputs.own):
        yield from _run_unit(unit)


def _run_unit(unit: WorkUnit) -> Iterator[Event]:
    import torch  # it enters the process here and not before

    from benchmark.training.background import Background
    from benchmark.training.determinism import prepare_process
    from benchmark.training.shared_work import SharedWork
    from benchmark.training.together import group_key

    search = Search({o.key: o for o in unit.outcomes})
    prepare_process(unit.jobs[0].experiment.threads)
    if unit.gpu_share > 0 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(unit.gpu_share)
    shared = SharedWork(heads=unit.heads)
    groups: dict[str, list[Job]] = {}
    for job in unit.jobs:
        groups.setdefault(group_key(job) or job.key, []).append(job)
    background = Background() if _has_idle_core(unit) else None
    try:
        for group in groups.values():
            together = group_key(group[0]) is not None and unit.options.micro_batches == 1
            for event in (_run_together if together else _run_alone)(group, unit, search, shared, background):
                yield _handed_over(unit, event, search) if isinstance(event, Finished) else event
        for event in _scored(unit, background, wait=True):
            yield _handed_over(unit, event, search)
    finally:
        if background is not None:
            background.close()


def _has_idle_core(unit: WorkUnit) -> bool:
    """Whether something may run beside a training job; nothing follows a single one, and one of several processes has its own."""
    threads = unit.jobs[0].experiment.threads * unit.options.units_at_once
    return len(unit.jobs) > 1 and unit.workers == 1 and usable_cores() > threads


def _scored(unit: WorkUnit, background: Background | None, *, wait: bool = False) -> Iterator[Finished]:
    """Jobs that ended in the background since it was asked last."""
    for job, ended in () if background is None else background.ended(wait=wait):
        yield ended if isinstance(ended, Finished) else _failed(job, unit, ended)


def _handed_over(unit: WorkUnit, finished: Finished, search: Search) -> Finished:
    """Before anybody hears of it: the record says how its rate was chosen, later jobs of the unit see the outcome, the node keeps the
    record, its checkpoint is of no more use."""
    from benchmark.training.checkpoint import discard

    record = finished.record
    if record.job.experiment.role is Role.SELECTION:
        search.outcomes[record.key] = outcome_of(record)
    elif record.status == "ok" and (made := search.choices.get(record.key)) is not None:
        warnings = (*record.warnings, *rate_search.sentences(made))
        record = record.model_copy(update={"choice": made, "warnings": warnings})
        finished = replace(finished, record=record)
    if record.status == "ok" and unit.store_id:
        spool.keep(unit.store_id, record, finished.files)
    if unit.options.checkpoints is not None and not of_environment(record.failure):  # such a job goes on from it
        discard(unit.options.checkpoints, record.key)
    return finished


def _run_alone(jobs: Sequence[Job], unit: WorkUnit, search: Search, shared: SharedWork, background: Background | None) -> Iterator[Event]:
    """One after another, each by as many processes as the unit has workers."""
    from benchmark.training import fit as fitting

    for job in jobs:
        yield from _scored(unit, background, wait=bool(job.depends_on))  # its rate follows from jobs that may have been trained just now
        yield Started(job.key)
        began = time.monotonic()
        try:
            if (rate := _learning_rate(job, search)) is None:
                yield _not_needed(job, unit)
                continue
            given = (job, unit.inputs, unit.options, rate)
            for event in fitting.fit(*given, shared, background) if unit.workers == 1 else gang.fit(*given, unit.workers):
                yield event
                yield from _scored(unit, background)
        except connected.ProcessLost:  # the executor's business
            raise
        except Exception as error:  # every failure becomes a record; the others go on
            yield _failed(job, unit, error, began)


def _run_together(
    jobs: Sequence[Job], unit: WorkUnit, search: Search, shared: SharedWork, background: Background | None
) -> Iterator[Event]:
    """Side by side. If the whole group fails with an unexpected error, each job is retried alone."""
    from benchmark.training import fit as fitting

    def fit(jobs: Sequence[Job]) -> Iterator[Event]:
        return fitting.fit_together(jobs, unit.inputs, unit.options, [rates[job.key] for job in jobs], shared, background)

    yield from _scored(unit, background, wait=any(job.depends_on for job in jobs))
    rates: dict[str, float] = {}
    for job in jobs:
        yield Started(job.key)
        try:
            if (rate := _learning_rate(job, search)) is None:
                yield _not_needed(job, unit)
            else:
                rates[job.key] = rate
        except LobeError as error:
            yield _failed(job, unit, error)
    left = [job for job in jobs if job.key in rates]
    if not left:
        return
    done: set[str] = set()
    began = time.monotonic()
    try:
        for event in fit(left):
            for told in (event, *_scored(unit, background)):
                if isinstance(told, Finished):
                    done.add(told.record.key)
                yield told
    except Exception as error:
        for scored in _scored(unit, background, wait=True):
            done.add(scored.record.key)
            yield scored
        left = [job for job in left if job.key not in done]
        if isinstance(error, LobeError) or len(left) == 1:
            for job in left:
                yield _failed(job, unit, error, began)
            return
        for job in left:
            try:
                yield from fit([job])
            except Exception as own:
                yield _failed(job, unit, own, began)


def _failed(job: Job, unit: WorkUnit, error: Exception, began: float | None = None) -> Finished:
    seconds = 0.0 if began is None else time.monotonic() - began
    return Finished(failed(job, unit.inputs, unit.options, error, seconds))


def _not_needed(job: Job, unit: WorkUnit) -> Finished:
    return Finished(not_needed(job, unit.inputs, unit.options, "the winner of the grid does not lie on its edge"))


def _name(job: Job) -> str:
    return f"{job.labels.task} · {job.labels.backbone}"


def near(unit: WorkUnit) -> tuple[str, ...]:
    """What units share a node's caches by: images of a dataset and size and, of a frozen encoder, their features."""
    data, read = unit.jobs[0].experiment.dataset, features_read(unit.jobs[0])
    images = f"{data.name}|{data.frame_size}"
    return (images,) if read is None else (images, read)


def features_read(job: Job) -> str | None:
    """Name of the features that a job reads, the same for all jobs that may share a pass; None where the encoder trains.

    It says which units are better kept together, and decides no result: what may be shared, the features' own key decides.
    """
    e = job.experiment
    if e.encoder is not EncoderMode.FROZEN:
        return None
    backbone = (e.backbone.family, e.backbone.model, e.backbone.container, e.backbone.digest, e.backbone.init_seed)
    data = (e.dataset.name, e.dataset.frame_size, e.dataset.intensity, e.dataset.normalised_by)
    return "|".join(map(str, (*backbone, *data, e.precision, e.device_type, e.threads)))


def outcome_of(record: Record) -> Outcome:
    rate, value = record.job.experiment.learning_rate or 0.0, rate_search.try_of(record).value
    training = rate_search.failed_in_training(record)
    return Outcome(record.key, rate, value, of_environment(record.failure), training, needed=not record.not_needed)


def _learning_rate(job: Job, search: Search) -> float | None:
    """The rate that a job trains at; None for one beyond the edge of a grid whose winner lies inside.

    Raises:
        NotSelected: a selection run was not computed, and will be; or is computed elsewhere.
        LobeError: the selection runs give no winner.
    """
    experiment = job.experiment
    if experiment.words is not None:
        return 0.0  # nothing learns
    if experiment.learning_rate is not None:
        return experiment.learning_rate
    if unknown := [key for key in job.depends_on if key not in search.outcomes]:
        raise NotSelected(
            f"The learning rate could not be selected: {len(unknown)} of {len(job.depends_on)} selection runs had not ended when this job "
            "began. Run the same command again."
        )
    made = _choice(job, [search.outcomes[key] for key in job.depends_on])
    best = rate_search.chosen(made)
    if experiment.extends_grid:
        return rate_search.beyond(experiment.recipe.grid, best)
    if experiment.switches.selection == "two-seeds" or experiment.switches.grid_edge == "extended":
        search.choices[job.key] = made
    return best


def _choice(job: Job, found: Sequence[Outcome]) -> Choice:
    """What the outcomes of selection runs come to. A rate at which training fails is out where a grid is the protocol's, wide for all."""
    tolerant = job.experiment.switches.selection == "two-seeds"
    lost = [o for o in found if o.value is None and o.needed and not (tolerant and o.training)]
    tries = (rate_search.Try(o.learning_rate or None, o.value) for o in found if o.needed)
    made = None if lost else rate_search.choice_of(job.experiment.recipe.grid, tries)
    if made is None:
        raise _not_selected(lost or found)
    return made


def _not_selected(lost: Sequence[Outcome]) -> LobeError:
    not_computed = [o for o in lost if o.environment]
    rates = ", ".join(dict.fromkeys(f"{o.learning_rate:g}" if o.learning_rate else "one beyond the grid" for o in not_computed or lost))
    if not_computed:
        return NotSelected(
            f"The learning rate could not be selected: the selection run at {rates} was not computed. "
            "Mend what its own sentence names and run the same command again."
        )
    return LobeError(f"The learning rate could not be selected: the selection run at {rates} failed. See its own record.")
