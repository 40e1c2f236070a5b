"""Boxes in pixels: their two spellings, whether they lie in their image, and masks made of them.

Masks are filled boxes, rounded as LoVT's conversion did. Their score is box-mask Dice, never segmentation accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmark.errors import DataError, ImageError


def xywh_of(corners_xyxy: np.ndarray) -> np.ndarray:
    """(n, 4) left, top, width, height of (n, 4) left, top, right, bottom."""
    return np.concatenate([corners_xyxy[:, :2], corners_xyxy[:, 2:] - corners_xyxy[:, :2]], axis=1)


def xyxy_of(boxes_xywh: np.ndarray) -> np.ndarray:
    """(n, 4) left, top, right, bottom of (n, 4) left, top, width, height."""
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def numbers_of(cells: Sequence[str], names: str, where: str) -> tuple[float, ...]:
    """The finite numbers of a box's cells. Raises DataError where one is none, with the names of the columns.

    Args:
        where: dataset, file and line.
    """
    try:
        numbers = tuple(float(cell) for cell in cells)
    except ValueError:
        raise DataError(f"{where}: {names} are {', '.join(cells)}; expected four numbers.") from None
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"{where}: {names} are {', '.join(cells)}; expected four finite numbers.")
    return numbers


def require_box(box_xywh: tuple[float, ...], side: int, where: str) -> None:
    """Raises DataError unless the box has an area and lies in a square image of `side` pixels.

    Args:
        where: dataset, file and line.
    """
    x, y, width, height = box_xywh
    if not all(map(math.isfinite, box_xywh)) or min(width, height) <= 0:
        raise DataError(f"{where}: box {x:g}, {y:g}, {width:g}, {height:g} has no area.")
    if min(x, y) < 0 or max(x + width, y + height) > side:
        raise DataError(
            f"{where}: the box leaves the image (x {x:g} to {x + width:g}, y {y:g} to {y + height:g}, image 0 to {side:,}). "
            "The original release has no such box: is this an edited copy?"
        )


def require_size(shape: tuple[int, ...], expected: tuple[int, int], where: str, what: str = "image", of: str = "boxes") -> None:
    """Raises ImageError unless an image or a mask has the rows and columns that labels are drawn on.

    Args:
        where: file and id, or what else finds the image for those who hold it.
        what: has the shape.
        of: labels that belong to the expected size.
    """
    if tuple(shape) != expected:
        raise ImageError(
            f"{where}: the {what} has {shape[0]:,} rows x {shape[1]:,} columns, and {of} are in pixels of {expected[0]} x {expected[1]}. "
            "Is this a resized copy? LOBE needs the original size."
        )


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

    Source: LoVT's released conversion (docs/splits.md).
    """
    height, width = shape
    masks = np.zeros((n_classes, height, width), dtype=bool)
    for (left, top, right, bottom), label in zip(_pixel_edges(boxes_xywh, shape), labels, strict=True):
        masks[label, top:bottom, left:right] = True
    return masks


def _pixel_edges(boxes_xywh: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(n, 4) int64 left, top, right, bottom; clipped, because a negative index would wrap around to the far side."""
    boxes = np.asarray(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    corners = np.rint(xyxy_of(boxes)).astype(np.int64)
    height, width = shape
    return corners.clip(0, [width, height, width, height])
