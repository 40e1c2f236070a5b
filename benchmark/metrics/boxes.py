"""Boxes of a whole split as flat arrays: the one shape every detection metric reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.errors import FrameMismatch


@dataclass(frozen=True)
class Boxes:
    """Ground-truth boxes of all images of a split.

    Attributes:
        image: (n,) int64, index of the image in the split's order, 0 <= image < n_images.
        xywh: (n, 4) float64, top-left corner, width, height, in pixels of `frame`.
        label: (n,) int64 class index.
        n_images: images in the split, those without boxes included.
        frame: name of the coordinate frame, for example "padded-224" or "original".
    """

    image: np.ndarray
    xywh: np.ndarray
    label: np.ndarray
    n_images: int
    frame: str


@dataclass(frozen=True)
class Detections(Boxes):
    """Predicted boxes after NMS; order within an image is the order the head returned.

    A side whose logarithm was predicted may overflow. Such a box stays in the list: it matches nothing, and counts as a false positive.

    Attributes:
        confidence: (n,) float64 in [0, 1].
    """

    confidence: np.ndarray

    @property
    def overflowed(self) -> np.ndarray:
        """(n,) bool, boxes with a coordinate that is infinite or no number."""
        bounded: np.ndarray = np.isfinite(np.asarray(self.xywh, np.float64).reshape(-1, 4))
        return np.asarray(~bounded.all(axis=1))


def require_same_frame(detections: Detections, truth: Boxes) -> None:
    """Raises FrameMismatch when the two differ in frame or number of images."""
    if detections.frame != truth.frame:
        raise FrameMismatch(f"Detections are in frame {detections.frame!r}, ground truth in {truth.frame!r}; map one to the other first.")
    if detections.n_images != truth.n_images:
        raise FrameMismatch(f"Detections cover {detections.n_images} images, ground truth {truth.n_images}.")
