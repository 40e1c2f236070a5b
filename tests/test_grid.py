"""Promises of the grid: every cell that can run, each with the recipe of a task of LoVT it names, and no key of LoVT's changed."""

from __future__ import annotations

import pytest

from benchmark import grid, registry
from benchmark.cards import EncoderMode
from benchmark.errors import CardError


def test_every_cell_names_a_parent_of_lovt_and_takes_its_recipe() -> None:
    lovt = registry.suite("lovt-18").tasks
    for task_id in registry.suite("grid").tasks:
        task = registry.task(task_id)
        parent = registry.task(task.parent)
        assert parent.id in lovt
        assert task.published is None
        own = {"batch_size": task.recipe.batch_size, "validation_subset": task.recipe.validation_subset}
        assert task.recipe == parent.recipe.model_copy(update=own)
        assert task_id == f"{task.dataset}-{task.head}-{task.encoder}-{task.fraction * 100:g}-grid"


def test_a_cell_that_is_a_task_of_lovt_is_the_same_job() -> None:
    for task_id in registry.suite("lovt-18").tasks:
        cell, task = registry.task(f"{task_id}-grid"), registry.task(task_id)
        named = {"id", "title", "published", "parent"}
        assert cell.model_dump(exclude=named) == task.model_dump(exclude=named)
        assert cell.parent == task_id


def test_cells_without_a_batch_of_images_are_left_out() -> None:
    tasks = registry.suite("grid").tasks
    # 2 modes x (3 + 2 + 2 + 3 + 2 heads) x 3 shares, without 1 % of 133 and of 588 images (two heads, two modes each).
    assert len(tasks) == 2 * 12 * 3 - 8
    assert not [t for t in tasks if t.startswith(("covid-rural", "nih-cxr")) and t.endswith("-1-grid")]
    assert registry.task("covid-rural-unet-frozen-10-grid").recipe.batch_size == 8
    assert registry.task("nih-cxr-linear-frozen-10-grid").recipe.batch_size == grid.SMALL_BATCH  # 59 images, and LoVT's batch is 64


@pytest.mark.parametrize(
    ("cell", "parent"),
    [
        ("rsna-linear-finetune-10-grid", "rsna-yolov3-finetune-10"),
        ("siim-linear-frozen-100-grid", "rsna-linear-frozen-100"),
        ("rsna-unet-frozen-1-grid", "covid-rural-unet-frozen-100"),
        ("object-cxr-yolov3-frozen-1-grid", "object-cxr-yolov3-frozen-100"),
    ],
)
def test_the_nearest_task_shares_mode_then_head_then_dataset(cell: str, parent: str) -> None:
    assert registry.task(cell).parent == parent


def test_a_cell_is_scored_as_its_dataset_is() -> None:
    assert registry.task("siim-linear-frozen-100-grid").report == "pneumothorax_dice"
    assert registry.task("object-cxr-unet-finetune-100-grid").report == "avg_dice"
    assert registry.task("object-cxr-yolov3-finetune-10-grid").report == "froc"
    assert registry.task("rsna-unet-frozen-10-grid").encoder is EncoderMode.FROZEN


# ------------------------------------------------------------------------------------------------- beyond LoVT's datasets


def test_every_localized_dataset_is_in_a_grid_with_every_head_it_has_annotations_for() -> None:
    heads: dict[str, set[str]] = {}
    for name in ("lovt-18", "localized"):
        for task in map(registry.task, registry.suite(name).tasks):
            heads.setdefault(task.dataset, set()).update({"yolov3"} if task.target == "boxes" else {"linear", "unet"})
    listed = {dataset: set(known) for card in registry.grids().values() for dataset, known in card.heads.items()}
    assert listed == heads


def test_a_cell_beyond_lovt_takes_split_and_metric_of_its_dataset_and_names_its_parent() -> None:
    tasks = [registry.task(name) for name in registry.suite("grid-beyond").tasks]
    assert len(tasks) == 2 * (3 * 3 * 3 + 2 * 2 + 2 * 3)
    known = {*registry.suite("lovt-18").tasks, *registry.suite("localized").tasks}
    for task in tasks:
        own = [other for other in map(registry.task, registry.suite("localized").tasks) if other.dataset == task.dataset]
        assert task.parent in known
        assert (task.published, task.protocols) == (None, ("corrected",))
        assert (task.split, task.target, task.report) in {(other.split, other.target, other.report) for other in own}
        same = {"batch_size": task.recipe.batch_size, "validation_subset": task.recipe.validation_subset}
        assert task.recipe == registry.task(task.parent).recipe.model_copy(update=same)
    assert registry.task("tbx11k-linear-frozen-1-grid-beyond").recipe.batch_size == grid.SMALL_BATCH  # 53 images
    assert registry.task("vindr-cxr-yolov3-finetune-10-grid-beyond").parent == "rsna-yolov3-finetune-10"
    assert "jsrt-linear-frozen-1-grid-beyond" not in registry.tasks()


def test_a_frozen_cell_at_all_labels_is_the_datasets_own_task() -> None:
    for name in registry.suite("localized").tasks:
        task, cell = registry.task(name), registry.task(f"{name.removesuffix('-lobe')}-grid-beyond")
        named = {"id", "title", "parent"}
        assert cell.model_dump(exclude=named) == task.model_dump(exclude=named)
        assert cell.parent == name


def test_a_dataset_whose_training_list_nobody_counted_needs_its_shares() -> None:
    card = registry.grids()["grid-beyond"].model_copy(update={"shares": {}})
    parents = [registry.task(name) for name in registry.suite("localized").tasks]
    with pytest.raises(CardError, match="jsrt does not count the training images of the split train-fold1"):
        grid.cells(card, parents, registry.datasets(), registry.head)
    only = card.model_copy(update={"heads": {"jsrt": ("yolov3",)}})
    with pytest.raises(CardError, match="says what boxes of jsrt are scored by"):
        grid.cells(only, parents, registry.datasets(), registry.head)
    labels = card.model_copy(update={"heads": {"jsrt": ("classifier",)}})
    with pytest.raises(CardError, match="'classifier' is no head of a grid: it takes labels, not masks or boxes"):
        grid.cells(labels, parents, registry.datasets(), registry.head)
