"""Where micro-batches would train another model, they are refused by name; where not, the numbers are those of whole batches."""

from __future__ import annotations

import pytest
import torch

from benchmark.cards import EncoderMode
from benchmark.errors import TooLittleMemory
from benchmark.heads.networks.dice_loss import dice_sums
from benchmark.heads.networks.linear import Linear
from benchmark.training import micro_batches
from benchmark.training.options import RunOptions

LINEAR, UNET, DETECTION = "rsna-linear-frozen-100", "covid-rural-unet-frozen-100", "rsna-yolov3-frozen-100"
FINETUNE = {"encoder": EncoderMode.FINETUNE}


def with_norm(norm: str, more: str = "pass") -> str:
    """Lines of build() that put another layer where the tiny backbone has its BatchNorms."""
    return (
        f"torch.manual_seed(5); made = Tiny(); {more}\n    for s, w in WIDTHS.items(): made.stages[str(s)][1] = nn.{norm}\n    return made"
    )


GROUPS = with_norm("GroupNorm(2, w)")


def close(record, other) -> None:
    assert record.key == other.key
    assert record.selected_epoch == other.selected_epoch
    for one, two in zip(record.curve, other.curve, strict=True):
        assert [one.train_loss, one.validation_loss] == pytest.approx([two.train_loss, two.validation_loss], abs=1e-4)
    assert record.metrics == pytest.approx(other.metrics, abs=1e-3)


@pytest.mark.parametrize("card", [{}, FINETUNE], ids=["frozen", "finetune"])
def test_a_job_in_micro_batches_gives_the_numbers_of_whole_batches_and_says_so(small, tiny, card):
    job, place = small.one(LINEAR, tiny(at_build=GROUPS), card=card, warmup_steps=1, batch_size=5, drop_last=False, max_steps=6)
    whole, pieces = small.fit(job, place), small.fit(job, place, RunOptions(micro_batches=3))
    close(pieces, whole)
    assert (whole.micro_batches, pieces.micro_batches) == (1, 3)
    assert "trained in micro-batches of at most 2 images: equal to whole batches up to rounding" in pieces.warnings
    assert not any("micro-batches" in warning for warning in whole.warnings)


def test_batchnorm_of_a_frozen_encoder_stands_in_nobodys_way(small, tiny):
    job, place = small.one(LINEAR, tiny(), batch_size=6)
    close(small.fit(job, place, RunOptions(micro_batches=6)), small.fit(job, place))


@pytest.mark.parametrize(
    ("task", "card", "build", "why"),
    [
        (UNET, {}, {}, r"head\.bridge\.0\.1 is a BatchNorm"),
        (DETECTION, {}, {}, r"head\.neck\.\S+ is a BatchNorm"),
        (LINEAR, FINETUNE, {}, r"encoder\.backbone\.stages\.2\.1 is a BatchNorm.*or --workers-per-job N"),
        (LINEAR, FINETUNE, {"at_build": with_norm("BatchNorm2d(w, track_running_stats=False).eval()")}, "eval mode"),
        (LINEAR, FINETUNE, {"at_build": with_norm("InstanceNorm2d(w, track_running_stats=True)")}, r"running_mean is kept from batch"),
        (LINEAR, FINETUNE, {"at_build": GROUPS, "dropout": 0.2}, "random numbers are drawn"),
        (
            LINEAR,
            FINETUNE,
            {"at_build": GROUPS, "at_pyramid": "images = images - self.training * images.mean(0)"},
            "another output beside other images",
        ),
    ],
    ids=["unet", "yolov3", "finetune", "batch statistics in eval mode", "running statistics", "dropout", "images that meet"],
)
def test_where_the_result_would_be_another_one_it_is_refused(small, tiny, task, card, build, why):
    job, place = small.one(task, tiny(**build), card=card, batch_size=4)
    with pytest.raises(Exception, match=why) as found:
        small.fit(job, place, RunOptions(micro_batches=2))
    if why != "eval mode":  # that backbone is refused with whole batches as well
        assert isinstance(found.value, TooLittleMemory)
        assert str(found.value).startswith("A batch of 4 images does not fit into memory, and micro-batches would train another model: ")
        assert "Use a device with more memory" in str(found.value)


def test_a_loss_that_does_not_add_up_over_images_is_refused(small, tiny, monkeypatch):
    monkeypatch.setattr(Linear, "sums", lambda self, outputs, targets: dice_sums(outputs, targets.masks) / len(outputs))
    job, place = small.one(LINEAR, tiny(), batch_size=4)
    with pytest.raises(TooLittleMemory, match="`sums` of two images are not those of each added"):
        small.fit(job, place, RunOptions(micro_batches=2))


def test_a_buffer_that_holds_no_number_and_stays_so_is_not_taken_for_one_that_moves(small, tiny, monkeypatch):
    """As of maps from labels, which keep where they are cut and do not know it before the first validation."""
    built = Linear.__init__

    def with_unknown(self, request):
        built(self, request)
        self.register_buffer("cuts", torch.full((2,), torch.nan, dtype=torch.float64))

    monkeypatch.setattr(Linear, "__init__", with_unknown)
    job, place = small.one(LINEAR, tiny(), batch_size=4)
    close(small.fit(job, place, RunOptions(micro_batches=2)), small.fit(job, place))


def test_a_buffer_that_becomes_no_number_has_moved():
    known, unknown = torch.zeros(2), torch.tensor([0.0, torch.nan])
    assert micro_batches._is_same(unknown, unknown.clone())
    assert not micro_batches._is_same(known, unknown)
    assert not micro_batches._is_same(unknown, known)
    assert micro_batches._is_same(torch.tensor([True]), torch.tensor([True]))
