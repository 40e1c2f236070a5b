"""From resolved references to jobs. Pure: no files, no torch, the same jobs for the same input in the same order.

Every rule about runs, seeds and grids lives here; what a job does with them lives in `training`.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from benchmark import kinds, registry
from benchmark.cards import (
    READ_BY_TRAINING,
    AskedPrompts,
    BackboneRef,
    Contamination,
    DatasetRef,
    EncoderMode,
    Experiment,
    Job,
    Labels,
    Normalisation,
    PromptCard,
    Protocol,
    Recipe,
    Role,
    Switches,
    TaskCard,
    Words,
)
from benchmark.errors import CardError, UsageError
from benchmark.heads.prompts import asked_of
from benchmark.metrics import spec
from benchmark.rate_search import BASE_SEED, seeds

_KINDS = {"tasks": "task", "datasets": "dataset", "protocols": "protocol", "prompts": "prompts"}
_Refs = Callable[[int], BackboneRef]  # by the run's seed
FRAME_STEP = 32  # pixels: frames are multiples of it
RELEASED = "published"  # the protocol that keeps a paper's procedure as it was released


@dataclass(frozen=True)
class NamedBackbone:
    """A resolved backbone under the name people see.

    Attributes:
        contamination: dataset -> what the card or the code of these weights says; datasets it does not name are unknown.
        custom: the card is a user's own.
        input_size: side of the square image it is made for, in pixels; None where nobody says.
        statistics: mean and deviation of its own which neither its card nor the building of its model tells: those a library documents for
            weights that are not its usual ones, or a folder beside its configuration. None for all others.
    """

    label: str
    ref: BackboneRef
    contamination: Mapping[str, Contamination] = field(default_factory=dict)
    custom: bool = False
    input_size: int | None = None
    statistics: Normalisation | None = None

    @property
    def self_normalised(self) -> BackboneRef:
        """The reference in jobs that take a backbone's own mean and deviation; in others these decide nothing, and stay out of the key."""
        return self.ref if self.statistics is None else self.ref.model_copy(update={"normalisation": self.statistics})


