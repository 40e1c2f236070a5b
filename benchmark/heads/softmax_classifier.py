"""One linear layer on the encoder's pooled embedding, for classes of which every image has exactly one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmark.cards import POOLED, HeadFacts, HeadSize

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

FACTS = HeadFacts(title="softmax_classifier", target="labels", exclusive=True, smoke_steps=100, step_s=0.1, reads="pooled")


def build(request: HeadRequest) -> Head:
    """The layer for the encoder's pooled embedding."""
    from benchmark.heads.networks.softmax_classifier import SoftmaxClassifier

    return SoftmaxClassifier(request)


def size(channels: Mapping[int, int], n_classes: int, frame_size: int) -> HeadSize:
    """What it holds; arguments as of `HeadRequest`."""
    width = channels[max(channels)]
    return HeadSize((POOLED,), (width + 1) * n_classes, width + 3 * n_classes)
