"""The forecast of a job's peak memory: what it counts, and that processes of real jobs hold what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark import registry
from benchmark.cards import EncoderMode, Switches
from benchmark.encoders import torchvision
from benchmark.execute import memory
from benchmark.execute.costs import MARGIN, Costs
from benchmark.execute.memory import ENCODERS, peak_bytes
from benchmark.execute.work import units
from benchmark.heads.base import HeadRequest
from benchmark.training.options import RunOptions
from benchmark.training.sizes import SplitSizes
from tests.peaks import forecast_and_peak, kept_for_backward

LINEAR, UNET, DETECTION = "rsna-linear-frozen-100", "covid-rural-unet-frozen-100", "rsna-yolov3-frozen-100"
SIZES = SplitSizes(1000, 200, 300)


@pytest.fixture
def job(small, tiny):
    """A job of a task whose backbone is known by name."""

    def make(task: str, model: str = "resnet18", **card):
        made, _ = small.one(task, tiny(f"{task}-{model}-{len(card)}"), limit=None, card=card, size=224, batch_size=16)
        e = made.experiment
        return made.model_copy(update={"experiment": e.model_copy(update={"backbone": e.backbone.model_copy(update={"model": model})})})

    return make


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121"])
def test_what_is_said_of_an_encoder_is_what_it_holds(name: str):
    facts = ENCODERS[name]
    with torch.device("meta"):
        backbone = torchvision.build(name)
        images = torch.empty(2, 3, memory.MEASURED_FRAME, memory.MEASURED_FRAME)
    assert facts.parameters == sum(p.numel() for p in backbone.parameters())
    assert facts.channels == backbone.spec.strides
    assert kept_for_backward(backbone, lambda: backbone.pyramid(images)) == pytest.approx(8 * facts.kept, rel=0.01)
    with FlopCounterMode(display=False) as counted:
        backbone.pyramid(images)
    assert counted.get_total_flops() == 2 * 2 * facts.multiplications  # two images, a multiplication and an addition


@pytest.mark.parametrize(("name", "n_classes"), [("linear", 8), ("unet", 1), ("yolov3", 13)])
def test_the_multiplications_of_a_head_are_those_of_its_convolutions(name: str, n_classes: int):
    channels, side = ENCODERS["resnet50"].channels, memory.MEASURED_FRAME
    with torch.device("meta"):
        head = registry.plugin("heads", name).build(HeadRequest(channels, n_classes, side, Switches()))
        levels = {stride: torch.empty(1, channels[stride], side // stride, side // stride) for stride in head.strides}
        image = torch.empty(1, 3, side, side) if head.reads_image else None
        with FlopCounterMode(display=False) as counted:
            head(levels, image)
    assert counted.get_total_flops() == pytest.approx(2 * registry.plugin("heads", name).size(channels, n_classes, side).multiplications)


def test_features_count_on_a_gpu_as_far_as_there_are_some_and_their_budget_goes(job):
    given = job(DETECTION).experiment
    side = given.dataset.frame_size
    each = 4 * (128 * (side // 8) ** 2 + 256 * (side // 16) ** 2 + 512 * (side // 32) ** 2)
    on_gpu = given.model_copy(update={"device_type": "cuda"})
    assert [memory.features_bytes(on_gpu, 1320, budget) for budget in (0, 5000, 2**40)] == [0, 5000, 1320 * each]
    assert memory.features_bytes(given, 1320, 2**40) == 0  # read from the disk, which the system holds in memory that is to spare


def test_a_larger_batch_a_trained_encoder_and_a_larger_one_take_more(job):
    frozen, tuned = job(UNET), job(UNET, encoder=EncoderMode.FINETUNE)
    options = RunOptions(feature_budget_bytes=0)
    peak = peak_bytes(tuned, options, SIZES)
    assert peak > peak_bytes(frozen, options, SIZES)
    assert peak > peak_bytes(tuned, replace(options, micro_batches=4), SIZES)
    assert peak > peak_bytes(tuned, options, SIZES, workers=2)
    assert peak < peak_bytes(job(UNET, "resnet50", encoder=EncoderMode.FINETUNE), options, SIZES)


def test_of_an_encoder_that_nobody_knows_only_the_heads_guess_is_said(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()])
    (unit,) = units(jobs, places)
    assert peak_bytes(jobs[0], RunOptions(), SIZES) is None
    assert Costs().peak_bytes(unit) == Costs().needs(unit).memory_bytes == 2 * 2**30


def test_a_unit_is_given_more_than_its_expected_peak(job, small, tiny):
    given = job(LINEAR)
    _, places = small.plan(LINEAR, [tiny()], limit=None)
    (unit,) = units([given], {given.key: next(iter(places.values()))})
    costs = Costs()
    assert costs.needs(unit).memory_bytes == int(costs.peak_bytes(unit) * MARGIN)


@pytest.mark.parametrize(
    ("task", "card", "frame", "batch"),
    [(LINEAR, {}, 64, 4), (UNET, {"encoder": "finetune"}, 128, 8), (DETECTION, {}, 128, 8)],
)
def test_a_process_holds_what_was_forecast(task, card, frame, batch, corpora, tmp_path):
    recipe = {"batch_size": batch, "max_steps": 2, "max_epochs": 1, "warmup_steps": 0}
    expected, peak = forecast_and_peak(tmp_path, corpora, task, card=card, frame_size=frame, limit=16, **recipe)
    assert expected == pytest.approx(peak, rel=0.25)
