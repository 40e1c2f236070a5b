"""MGCA's YOLOv3: that of `yolov3` with other anchors, a trained class and a later suppression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.heads import yolov3
from benchmark.heads.yolov3 import size

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

__all__ = ["FACTS", "build", "size"]

FACTS = yolov3.FACTS.model_copy(update={"title": "YOLOv3 (MGCA)"})


def build(request: HeadRequest) -> Head:
    """Neck and head for the encoder's levels 8, 16 and 32.

    Raises:
        ConformanceError: the encoder lacks one of the strides 8, 16, 32.
        UsageError: the frame is no multiple of 32.
    """
    from benchmark.heads.networks.yolov3_mgca import MgcaYoloV3

    return MgcaYoloV3(request)
