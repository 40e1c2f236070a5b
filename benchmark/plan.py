"""From resolved references to jobs. Pure: no files, no torch, the same jobs for the same input in the same order.

Every rule about runs, seeds and grids lives here; what a job does with them lives in `training`.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from benchmark import registry
from benchmark.cards import (
    AskedPrompts,
    BackboneRef,
    Contamination,
    DatasetRef,
    EncoderMode,
    Experiment,
    Job,
    Labels,
    PromptCard,
    PromptTexts,
    Protocol,
    Recipe,
    Role,
    Switches,
    TaskCard,
    Words,
)
from benchmark.errors import CardError, UsageError
from benchmark.heads.prompts import prompt_sets
from benchmark.metrics import spec

BASE_SEED = 12345  # LoVT, configs/base_config.yaml
_KINDS = {"tasks": "task", "datasets": "dataset", "protocols": "protocol", "prompts": "prompts"}
RELEASED = "published"  # the protocol that keeps a paper's procedure as it was released


@dataclass(frozen=True)
class NamedBackbone:
    """A resolved backbone under the name people see.

    Attributes:
        contamination: dataset -> what the card of these weights says; datasets it does not name are unknown.
        custom: the card is a user's own.
    """

    label: str
    ref: BackboneRef
    contamination: Mapping[str, Contamination] = field(default_factory=dict)
    custom: bool = False


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
) -> list[Job]:
    """All jobs of an evaluation, selection jobs before the final jobs that wait for them.

    Args:
        datasets: dataset name -> reference with its split; `target` is filled in from the task.
        prompts: prompt sets by name, for tasks that ask with them.
        about: the cards, for labels.

    Raises:
        UsageError: a task does not offer the protocol.
        CardError: a task asks with prompts that do not exist, or for a metric whose highest value is the worst.
    """
    jobs: list[Job] = []
    with _no_garbage():
        for backbone in backbones:
            for task in tasks:
                if protocol.name not in task.protocols:
                    raise UsageError(f"Task {task.id} has no protocol {protocol.name!r}; it offers {', '.join(task.protocols)}.")
                _require_rising(task)
                if task.words is None:
                    found = _task_jobs(task, backbone, datasets[task.dataset], protocol, settings)
                else:
                    found = _untrained_jobs(task, backbone, datasets[task.dataset], protocol, settings, prompts or {})
                known = _known(about or About(), task, backbone, protocol)
                jobs.extend(job.model_copy(update={"labels": job.labels.model_copy(update=known)}) if known else job for job in found)
    return jobs


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
def _no_garbage() -> Iterator[None]:
    """Nothing made here is ever let go of, but the collector would look through all of it again and again: half of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def select_learning_rate(grid: Sequence[float], values: Mapping[float, float]) -> float:
    """The grid's learning rate with the strictly largest validation value; the earlier entry wins a tie (LoVT 1.2)."""
    return max(grid, key=lambda rate: (values[rate], -grid.index(rate)))


def smoke_steps(head: str) -> int:
    """Training steps of a smoke run."""
    return registry.head(head).smoke_steps


def _require_rising(task: TaskCard) -> None:
    """Selection, early stopping and tables of every task take the highest value for the best."""
    for key, metric in (("select", task.select), ("report", task.report)):
        if not spec.rises(metric):
            raise CardError(f"Task {task.id}: `{key}` is {metric}, whose lowest value is the best; a task is judged by one that rises.")


def _task_jobs(task: TaskCard, backbone: NamedBackbone, dataset: DatasetRef, protocol: Protocol, settings: Settings) -> Iterable[Job]:
    dataset = _targeted(dataset, task)
    recipe = _recipe(task, settings)
    grid = recipe.grid
    searched = len(grid) > 1
    alone = recipe.model_copy(update={"grid": ()})
    selection = [_job(task, backbone, dataset, protocol, settings, alone, Role.SELECTION, rate, run=0) for rate in grid] if searched else []
    yield from selection
    keys = tuple(job.key for job in selection)
    fixed = None if searched else (grid[0] if grid else recipe.learning_rate)
    for run in range(settings.runs if settings.runs is not None else task.runs):
        final = _job(task, backbone, dataset, protocol, settings, recipe if searched else alone, Role.FINAL, fixed, run)
        yield final.model_copy(update={"depends_on": keys}) if keys else final


