"""LoVT's U-Net decoder on any feature pyramid, the normalised image as its last skip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

FACTS = HeadFacts(title="U-Net", target="masks", smoke_steps=30, step_s=0.15, reads="every")


def build(request: HeadRequest) -> Head:
    """The decoder for the encoder's levels; a stride the encoder does not offer means no skip at that level.

    Raises:
        ConformanceError: a stride is no power of two.
        UsageError: the frame is no multiple of the deepest stride.
    """
    from benchmark.heads.networks.unet import UNet

    return UNet(request)
