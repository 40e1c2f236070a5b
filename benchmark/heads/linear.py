"""LoVT's linear segmentation head: one 1 x 1 convolution on the deepest features.

No trained layer stands between encoder and convolution, so the score is the representation's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest
    from benchmark.heads.networks.linear import Linear
    from benchmark.heads.networks.linear_stack import LinearStack

FACTS = HeadFacts(title="linear", target="masks", smoke_steps=100, step_s=0.001, reads="deepest")


def build(request: HeadRequest) -> Head:
    """The head on the encoder's deepest level."""
    from benchmark.heads.networks.linear import Linear

    return Linear(request)


def stack(heads: Sequence[Linear]) -> LinearStack:
    """Heads that learn side by side from shared batches; a head module that offers this trains its frozen float32 runs together."""
    from benchmark.heads.networks.linear_stack import LinearStack

    return LinearStack(heads)
