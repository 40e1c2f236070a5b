"""Tells boxes that are not x, y, width, height in pixels of the frame: each of these mistakes gives a plausible, wrong score."""

from __future__ import annotations

import numpy as np

from benchmark.metrics.boxes import Detections

ROUNDING = 1.0  # pixels by which a box may leave the frame and be taken for a rounded one
SHARE_REPEATED, LEAST_REPEATED = 0.01, 10  # identical boxes that are taken for chance, of all boxes and in number


def wrong_units(found: Detections, side: int) -> str | None:
    """Why these cannot be boxes of a frame, in a sentence; None when they can.

    The released YOLOv3 does not clip its boxes, so edges may lie outside; a box's centre never does.

    Args:
        found: boxes xywh, said to be in pixels of the frame. Boxes that overflowed are passed over.
        side: of the square frame, pixels.
    """
    finite = np.isfinite(found.xywh).all(axis=1)
    xywh, n = found.xywh[finite], int(finite.sum())
    if n == 0:
        return None
    low, size = xywh[:, :2], xywh[:, 2:]
    if (size < 0).any():
        return f"{int((size < 0).any(axis=1).sum()):,} of {n:,} boxes have a negative width or height"
    if ((found.confidence < 0) | (found.confidence > 1)).any():
        return "a score lies outside [0, 1]"
    if (xywh >= 0).all() and (low + size).max() <= 1:
        return f"all {n:,} boxes lie in the first of {side} pixels, as if they were shares of the frame"
    inside = (xywh >= 0).all() and xywh.max() <= side + ROUNDING
    if inside and (size > low).all() and (low + size).max() > side + ROUNDING:
        return f"all {n:,} boxes are wider than their x and higher than their y, and some leave the frame, as corners x1, y1, x2, y2 do"
    centre = low + size / 2
    # A huge box has lost the digits of its centre to rounding.
    slack = ROUNDING + 1e-5 * size
    outside = ((centre < -slack) | (centre > side + slack)).any(axis=1)
    if outside.any():
        return (
            f"the centres of {int(outside.sum()):,} of {n:,} boxes lie outside the frame of {side} pixels, as in original pixels or corners"
        )
    rows = np.column_stack([found.image[finite], found.label[finite], xywh])
    repeated = n - len(np.unique(rows, axis=0))
    if repeated > max(LEAST_REPEATED, SHARE_REPEATED * n):
        return f"{repeated:,} of {n:,} boxes repeat another one of their image exactly; each counts as a false positive"
    return None
