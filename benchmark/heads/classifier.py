"""One linear layer on the encoder's pooled embedding: findings that may occur together, one sigmoid each.

Frozen, it is a linear probe and its features are cached; fine-tuned, the same layer on a trained encoder. Unknown labels train nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmark.cards import POOLED, HeadFacts, HeadSize

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

FACTS = HeadFacts(title="classifier", target="labels", smoke_steps=100, step_s=0.1, reads="pooled")


def build(request: HeadRequest) -> Head:
    """The layer for the encoder's pooled embedding."""
    from benchmark.heads.networks.classifier import Classifier

    return Classifier(request)


def size(channels: Mapping[int, int], n_classes: int, frame_size: int) -> HeadSize:
    """What it holds; arguments as of `HeadRequest`."""
    width = channels[max(channels)]
    return HeadSize((POOLED,), (width + 1) * n_classes, width + 3 * n_classes)
