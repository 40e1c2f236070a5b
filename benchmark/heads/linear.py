"""LoVT's linear segmentation head: one 1 x 1 convolution on the deepest features.

No trained layer stands between encoder and convolution, so the score is the representation's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts, HeadSize
from benchmark.heads._sizes import LOSS_MAPS, Tally

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest
    from benchmark.heads.networks.linear import Linear
    from benchmark.heads.networks.linear_stack import LinearStack

FACTS = HeadFacts(
    title="linear",
    target="masks",
    smoke_steps=100,
    step_s=0.001,
    reads="deepest",
    later_switches=frozenset({"linear_grid", "dice_loss"}),
)


def build(request: HeadRequest) -> Head:
    """The head on the encoder's deepest level."""
    from benchmark.heads.networks.linear import Linear

    return Linear(request)


def stack(heads: Sequence[Linear]) -> LinearStack:
    """Heads that learn side by side from shared batches; a head module that offers this trains its frozen float32 runs together."""
    from benchmark.heads.networks.linear_stack import LinearStack

    return LinearStack(heads)


def size(channels: Mapping[int, int], n_classes: int, frame_size: int) -> HeadSize:
    """What it holds; arguments as of `HeadRequest`."""
    deepest = max(channels)
    tally = Tally((deepest,), channels, frame_size)
    tally.layer(channels[deepest], n_classes, frame_size // deepest)
    tally.joined((1 + LOSS_MAPS) * n_classes, frame_size)
    return tally.size
