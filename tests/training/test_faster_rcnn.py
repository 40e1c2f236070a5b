"""Promises of Faster R-CNN through the whole job: borrowed budgets, samples that belong to an image and an epoch, the same bits again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import registry
from benchmark.cards import VOLATILE_FIELDS, EncoderMode
from benchmark.contents import drained
from benchmark.training import fit as fitting
from benchmark.training.data import load
from benchmark.training.options import RunOptions
from tests.training.test_checkpoint import run, safe

TASK = "rsna-faster-rcnn-frozen-100-lobe"
OF_THE_HEAD = {"learning_rate", "grid", "warmup_learning_rate", "validation_subset"}


@pytest.mark.parametrize("name", registry.suite("faster-rcnn").tasks)
def test_budget_is_that_of_the_parent_and_no_papers_number_is_claimed(name: str) -> None:
    task = registry.task(name)
    parent = registry.task(task.parent)
    assert task.recipe.model_dump(exclude=OF_THE_HEAD) == parent.recipe.model_dump(exclude=OF_THE_HEAD)
    assert (parent.head, parent.encoder, parent.fraction) == ("yolov3", task.encoder, task.fraction)
    if task.dataset == parent.dataset:
        assert (task.split, task.recipe.validation_subset) == (parent.split, parent.recipe.validation_subset)
    assert task.recipe.grid == (1e-4, 3e-4, 1e-3)  # the smallest wins a tie
    assert (task.head, task.target, task.frame_size, task.published) == ("faster_rcnn", "boxes", 224, None)
    assert (task.select, task.report, task.protocols) == ("froc_full", "AP40_75_full", ("corrected",))
    assert task.split in registry.dataset(task.dataset).splits


def test_every_dataset_of_a_yolov3_task_beyond_transfers_has_one() -> None:
    later = registry.suite("modern").tasks  # which no paper compares heads on
    boxed = {t.dataset for t in registry.tasks().values() if t.head == "yolov3" and "-to-" not in t.dataset and t.id not in later}
    assert {registry.task(name).dataset for name in registry.suite("faster-rcnn").tasks} == boxed


@pytest.mark.parametrize("mode", list(EncoderMode))
def test_a_job_gives_the_same_bits_after_other_random_draws(small, tiny, tmp_path: Path, mode) -> None:
    job, place = small.one(TASK, tiny(dropout=0.2), card={"encoder": mode}, warmup_steps=1)
    one = small.fit(job, place, produced=tmp_path / "one", learning_rate=1e-3)
    torch.rand(1000)
    other = small.fit(job, place, produced=tmp_path / "other", learning_rate=1e-3)
    assert one.status == "ok"
    assert set(one.metrics) >= {"AP40_75_full", "froc_full", "mAP_mgca_all"}
    assert one.model_dump(exclude=VOLATILE_FIELDS) == other.model_dump(exclude=VOLATILE_FIELDS)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "other")]
    assert files[0] == files[1]


@pytest.mark.parametrize("mode", list(EncoderMode))
def test_resumed_is_undisturbed_to_the_byte(small, tiny, tmp_path: Path, mode) -> None:
    options = {"card": {"encoder": mode}, "max_steps": None, "max_epochs": 4, "patience": 4, "warmup_steps": 1}
    job, place = small.one(TASK, tiny(dropout=0.25), **options)
    (whole, files), _ = run(job, place)
    run(job, place, safe(tmp_path), stop_after=2)
    (resumed, resumed_files), n_resumed = run(job, place, safe(tmp_path))
    assert n_resumed < 4
    assert resumed.model_dump(exclude=VOLATILE_FIELDS) == whole.model_dump(exclude=VOLATILE_FIELDS)
    assert resumed_files == files


def test_micro_batches_train_the_same_head(small, tiny) -> None:
    """On tensors and in float64, so do processes (tests/test_parallel.py)."""
    job, place = small.one(TASK, tiny(), batch_size=4)
    whole = small.fit(job, place, learning_rate=1e-3)
    pieces = small.fit(job, place, RunOptions(micro_batches=4), learning_rate=1e-3)
    for one, other in zip(whole.curve, pieces.curve, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=1e-3)
        assert other.validation_loss == pytest.approx(one.validation_loss, rel=1e-3)


def test_runs_draw_apart(small, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    job, place = small.one(TASK, tiny())
    seeds = []
    train = fitting.train
    monkeypatch.setattr(fitting, "train", lambda model, *rest: seeds.append(model.head.seed) or train(model, *rest))
    small.fit(job, place)
    other = job.model_copy(update={"experiment": job.experiment.model_copy(update={"head_seed": job.experiment.head_seed + 1})})
    small.fit(other, place)
    assert seeds == [job.experiment.head_seed, job.experiment.head_seed + 1]


def test_epochs_draw_anew_and_validation_never(small, tiny) -> None:
    job, place = small.one(TASK, tiny())
    data = drained(load(job.experiment, place))
    index = np.array([3, 1])
    assert data.train.in_epoch(2).targets(index, torch.device("cpu")).draws == ((2, 3), (2, 1))
    assert data.validation.targets(index, torch.device("cpu")).draws == ((0, 3), (0, 1))
    first, second = data.train.in_epoch(0), data.train.in_epoch(1)
    assert torch.equal(first.images(index), second.images(index))
    assert torch.equal(first.targets(index, torch.device("cpu")).boxes_xywh, second.targets(index, torch.device("cpu")).boxes_xywh)


def test_half_precision_trains_to_a_finite_number(small, tiny) -> None:
    job, place = small.one(TASK, tiny())
    job = job.model_copy(update={"experiment": job.experiment.model_copy(update={"precision": "bfloat16"})})
    record = small.fit(job, place, learning_rate=1e-3)
    assert record.status == "ok"
    assert all(np.isfinite(line.validation_loss) for line in record.curve)
