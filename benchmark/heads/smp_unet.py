"""The U-Net decoder of segmentation_models_pytorch with GLoRIA's loss: what GLoRIA, MGCA and G2D segment with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts

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
