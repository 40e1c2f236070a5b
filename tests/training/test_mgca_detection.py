"""Promises of MGCA's detection through the whole job: recipes of the reference, and both of its columns in every record."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.kinds.kit.stored import STATISTICS_FILE, read_statistics
from benchmark.metrics.statistics import pooled_metrics

MGCA = {"mAP_mgca", "mAP_mgca_all"}


@pytest.mark.parametrize("dataset", ["rsna", "object-cxr"])
@pytest.mark.parametrize("percent", [1, 10, 100])
def test_recipes_are_those_of_the_reference(dataset: str, percent: int) -> None:
    """MGCA's released recipe (docs/segmentation.md)."""
    task = registry.task(f"{dataset}-yolov3-frozen-{percent}-mgca")
    recipe = task.recipe
    rate = {"rsna": 2e-4, "object-cxr": 2.5e-4}[dataset] if percent == 1 else 5e-4
    assert (recipe.learning_rate, recipe.batch_size) == (rate, 8 if percent == 1 else 16)
    assert (recipe.optimiser, recipe.betas, recipe.weight_decay) == ("adamw", (0.9, 0.999), 1e-6)
    assert (recipe.max_epochs, recipe.patience, recipe.min_delta, recipe.augmentation) == (50, 10, 0.0, None)
    assert recipe.plateau_patience > recipe.max_epochs  # a constant rate
    assert (task.head, task.target, task.encoder, task.frame_size) == ("yolov3_mgca", "boxes", "frozen", 224)
    assert (task.select, task.report) == ("mAP_mgca_all", "mAP_mgca_all")
    assert task.protocols == ("corrected",)
    assert task.published is None
    assert task.id in registry.suite("detection").tasks
    assert registry.dataset(task.dataset).statistics.mean == (0.5,)


@pytest.mark.parametrize("task", ["rsna-yolov3-frozen-100-mgca", "rsna-yolov3-frozen-100"])
def test_every_detection_record_has_both_columns_and_scores_the_same_again(small, tiny, tmp_path: Path, task: str) -> None:
    job, place = small.one(task, tiny(), limit=10, batch_size=4, max_steps=2)
    record = small.fit(job, place, produced=tmp_path / "produced", learning_rate=1e-3)
    assert record.status == "ok"
    assert set(record.metrics) >= MGCA
    assert set(record.validation) >= MGCA
    stored = read_statistics(tmp_path / "produced" / STATISTICS_FILE).statistics
    pooled = {name: metric(None) for name, metric in pooled_metrics(stored).items()}
    assert {name: value for name, value in pooled.items() if value is not None} == record.metrics
