"""Faster R-CNN with a feature pyramid, in mmdet's configuration `faster-rcnn_r50_fpn`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts
from benchmark.heads.yolov3 import LIBRARY_BYTES

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

FACTS = HeadFacts(
    title="Faster R-CNN",
    target="boxes",
    smoke_steps=10,
    step_s=1.8,
    memory_bytes=4 * 2**30,
    library_bytes=LIBRARY_BYTES,
    reads=(4, 8, 16, 32),
)


def build(request: HeadRequest) -> Head:
    """Neck, proposals and box head for the encoder's levels 4 to 32.

    Raises:
        ConformanceError: the encoder lacks one of the strides 4, 8, 16, 32.
        UsageError: the frame is no multiple of 32.
    """
    from benchmark.heads.networks.faster_rcnn import FasterRcnn

    return FasterRcnn(request)
