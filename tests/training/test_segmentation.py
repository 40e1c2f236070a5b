"""Promises of GLoRIA's and MGCA's segmentation through the whole job: augmented training, Dice families stored and computed again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import registry
from benchmark.cards import Recipe
from benchmark.contents import drained
from benchmark.errors import CardError
from benchmark.imaging.augment import Augmentation
from benchmark.kinds.kit.stored import STATISTICS_FILE, read_statistics
from benchmark.metrics import dice
from benchmark.metrics.statistics import pooled_metrics
from benchmark.training import together
from benchmark.training.data import load
from benchmark.training.features import FeatureBank
from benchmark.training.shared_work import SharedWork
from tests.corpora import CorpusPlan, write_corpus

SIIM, RSNA, GLORIA = "siim-smp-unet-frozen-100-mgca", "rsna-smp-unet-frozen-100-mgca", "siim-smp-unet-finetune-100-gloria"


@pytest.fixture(scope="module")
def siim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("siim")
    write_corpus(CorpusPlan(dataset="siim", n_patients=40, seed=4), root / "siim")
    return root


def _loaded(job, place):
    return drained(load(job.experiment, place))


# ------------------------------------------------------------------------------------------------------------- the protocols


@pytest.mark.parametrize(
    ("task_id", "batch", "epochs", "patience", "optimiser", "betas", "decay", "select", "size", "mode"),
    [
        (GLORIA, 8, 100, 20, "adam", (0.5, 0.999), 1e-6, "image_dice_all", 512, "finetune"),
        (SIIM, 8, 50, 10, "adamw", (0.9, 0.999), 0.05, "negative_loss", 224, "frozen"),
        (RSNA, 16, 50, 10, "adamw", (0.9, 0.999), 0.05, "negative_loss", 224, "frozen"),
    ],
)
def test_recipes_are_those_of_the_references(task_id, batch, epochs, patience, optimiser, betas, decay, select, size, mode) -> None:
    """GLoRIA's and MGCA's recipes (docs/segmentation.md)."""
    for percent in (1, 10, 100):
        task = registry.task(task_id.replace("-100-", f"-{percent}-"))
        recipe = task.recipe
        assert (recipe.batch_size, recipe.max_epochs, recipe.patience, recipe.learning_rate) == (batch, epochs, patience, 5e-4)
        assert (recipe.optimiser, recipe.betas, recipe.weight_decay) == (optimiser, betas, decay)
        assert (recipe.augmentation, recipe.min_delta, recipe.warmup_steps, recipe.grid) == ("scale-rotate", 0.0, 0, ())
        assert recipe.plateau_patience > recipe.max_epochs  # a constant rate
        assert (task.select, task.report, task.frame_size, task.encoder) == (select, "image_dice_all", size, mode)
        assert (task.head, task.target, task.fraction, task.protocols) == ("smp_unet", "masks", percent / 100, ("corrected",))
        assert task.published is None
        assert task.id in registry.suite("segmentation").tasks
        card = registry.dataset(task.dataset)
        assert (card.statistics.mean, card.statistics.std, card.intensity) == ((0.5,), (0.5,), "as-stored")


def test_augmentation_is_in_a_jobs_key_and_its_absence_in_no_key() -> None:
    recipe = Recipe(batch_size=8, learning_rate=0.1, max_epochs=1, patience=1)
    assert "augmentation" not in recipe.model_dump()
    augmented = recipe.model_copy(update={"augmentation": "scale-rotate"})
    assert augmented.model_dump()["augmentation"] == "scale-rotate"
    assert recipe.canonical != augmented.canonical


# ------------------------------------------------------------------------------------------------------------------ whole jobs


@pytest.mark.parametrize("task", [SIIM, GLORIA])
def test_a_job_gives_every_family_of_dice_and_statistics_that_score_the_same_again(
    small, tiny, siim: Path, tmp_path: Path, task: str
) -> None:
    job, place = small.one(task, tiny(), root=siim, limit=11, batch_size=4)
    record = small.fit(job, place, produced=tmp_path / "produced", learning_rate=1e-3)
    assert record.status == "ok"
    families = {"image_dice_all", "image_dice_batches", "image_dice_positives", "pneumothorax_dice", "dice_with_background"}
    assert families <= set(record.metrics)
    assert {"image_dice_all", "negative_loss"} <= set(record.validation)
    assert record.validation["negative_loss"] == pytest.approx(-record.curve[record.selected_epoch].validation_loss)
    stored = read_statistics(tmp_path / "produced" / STATISTICS_FILE).statistics
    pooled = {name: metric(None) for name, metric in pooled_metrics(stored).items()}
    assert {name: value for name, value in pooled.items() if value is not None} == record.metrics
    assert stored.batch_sizes.tolist() == [4] * 8 + [3] * 3
    assert record.metrics["image_dice_all"] == pytest.approx(dice.image_dice_all(stored.counts))


def test_training_images_are_augmented_with_their_masks_and_nothing_else_is(small, tiny, siim: Path) -> None:
    job, place = small.one(SIIM, tiny(), root=siim, limit=12)
    data = _loaded(job, place)
    assert (data.validation.augmentation, data.test.augmentation) == (None, None)
    index = np.arange(len(data.train))
    stored = replace(data.train, augmentation=None)
    first, second = data.train.in_epoch(0), data.train.in_epoch(1)
    assert not torch.equal(first.images(index), stored.images(index))
    assert not torch.equal(first.images(index), second.images(index))
    assert torch.equal(first.images(index), data.train.in_epoch(0).images(index))
    assert np.array_equal(first.masks(index), stored.masks(index))  # counts of positives are of the stored masks
    device = torch.device("cpu")
    expected = Augmentation("scale-rotate", job.experiment.order_seed, 1).masks(stored.masks(index), index)
    assert torch.equal(second.targets(index, device).masks, torch.from_numpy(expected).float())
    assert stored.in_epoch(1) is stored


def test_a_frozen_encoder_sees_the_augmented_images_and_not_features_of_others(small, tiny, siim: Path, monkeypatch) -> None:
    file = tiny()
    job, place = small.one(SIIM, file, root=siim, limit=12)
    prepared = []
    prepare = FeatureBank.prepare_in_steps
    monkeypatch.setattr(FeatureBank, "prepare_in_steps", lambda self, part: prepared.append(part.name) or prepare(self, part))
    seen = []
    draw = Augmentation.images
    monkeypatch.setattr(Augmentation, "images", lambda self, frames, index: seen.append(self.epoch) or draw(self, frames, index))
    record = small.fit(job, place, learning_rate=1e-3)
    assert prepared == ["validation", "test"]
    assert sorted(set(seen)) == [line.epoch for line in record.curve]  # every epoch has draws of its own
    without, place = small.one(SIIM, file, root=siim, limit=12, augmentation=None)
    plain = small.fit(without, place, learning_rate=1e-3)
    assert plain.curve[0].train_loss != record.curve[0].train_loss
    assert job.key != without.key


def test_the_same_job_gives_the_same_record_and_no_other_job_changes_its_draws(small, tiny, siim: Path) -> None:
    file = tiny()
    job, place = small.one(SIIM, file, root=siim, limit=12)
    first = small.fit(job, place, learning_rate=1e-3)
    shared = SharedWork()
    small.fit(*small.one(RSNA, file, limit=12), shared=shared)
    again = small.fit(job, place, learning_rate=1e-3, shared=shared)
    assert again.metrics == first.metrics
    assert [line.train_loss for line in again.curve] == [line.train_loss for line in first.curve]


def test_box_targets_are_not_augmented(small, tiny) -> None:
    job, place = small.one("rsna-yolov3-frozen-100", tiny(), augmentation="scale-rotate")
    with pytest.raises(CardError, match="boxes, which would stay where they were"):
        small.fit(job, place)


def test_linear_heads_on_augmented_images_do_not_train_side_by_side_on_features(small, tiny) -> None:
    file = tiny()
    plain, _ = small.one("rsna-linear-frozen-100", file)
    augmented, _ = small.one("rsna-linear-frozen-100", file, augmentation="scale-rotate")
    assert together.group_key(plain) is not None
    assert together.group_key(augmented) is None
