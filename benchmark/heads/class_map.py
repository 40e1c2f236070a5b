"""A classifier that shows where: one linear layer on every cell of the deepest map, and a finding's logit is the mean of its cells.

The layer learns from whole-image labels. Mean and layer can change places, so the logit is that of a linear probe on the averaged map, and
the map before the mean is a class activation map (Zhou et al., CVPR 2016) with its bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts, HeadSize
from benchmark.metrics.class_maps import TARGET

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

FACTS = HeadFacts(
    title="class map", target=TARGET, smoke_steps=100, step_s=0.001, reads="deepest", later_switches=frozenset({"linear_grid"})
)


def build(request: HeadRequest) -> Head:
    """The head on the encoder's deepest level."""
    from benchmark.heads.networks.class_map import ClassMap

    return ClassMap(request)


def size(channels: Mapping[int, int], n_classes: int, frame_size: int) -> HeadSize:
    """What it holds; arguments as of `HeadRequest`."""
    deepest = max(channels)
    width, n_cells = channels[deepest], (frame_size // deepest) ** 2
    return HeadSize((deepest,), (width + 1) * n_classes, (width + n_classes) * n_cells + 3 * n_classes)