def _untrained_jobs(
    task: TaskCard, backbone: NamedBackbone, dataset: DatasetRef, protocol: Protocol, settings: Settings, prompts: Mapping[str, PromptCard]
) -> Iterable[Job]:
    """One evaluation and no search. Only a random backbone can give another result in another run, so only it has several."""
    words = (task.words_as_released if protocol.name == RELEASED else None) or task.words
    assert words is not None
    asked = _asked(task, words, dataset, prompts)
    dataset = _targeted(dataset, task)
    runs = (settings.runs if settings.runs is not None else task.runs) if backbone.ref.digest is None else 1
    for run in range(runs):
        job = _job(task, backbone, dataset, protocol, settings, task.recipe, Role.FINAL, None, run)
        # The prompt set's name changes no digit, its texts do; neither does a head's seed where no head is drawn.
        update = {"words": words.model_copy(update={"prompts": None}), "asked": asked, "head_seed": BASE_SEED, "order_seed": BASE_SEED}
        yield job.model_copy(update={"experiment": job.experiment.model_copy(update=update)})


def _asked(task: TaskCard, words: Words, dataset: DatasetRef, prompts: Mapping[str, PromptCard]) -> AskedPrompts | None:
    if words.prompts is None:
        return None
    if words.prompts not in prompts:
        raise CardError(f"Task {task.id} asks with the prompts {words.prompts!r}, which no card in tasks/ defines.")
    card = prompts[words.prompts]
    missing = [name for name in dataset.classes if name not in card.classes]
    if missing:
        raise CardError(f"Prompts {card.name} have no words for {', '.join(missing)}, which task {task.id} asks for.")
    sets = []
    for found in prompt_sets(card):
        # Only what is asked: words of other datasets' classes decide no digit here.
        positives, negatives = ({c: side[c] for c in dataset.classes if c in side} for side in (found.positives, found.negatives))
        sets.append(PromptTexts(positives=positives, negatives=negatives))
    return AskedPrompts(sets=tuple(sets), combine=card.combine)


def _recipe(task: TaskCard, settings: Settings) -> Recipe:
    if settings.profile == "full":
        return task.recipe
    steps = smoke_steps(task.head)
    # The budget alone ends a smoke run: enough epochs and patience that neither limit is met first. At least half of it fine-tunes.
    update = {"max_steps": steps, "max_epochs": steps, "patience": steps, "grid": task.recipe.grid[:1]}
    return task.recipe.model_copy(update=update | {"warmup_steps": min(task.recipe.warmup_steps, steps // 2)})


def _targeted(dataset: DatasetRef, task: TaskCard) -> DatasetRef:
    return dataset.model_copy(update={"target": task.target, "frame_size": task.frame_size})


def _job(
    task: TaskCard,
    backbone: NamedBackbone,
    dataset: DatasetRef,
    protocol: Protocol,
    settings: Settings,
    recipe: Recipe,
    role: Role,
    learning_rate: float | None,
    run: int,
) -> Job:
    seed = BASE_SEED + run
    ref = backbone.ref
    if ref.digest is None:
        # A random backbone is drawn anew for every run, so that its interval includes the draw.
        ref = ref.model_copy(update={"init_seed": seed})
    experiment = Experiment(
        task_version=task.version,
        backbone=ref,
        dataset=dataset,
        head=task.head,
        encoder=task.encoder,
        fraction=task.fraction,
        recipe=recipe,
        select=task.select,
        report=task.report,
        switches=_switches_of(task.head, protocol.switches),
        role=role,
        learning_rate=learning_rate,
        head_seed=seed,
        order_seed=BASE_SEED if protocol.switches.data_order == "one-seed" else seed,
        precision="float16" if settings.device_type == "cuda" else "float32",
        device_type=settings.device_type,
        threads=settings.threads,
        limit=settings.limit,
        profile=settings.profile,
    )
    labels = Labels(
        task=task.id,
        task_title=task.title,
        suite=settings.suite,
        protocol=protocol.name,
        backbone=backbone.label,
        run=run,
        fraction_text=f"{task.fraction * 100:g} %",
        encoder_text="frozen" if task.encoder is EncoderMode.FROZEN else "fine-tuned",
        metric_title=spec.title_of(task.report, task.target),
        contamination=Contamination.NONE if ref.digest is None else _contamination(backbone, dataset),
    )
    return Job(experiment=experiment, labels=labels)


@cache
def _switches_of(head: str, switches: Switches) -> Switches:
    """Switches of a job: those that came later are left at their default where the head does not read them.

    They can change no digit there, and a key holds nothing else.
    """
    read = registry.head(head).later_switches
    unread = {name: default for name, default in Switches.came_later().items() if name not in read}
    return switches.model_copy(update=unread) if unread else switches


def _contamination(backbone: NamedBackbone, dataset: DatasetRef) -> Contamination:
    """What the card says of the dataset; of two datasets, one to train and one to test on, the worse."""
    said = [backbone.contamination.get(name, Contamination.UNKNOWN) for name in dataset.parts or (dataset.name,)]
    return max(said, key=list(Contamination).index)
