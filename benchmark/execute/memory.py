"""How much memory a job's process holds at its peak on the CPU, from what decides it, before anything like it was measured.

The process itself, the network with what trains it, one batch with what its backward pass needs, and features of a frozen encoder up to
their budget. What an encoder holds stands here by its name, what a head holds in its own module (`size`). No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from benchmark import registry
from benchmark.cards import POOLED, EncoderMode, Experiment, HeadSize, Job
from benchmark.training.options import RunOptions
from benchmark.training.sizes import SplitSizes, batch_size, chosen

FLOAT_BYTES = 4
# Measured with torch 2.15 on Linux: what a process has held when it has planned a job and loaded no network, half of it mapped libraries.
PROCESS_BYTES = 1000 * 2**20
FEATURES_BATCH = 16  # images whose features are computed at once, as in `training.features`
WORKING_COPIES = 2  # of an encoder's largest map, alive at once where nothing is kept for a backward pass
MEASURED_FRAME = 224


@dataclass(frozen=True)
class EncoderFacts:
    """
    Attributes:
        parameters: of the encoder alone.
        channels: stride -> channels.
        kept: numbers that the forward pass of one image of 224 px keeps for the backward pass.
        multiplications: of that pass.
    """

    parameters: int
    channels: Mapping[int, int]
    kept: int
    multiplications: int


_BASIC, _BOTTLENECK = {2: 64, 4: 64, 8: 128, 16: 256, 32: 512}, {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}
# By the longest of these names that a model's name holds; counted on torchvision's models.
ENCODERS = {
    "resnet18": EncoderFacts(11_176_512, _BASIC, 5_544_448, 1_813_561_344),
    "resnet34": EncoderFacts(21_284_672, _BASIC, 8_053_248, 3_663_249_408),
    "resnet50": EncoderFacts(23_508_032, _BOTTLENECK, 21_475_328, 4_087_136_256),
    "resnet101": EncoderFacts(42_500_160, _BOTTLENECK, 31_711_232, 7_799_357_440),
    "resnet152": EncoderFacts(58_143_808, _BOTTLENECK, 44_355_584, 11_511_578_624),
    "densenet121": EncoderFacts(6_953_856, {2: 64, 4: 256, 8: 512, 16: 1024, 32: 1024}, 32_589_312, 2_833_137_664),
    "densenet169": EncoderFacts(12_484_480, {2: 64, 4: 256, 8: 512, 16: 1280, 32: 1664}, 39_325_440, 3_358_179_328),
}


def peak_bytes(job: Job, options: RunOptions, sizes: SplitSizes, workers: int = 1) -> int | None:
    """What one process of the job is expected to hold at most; None where head or encoder does not say what it holds.

    Args:
        options: its budget for features counts as far as there are features.
        sizes: images of the dataset's splits.
        workers: processes that share each batch.
    """
    e = job.experiment
    facts, encoder, head = registry.head(e.head), encoder_facts(e), head_size(e)
    if encoder is None or head is None:
        return None
    finetune = e.encoder is EncoderMode.FINETUNE
    used = chosen(e, sizes)
    area = (e.dataset.frame_size / MEASURED_FRAME) ** 2
    whole = math.ceil(batch_size(e.recipe, e.limit, used.train) / workers)
    batch = options.most_at_once(whole) or whole

    trained = head.parameters + (encoder.parameters if finetune else 0)
    weights = head.parameters + encoder.parameters
    best = trained  # the state of the best epoch
    # Gradients and Adam's two moments; while a batch is at its largest, its gradients are still to come.
    moments, gradients = 2 * trained, trained
    encoder_kept = encoder.kept * area if finetune else 0.0
    kept = batch * (head.kept + encoder_kept)
    without_backward = WORKING_COPIES * encoder.channels[min(encoder.channels)] * (e.dataset.frame_size / min(encoder.channels)) ** 2
    computing = 0.0 if finetune else min(FEATURES_BATCH, used.images) * without_backward
    step = moments + best + max(kept + gradients / 2, gradients + best)
    numbers = weights + max(step, computing)
    return PROCESS_BYTES + facts.library_bytes + int(FLOAT_BYTES * numbers) + features_bytes(e, used.images, options.feature_budget_bytes)


def features_bytes(experiment: Experiment, n_images: int, budget_bytes: int) -> int:
    """Memory for the features of so many images; 0 where they are not kept, as on a CPU, or nothing is known of head or encoder."""
    encoder, head, side = encoder_facts(experiment), head_size(experiment), experiment.dataset.frame_size
    if encoder is None or head is None or experiment.encoder is EncoderMode.FINETUNE or experiment.device_type == "cpu":
        return 0  # of a CPU they are read from the disk, whose files the system holds
    channels = encoder.channels
    numbers = (channels[max(channels)] if stride == POOLED else channels[stride] * (side // stride) ** 2 for stride in head.strides)
    return min(budget_bytes, FLOAT_BYTES * sum(numbers) * n_images)


def head_size(experiment: Experiment) -> HeadSize | None:
    """What the job's head holds on its encoder's features; None where either does not say."""
    if experiment.words is not None:
        return None
    return _head_size(experiment.head, _architecture(experiment), len(experiment.dataset.classes), experiment.dataset.frame_size)


def encoder_facts(experiment: Experiment) -> EncoderFacts | None:
    """By the architecture's name; None for one that is not known."""
    return ENCODERS.get(_architecture(experiment))


@cache  # a plan asks for the same few of thousands of units
def _head_size(head: str, architecture: str, n_classes: int, frame_size: int) -> HeadSize | None:
    size = registry.optional("heads", head, "size")
    encoder = ENCODERS.get(architecture)
    if size is None or encoder is None:
        return None
    found: HeadSize = size(encoder.channels, n_classes, frame_size)
    return found


def _architecture(experiment: Experiment) -> str:
    name = experiment.backbone.model.lower()
    return max((known for known in ENCODERS if known in name), key=len, default="")
