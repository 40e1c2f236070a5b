"""LoVT's YOLOv3: mmdet's network with LoVT's targets, loss, decoding and suppression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts, HeadSize
from benchmark.heads._sizes import YOLO_STRIDES, YOLO_WIDTHS, Tally

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

LIBRARY_BYTES = 30 * 2**20  # the parts of mmdet, mmcv and mmengine that a head loads

FACTS = HeadFacts(
    title="YOLOv3",
    target="boxes",
    smoke_steps=40,
    step_s=0.1,
    library_bytes=LIBRARY_BYTES,
    reads=(8, 16, 32),
    later_switches=frozenset({"loss_at_extremes"}),
)


def build(request: HeadRequest) -> Head:
    """Neck and head for the encoder's levels 8, 16 and 32.

    Raises:
        ConformanceError: the encoder lacks one of the strides 8, 16, 32.
        UsageError: the frame is no multiple of 32.
    """
    from benchmark.heads.networks.yolov3 import YoloV3

    return YoloV3(request)


def size(channels: Mapping[int, int], n_classes: int, frame_size: int) -> HeadSize:
    """What it holds; arguments as of `HeadRequest`."""
    tally, last = Tally(YOLO_STRIDES, channels, frame_size), 0
    tally.kept = channels[YOLO_STRIDES[-1]] * (frame_size // YOLO_STRIDES[-1]) ** 2  # the finer levels are copied beside a map
    for stride, width in zip(reversed(YOLO_STRIDES), YOLO_WIDTHS, strict=True):
        side = frame_size // stride
        if last:  # a map of half the side is brought up beside the encoder's
            last = tally.joined(tally.recomputed(last, width, side // 2, 1) + channels[stride], side)
        else:
            last = channels[stride]
        for kernel, outgoing in ((1, width), (3, 2 * width), (1, width), (3, 2 * width), (1, width), (3, 2 * width)):
            last = tally.recomputed(last, outgoing, side, kernel)
        tally.layer(last, 3 * (5 + n_classes), side)
        last = width  # the last block belongs to the predictions
    return tally.size
