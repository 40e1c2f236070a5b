"""Shapes written as numbers in one text field, as Object-CXR has them: rectangles, ellipses and polygons, their boxes and masks.

`true` is the geometry that was annotated; `released` is what LoVT's conversion made of it, for tables that stand beside the paper's
(docs/protocols/lovt.md, quirk 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
import skimage.draw

from benchmark.errors import DataError
from benchmark.readers.kit.boxes import xywh_of


class ShapeKind(IntEnum):
    """First number of an annotation."""

    RECTANGLE = 0
    ELLIPSE = 1
    POLYGON = 2


@dataclass(frozen=True)
class Shape:
    """One annotated object.

    Attributes:
        points: (n, 2) int64, x and y in pixels of the original image: top-left and bottom-right corner, or the polygon's corners.
    """

    kind: ShapeKind
    points: np.ndarray

    @property
    def xyxy(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the tight box."""
        (left, top), (right, bottom) = self.points.min(axis=0).tolist(), self.points.max(axis=0).tolist()
        return left, top, right, bottom


def parse_annotation(text: str, where: str = "annotation") -> tuple[Shape, ...]:
    """The objects of one image: `kind x1 y1 x2 y2 ...`, objects joined by semicolons; nothing for an image without objects.

    Raises:
        DataError: an unknown kind, a number that is no integer, a wrong count of numbers, corners in the wrong order, an empty shape.

    Source: docs/sources.md, Object-CXR.
    """
    return tuple(_shape(written, f"{where}, object {k}") for k, written in enumerate(text.split(";"), start=1)) if text.strip() else ()


def true_boxes(shapes: Sequence[Shape]) -> np.ndarray:
    """Tight boxes, (n, 4) float64 x, y, width, height."""
    corners = np.array([s.xyxy for s in shapes], dtype=np.float64).reshape(-1, 4)
    return xywh_of(corners)


def released_boxes(shapes: Sequence[Shape]) -> np.ndarray:
    """LoVT's boxes: x1, y1, y2 - y1, x2 - x1 standing where x, y, width, height are read. (n, 4) float64."""
    return true_boxes(shapes)[:, [0, 1, 3, 2]]


def true_masks(shapes: Sequence[Shape], shape: tuple[int, int]) -> np.ndarray:
    """Filled rectangles (ends excluded), ellipses inscribed in their box, and filled polygons; what leaves the image is cut.

    Returns:
        (1, H, W) bool.
    """
    canvas = np.zeros(shape, dtype=np.uint8)
    for item in shapes:
        left, top, right, bottom = item.xyxy
        if item.kind is ShapeKind.RECTANGLE:
            canvas[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
        elif item.kind is ShapeKind.ELLIPSE:
            # Pixel i covers [i, i + 1) as in the rectangles, so its centre lies half a pixel further on.
            centre = ((top + bottom - 1) / 2, (left + right - 1) / 2)
            canvas[skimage.draw.ellipse(*centre, (bottom - top) / 2, (right - left) / 2, shape=shape)] = 1
        else:
            cv2.fillPoly(canvas, [item.points.astype(np.int32)], 1)
    return canvas.astype(bool)[None]


def released_masks(shapes: Sequence[Shape], shape: tuple[int, int]) -> np.ndarray:
    """LoVT's masks: ellipses as their rectangle, polygons with x and y exchanged. (1, H, W) bool.

    A rectangle that starts left of or above the image fills nothing or a piece at the far side: negative numbers are indexed from the end
    there, as in the released code.
    """
    canvas = np.zeros(shape, dtype=np.uint8)
    for item in shapes:
        left, top, right, bottom = item.xyxy
        if item.kind is ShapeKind.POLYGON:
            cv2.fillPoly(canvas, [np.ascontiguousarray(item.points[:, ::-1], dtype=np.int32)], 1)
        else:
            canvas[top:bottom, left:right] = 1
    return canvas.astype(bool)[None]


def _shape(text: str, where: str) -> Shape:
    try:
        code, *numbers = (int(token) for token in text.split())
    except ValueError:
        raise DataError(f"{where}: {text.strip()[:40]!r} is not a list of whole numbers `kind x1 y1 x2 y2 ...`.") from None
    if code not in tuple(ShapeKind):
        raise DataError(f"{where}: kind {code}; expected 0 (rectangle), 1 (ellipse) or 2 (polygon).")
    kind = ShapeKind(code)
    if kind is ShapeKind.POLYGON:
        if len(numbers) < 6 or len(numbers) % 2:
            raise DataError(f"{where}: a polygon of {len(numbers)} numbers; expected at least three x y pairs.")
    elif len(numbers) != 4:
        raise DataError(f"{where}: {kind.name.lower()} with {len(numbers)} numbers; expected x1 y1 x2 y2.")
    shape = Shape(kind, np.array(numbers, dtype=np.int64).reshape(-1, 2))
    if kind is not ShapeKind.POLYGON and not (shape.points[0] < shape.points[1]).all():
        raise DataError(f"{where}: corners {tuple(numbers)} are not x1 < x2 and y1 < y2.")
    left, top, right, bottom = shape.xyxy
    if right == left or bottom == top:
        raise DataError(f"{where}: the polygon has no area (x {left} to {right}, y {top} to {bottom}).")
    return shape
