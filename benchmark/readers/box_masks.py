"""Masks made of filled boxes, rounded as LoVT's conversion did. Their score is box-mask Dice, never segmentation accuracy."""

from __future__ import annotations

import numpy as np


def box_masks(boxes_xywh: np.ndarray, labels: np.ndarray, n_classes: int, shape: tuple[int, int]) -> np.ndarray:
    """Union of filled boxes, one channel per class.

    A box fills rows round(y) .. round(y + h) and columns round(x) .. round(x + w), ends excluded, halves rounded to even as Python and
    NumPy do. What lies outside the image is cut.

    Args:
        boxes_xywh: (n, 4) float, top-left corner, width, height in pixels.
        labels: (n,) int class index in [0, n_classes).
        n_classes: channels of the result.
        shape: (H, W) of the image.

    Returns:
        (n_classes, H, W) bool.

    Source: LoVT's conversion (docs/sources.md, LoVT).
    """
    height, width = shape
    masks = np.zeros((n_classes, height, width), dtype=bool)
    for (left, top, right, bottom), label in zip(_pixel_edges(boxes_xywh, shape), labels, strict=True):
        masks[label, top:bottom, left:right] = True
    return masks


def _pixel_edges(boxes_xywh: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(n, 4) int64 left, top, right, bottom; clipped, because a negative index would wrap around to the far side."""
    boxes = np.asarray(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    corners = np.rint(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)).astype(np.int64)
    height, width = shape
    return corners.clip(0, [width, height, width, height])
