"""Expands a grid card into task cards: every dataset, head, encoder mode and share of labels, each cell with the recipe of a nearby task.

Nothing is invented here: recipe, metric, split and target come from the parent suites' cards, and the parent is named. Cells whose share of
the training list is smaller than the smallest batch are left out, because they could not run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from benchmark.cards import DatasetCard, EncoderMode, GridCard, HeadFacts, SuiteCard, TaskCard
from benchmark.errors import CardError, UnknownName

SMALL_BATCH = 8  # LoVT's batch for few images (docs/tasks.md)
TARGETS = ("masks", "boxes")  # a grid crosses heads that localize
MODE_TITLES = {EncoderMode.FROZEN: "frozen", EncoderMode.FINETUNE: "fine-tuned"}


def cells(
    grid: GridCard, parents: Sequence[TaskCard], datasets: Mapping[str, DatasetCard], facts_of: Callable[[str], HeadFacts]
) -> list[TaskCard]:
    """The grid's tasks, by dataset, head, mode and share.

    Args:
        facts_of: what a head says of itself, by its name.

    Raises:
        CardError: there is no such head or it learns from neither masks nor boxes, no parent says what a dataset is scored by, or a
            dataset card does not count its training images.
    """
    found = []
    for dataset, heads in grid.heads.items():
        if dataset not in datasets:
            raise CardError(f"Grid {grid.name}: its `heads` name the dataset {dataset!r}, which no card defines.")
        for head in heads:
            facts = _localizing(grid, head, facts_of)
            scored = _scored(grid, parents, datasets[dataset], facts.target)
            for mode in EncoderMode:
                for fraction in grid.shares.get(dataset, grid.fractions):
                    n_train = _n_train(grid, datasets[dataset], scored.split, fraction)
                    if n_train is None or n_train >= SMALL_BATCH:
                        found.append(_cell(grid, parents, scored, datasets[dataset], head, facts.title, mode, fraction, n_train))
    return found


def suite(grid: GridCard, tasks: Sequence[TaskCard]) -> SuiteCard:
    names = tuple(task.id for task in tasks)
    return SuiteCard(name=grid.name, title=grid.title, description=grid.description, tasks=names, default_protocol=grid.default_protocol)


def nearest(parents: Sequence[TaskCard], dataset: str, head: str, mode: EncoderMode, fraction: float) -> TaskCard:
    """The task that shares most with a cell: the encoder's mode first, since learning rates and warm-up belong to it.

    Then head, dataset and share of labels; the first of equals wins.
    """

    def distance(task: TaskCard) -> tuple[bool, bool, bool, float]:
        return (task.encoder is not mode, task.head != head, task.dataset != dataset, abs(math.log(task.fraction / fraction)))

    return min(parents, key=distance)


def _localizing(grid: GridCard, head: str, facts_of: Callable[[str], HeadFacts]) -> HeadFacts:
    try:
        facts = facts_of(head)
    except UnknownName as error:
        raise CardError(f"Grid {grid.name}: {error}") from None
    if facts.target not in TARGETS:
        raise CardError(f"Grid {grid.name}: {head!r} is no head of a grid: it takes {facts.target}, not {' or '.join(TARGETS)}.")
    return facts


def _scored(grid: GridCard, parents: Sequence[TaskCard], dataset: DatasetCard, target: str) -> TaskCard:
    """The first parent with the dataset and the head's kind of annotation: it says by what such a task is scored, and on which split."""
    found = next((task for task in parents if task.dataset == dataset.name and task.target == target), None)
    if found is None:
        raise CardError(f"Grid {grid.name}: no task of {' and '.join(grid.parents)} says what {target} of {dataset.name} are scored by.")
    return found


def _cell(
    grid: GridCard,
    parents: Sequence[TaskCard],
    scored: TaskCard,
    dataset: DatasetCard,
    head: str,
    head_title: str,
    mode: EncoderMode,
    fraction: float,
    n_train: int | None,
) -> TaskCard:
    parent = nearest(parents, dataset.name, head, mode, fraction)
    # How much of the validation list is read belongs to the dataset, not to the parent that gives the recipe.
    update = {"validation_subset": next(t for t in parents if t.dataset == dataset.name).recipe.validation_subset}
    if n_train is not None and parent.recipe.batch_size > n_train:
        update["batch_size"] = SMALL_BATCH
    percent = f"{fraction * 100:g}"
    return scored.model_copy(
        update={
            "id": f"{dataset.name}-{head}-{mode}-{percent}-{grid.name}",
            "title": f"{dataset.title} · {head_title} · {MODE_TITLES[mode]} · {percent} %",
            "head": head,
            "encoder": mode,
            "fraction": fraction,
            "recipe": parent.recipe.model_copy(update=update),
            "published": None,
            "parent": parent.id,
        }
    )


def _n_train(grid: GridCard, dataset: DatasetCard, split: str, fraction: float) -> int | None:
    """Training images of a share; None where the grid gives the dataset's shares itself."""
    if dataset.name in grid.shares:
        return None
    counts = dataset.splits[split].expected.get("train") if split in dataset.splits else None
    if counts is None:
        raise CardError(
            f"Grid {grid.name}: the card of {dataset.name} does not count the training images of the split {split}. Give its `shares`."
        )
    return round(counts.n_images * fraction)
