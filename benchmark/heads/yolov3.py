"""LoVT's YOLOv3: mmdet's network with LoVT's targets, loss, decoding and suppression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

FACTS = HeadFacts(
    title="YOLOv3", target="boxes", smoke_steps=40, step_s=0.1, reads=(8, 16, 32), later_switches=frozenset({"loss_at_extremes"})
)


def build(request: HeadRequest) -> Head:
    """Neck and head for the encoder's levels 8, 16 and 32.

    Raises:
        ConformanceError: the encoder lacks one of the strides 8, 16, 32.
        UsageError: the frame is no multiple of 32.
    """
    from benchmark.heads.networks.yolov3 import YoloV3

    return YoloV3(request)
