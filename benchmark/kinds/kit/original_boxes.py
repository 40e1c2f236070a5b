"""Boxes in the pixels of the original images: mapped back from the frame, beside a truth that never was in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmark.imaging.geometry import Frame
from benchmark.imaging.originals import FRAME
from benchmark.kinds.base import Part
from benchmark.metrics.boxes import Boxes, Detections


def as_scored(found: Detections, part: Part) -> tuple[Detections, Boxes]:
    """Detections of the frame, and the truth, in the pixels that the part is scored in."""
    if part.originals is None:
        return found, part.truth()
    return mapped_back(found, part.originals.frames), part.originals.truth(part.labels)


def mapped_back(found: Detections, frames: Sequence[Frame]) -> Detections:
    """Boxes of a frame in pixels of the original images, not cut at their edges; one that overflowed stays without end."""
    xywh, order = np.array(found.xywh, np.float64), np.argsort(found.image, kind="stable")
    ends = np.cumsum(np.bincount(found.image, minlength=len(frames)))
    for frame, mine in zip(frames, np.split(order, ends[:-1]), strict=True):
        xywh[mine] = frame.to_original(xywh[mine])
    return replace(found, xywh=xywh, frame=FRAME)
