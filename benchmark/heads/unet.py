"""LoVT's U-Net decoder on any feature pyramid, the normalised image as its last skip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts, HeadSize
from benchmark.heads._sizes import IMAGE_CHANNELS, LOSS_MAPS, UNET_LEAST_WIDTH, Tally

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

FACTS = HeadFacts(title="U-Net", target="masks", smoke_steps=30, step_s=0.15, reads="every", later_switches=frozenset({"dice_loss"}))


def build(request: HeadRequest) -> Head:
    """The decoder for the encoder's levels; a stride the encoder does not offer means no skip at that level.

    Raises:
        ConformanceError: a stride is no power of two.
        UsageError: the frame is no multiple of the deepest stride.
    """
    from benchmark.heads.networks.unet import UNet

    return UNet(request)


def size(channels: Mapping[int, int], n_classes: int, frame_size: int) -> HeadSize:
    """What it holds; arguments as of `HeadRequest`."""
    strides = tuple(sorted(stride for stride in channels if stride > 1))
    tally, stride = Tally(strides, channels, frame_size, reads_image=True), strides[-1]
    width = last = channels[stride]
    for _ in range(2):
        tally.block(width, width, frame_size // stride, bias=True)
    level = 0
    while stride > 1:
        stride, level = stride // 2, level + 1
        side, outgoing = frame_size // stride, max(UNET_LEAST_WIDTH, width // 2**level)
        skip = IMAGE_CHANNELS if stride == 1 else channels.get(stride, 0)
        last = tally.block(tally.joined(tally.doubled(last, outgoing, side) + skip, side), outgoing, side, bias=True)
        tally.block(last, last, side, bias=True)
    tally.joined(LOSS_MAPS * tally.layer(last, n_classes, frame_size), frame_size)
    return tally.size
