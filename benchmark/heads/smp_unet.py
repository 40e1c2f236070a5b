"""The U-Net decoder of segmentation_models_pytorch with GLoRIA's loss: what GLoRIA, MGCA and G2D segment with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts, HeadSize
from benchmark.heads._sizes import LOSS_MAPS, SMP_WIDTHS, Tally

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

FACTS = HeadFacts(title="smp U-Net", target="masks", smoke_steps=30, step_s=0.1, reads="every")


def build(request: HeadRequest) -> Head:
    """The decoder for the encoder's levels; a stride the encoder does not offer means no skip at that level.

    Raises:
        ConformanceError: a stride is no power of two, deeper than 32, or there is none above 1.
        UsageError: the frame is no multiple of the deepest stride.
    """
    from benchmark.heads.networks.smp_unet import SmpUNet

    return SmpUNet(request)


def size(channels: Mapping[int, int], n_classes: int, frame_size: int) -> HeadSize:
    """What it holds; arguments as of `HeadRequest`."""
    strides = tuple(sorted(stride for stride in channels if stride > 1))
    tally, stride = Tally(strides, channels, frame_size), strides[-1]
    tally.kept = 0  # every level is copied beside a decoded map: none is kept itself
    last = channels[stride]
    for at, width in SMP_WIDTHS.items():
        if at < stride:
            side = frame_size // at
            last = tally.block(tally.joined(last + (channels.get(at, 0) if at > 1 else 0), side), width, side)
            tally.block(last, last, side)
    tally.joined(LOSS_MAPS * tally.layer(last, n_classes, frame_size, 3), frame_size)
    return tally.size