@dataclass(frozen=True)
class About:
    """What labels say of the cards that jobs come from; nothing here changes a result.

    Attributes:
        custom: (section, name) of the user's own cards (`registry.custom_cards`).
        mask_sources: dataset -> what its masks are, by its card.
    """

    custom: frozenset[tuple[str, str]] = frozenset()
    mask_sources: Mapping[str, Literal["masks", "boxes", "none"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """How an evaluation is run, as far as it changes results.

    Attributes:
        runs: final runs per task; None takes each card's number.
        limit: at most so many images per split.
        threads: CPU threads of a job.
    """

    runs: int | None = None
    limit: int | None = None
    profile: Literal["full", "smoke"] = "full"
    device_type: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    suite: str | None = None


def plan(
    tasks: Sequence[TaskCard],
    backbones: Sequence[NamedBackbone],
    datasets: Mapping[str, DatasetRef],
    protocol: Protocol,
    settings: Settings,
    prompts: Mapping[str, PromptCard] | None = None,
    about: About | None = None,
    own_code: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Job]:
    """All jobs of an evaluation, selection jobs before the final jobs that wait for them.

    Args:
        datasets: dataset name -> reference with its split; `target` is filled in from the task.
        prompts: prompt sets by name, for tasks that ask with them.
        about: the cards, for labels.
        own_code: task -> code of the user's own that decides its numbers (`task_code.digests`).

    Raises:
        UsageError: a task does not offer the protocol.
        CardError: a task asks with prompts that do not exist, or for a metric whose highest value is the worst.
    """
    prepared = prepare(tasks, datasets, protocol, settings, prompts, about, own_code)
    with no_garbage():
        return [job for backbone in backbones for job in prepared.jobs(backbone)]


@dataclass(frozen=True)
class Prepared:
    """What the jobs of an evaluation share, whatever the backbone: they hold it, and no copies of it."""

    tasks: tuple[_PreparedTask, ...]
    protocol: Protocol
    settings: Settings
    about: About

    def jobs(self, backbone: NamedBackbone) -> Iterator[Job]:
        """All jobs of a backbone, as `plan` gives them."""
        ref = backbone.self_normalised if self.protocol.statistics == "backbone" else backbone.ref
        unread = ref.model_copy(update={"tokenizer": None, "text_code": None})  # where no word is read, they decide nothing
        refs, reading = _refs(unread), _refs(ref)
        side = backbone.input_size if self.protocol.geometry == "native" else None
        for task in self.tasks:
            one = task if side is None else task.at_size(side)
            known = _known(self.about, one.task, backbone, self.protocol)
            made = _task_jobs(one, backbone, self, refs) if one.task.words is None else _untrained_jobs(one, backbone, self, reading)
            for job in made:
                yield job.model_copy(update={"labels": job.labels.model_copy(update=known)}) if known else job


@dataclass(frozen=True)
class _PreparedTask:
    """
    Attributes:
        dataset: with the task's target and frame.
        recipe: of final runs; `alone` is the same without its grid.
        words, asked: of a task that trains nothing.
        own_code: of the task.
    """

    task: TaskCard
    dataset: DatasetRef
    recipe: Recipe
    alone: Recipe
    words: Words | None = None
    asked: AskedPrompts | None = None
    own_code: Mapping[str, str] = field(default_factory=dict)

    def at_size(self, side: int) -> _PreparedTask:
        """The task in the frame nearest to a backbone's own input: heads need a multiple of 32."""
        frame = max(round(side / FRAME_STEP), 1) * FRAME_STEP
        return replace(self, dataset=self.dataset.model_copy(update={"frame_size": frame}))


def prepare(
    tasks: Sequence[TaskCard],
    datasets: Mapping[str, DatasetRef],
    protocol: Protocol,
    settings: Settings,
    prompts: Mapping[str, PromptCard] | None = None,
    about: About | None = None,
    own_code: Mapping[str, Mapping[str, str]] | None = None,
) -> Prepared:
    """Everything of a plan but its backbones. Arguments and errors are those of `plan`."""
    found = []
    for task in tasks:
        if protocol.name not in task.protocols:
            raise UsageError(f"Task {task.id} has no protocol {protocol.name!r}; it offers {', '.join(task.protocols)}.")
        _require_rising(task)
        dataset, recipe = datasets[task.dataset], _recipe(task, protocol, settings) if task.words is None else task.recipe
        words = None if task.words is None else (task.words_as_released if protocol.name == RELEASED else None) or task.words
        asked = None if words is None else asked_of(task, words, dataset, prompts or {})
        # The prompt set's name changes no digit, its texts do.
        words = None if words is None else words.model_copy(update={"prompts": None})
        own = (own_code or {}).get(task.id, {})
        alone = recipe.model_copy(update={"grid": ()})
        found.append(_PreparedTask(task, _targeted(dataset, task), recipe, alone, words, asked, own))
    return Prepared(tuple(found), protocol, settings, about or About())


def _known(about: About, task: TaskCard, backbone: NamedBackbone, protocol: Protocol) -> dict[str, Any]:
    """Labels that come from cards alone."""
    words = (task.words_as_released if protocol.name == RELEASED else None) or task.words
    asked = None if words is None else words.prompts
    named = {"tasks": task.id, "datasets": task.dataset, "protocols": protocol.name, "prompts": asked}
    custom = [_KINDS[section] for section, name in named.items() if (section, name) in about.custom]
    known: dict[str, Any] = {"custom": (*custom, "backbone")} if backbone.custom else {"custom": tuple(custom)} if custom else {}
    source = about.mask_sources.get(task.dataset)
    return known if source is None else known | {"mask_source": source}


@contextmanager
def no_garbage() -> Iterator[None]:
    """Nothing made here is ever let go of, but the collector would look through all of it again and again: half of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def smoke_steps(head: str) -> int:
    """Training steps of a smoke run."""
    return registry.head(head).smoke_steps


def _require_rising(task: TaskCard) -> None:
    """Selection, early stopping and tables of every task take the highest value for the best."""
    for key, metric in (("select", task.select), ("report", task.report)):
        if not spec.rises(metric):
            raise CardError(f"Task {task.id}: `{key}` is {metric}, whose lowest value is the best; a task is judged by one that rises.")


def _task_jobs(one: _PreparedTask, backbone: NamedBackbone, prepared: Prepared, refs: _Refs) -> Iterator[Job]:
    task, settings, switches = one.task, prepared.settings, prepared.protocol.switches
    grid = one.recipe.grid
    searched = len(grid) > 1
    waits_for: tuple[str, ...] = ()
    if searched:
        tries = [
            _job(one, backbone, prepared, refs, one.alone, Role.SELECTION, rate, seed - BASE_SEED)
            for rate in grid
            for seed in seeds(switches)
        ]
        waits_for = tuple(job.key for job in tries)
        yield from tries
        if switches.grid_edge == "extended":
            beyond = [_job(one, backbone, prepared, refs, one.recipe, Role.SELECTION, None, seed - BASE_SEED) for seed in seeds(switches)]
            yield from (job.model_copy(update={"depends_on": waits_for}) for job in beyond)
            waits_for += tuple(job.key for job in beyond)
    fixed = None if searched else (grid[0] if grid else one.recipe.learning_rate)
    draws = backbone.ref.digest is None or kinds.draws_anew(task.head, task.fraction, switches)
    for run in range((settings.runs if settings.runs is not None else task.runs) if draws else 1):
        final = _job(one, backbone, prepared, refs, one.recipe if searched else one.alone, Role.FINAL, fixed, run)
        yield final.model_copy(update={"depends_on": waits_for}) if waits_for else final


def _untrained_jobs(one: _PreparedTask, backbone: NamedBackbone, prepared: Prepared, refs: _Refs) -> Iterator[Job]:
    """One evaluation and no search. Only a random backbone can give another result in another run, so only it has several."""
    task, settings = one.task, prepared.settings
    runs = (settings.runs if settings.runs is not None else task.runs) if backbone.ref.digest is None else 1
    for run in range(runs):
        job = _job(one, backbone, prepared, refs, one.recipe, Role.FINAL, None, run)
        # A head's seed changes no digit where no head is drawn.
        update = {"words": one.words, "asked": one.asked, "head_seed": BASE_SEED, "order_seed": BASE_SEED}
        yield job.model_copy(update={"experiment": job.experiment.model_copy(update=update)})


def _recipe(task: TaskCard, protocol: Protocol, settings: Settings) -> Recipe:
    facts = registry.head(task.head)
    grid = () if facts.at_once else protocol.grid_of(task.head, task.encoder)
    recipe = task.recipe.model_copy(update={"grid": grid}) if grid else task.recipe
    if settings.profile == "full":
        return recipe
    steps = smoke_steps(task.head)
    one = (min(grid, key=lambda rate: abs(math.log(rate / recipe.learning_rate))),) if grid else recipe.grid[:1]
    # The budget alone ends a smoke run: enough epochs and patience that neither limit is met first. At least half of it fine-tunes.
    update = {"max_steps": steps, "max_epochs": steps, "patience": steps, "grid": one}
    return recipe.model_copy(update=update | {"warmup_steps": min(recipe.warmup_steps, steps // 2)})


def _targeted(dataset: DatasetRef, task: TaskCard) -> DatasetRef:
    return dataset.model_copy(update={"target": task.target, "frame_size": task.frame_size})


def _job(
    one: _PreparedTask,
    backbone: NamedBackbone,
    prepared: Prepared,
    refs: _Refs,
    recipe: Recipe,
    role: Role,
    learning_rate: float | None,
    run: int,
) -> Job:
    task, protocol, settings = one.task, prepared.protocol, prepared.settings
    seed = BASE_SEED + run
    experiment = Experiment(
        task_version=task.version,
        backbone=refs(seed),
        dataset=one.dataset,
        head=task.head,
        encoder=task.encoder,
        fraction=task.fraction,
        recipe=recipe,
        select=task.select,
        report=task.report,
        switches=_switches_of(task.head, protocol.switches, _unread(role, learning_rate)),
        role=role,
        learning_rate=learning_rate,
        head_seed=seed,
        order_seed=BASE_SEED if protocol.switches.data_order == "one-seed" else seed,
        precision="float16" if settings.device_type == "cuda" else "float32",
        device_type=settings.device_type,
        threads=settings.threads,
        limit=settings.limit,
        profile=settings.profile,
        own_code=dict(one.own_code),
    )
    labels = Labels(
        task=task.id,
        task_title=task.title,
        suite=settings.suite,
        protocol=protocol.name,
        backbone=backbone.label,
        run=run if role is Role.FINAL else run % len(seeds(protocol.switches)),  # of a search: which of its runs
        fraction_text=f"{task.fraction * 100:g} %",
        encoder_text="frozen" if task.encoder is EncoderMode.FROZEN else "fine-tuned",
        metric_title=spec.title_of(task.report, task.target),
        contamination=Contamination.NONE if backbone.ref.is_untrained else _contamination(backbone, one.dataset),
    )
    return Job(experiment=experiment, labels=labels)


def _refs(ref: BackboneRef) -> _Refs:
    """What each run takes for its backbone. A random backbone is drawn anew for every run, so that its interval includes the draw."""
    if ref.digest is not None:
        return lambda seed: ref
    return cache(lambda seed: ref.model_copy(update={"init_seed": seed}))


@cache
def _switches_of(head: str, switches: Switches, unread: frozenset[str]) -> Switches:
    """Switches of a job: those that came later are left at their default where neither head, kind of task nor training reads them.

    They can change no digit there, and a key holds nothing else.
    """
    facts = registry.head(head)
    read = facts.later_switches | kinds.find(facts.target, trains=facts.trains).later_switches
    read = (read | (READ_BY_TRAINING if facts.trains else frozenset())) - unread
    return switches.model_copy(update={name: default for name, default in Switches.came_later().items() if name not in read})


def _unread(role: Role, learning_rate: float | None) -> frozenset[str]:
    """Switches of a search that say nothing of this job: it tries a rate of its own, or none was searched for."""
    if learning_rate is None:
        return frozenset()
    return frozenset({"grid_edge"}) if role is Role.SELECTION else frozenset({"selection", "grid_edge"})


def _contamination(backbone: NamedBackbone, dataset: DatasetRef) -> Contamination:
    """What card or code say of the dataset; of two datasets, one to train and one to test on, the worse."""
    said = [backbone.contamination.get(name, Contamination.UNKNOWN) for name in dataset.parts or (dataset.name,)]
    return max(said, key=list(Contamination).index)
