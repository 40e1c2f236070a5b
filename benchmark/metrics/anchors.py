"""What a test split gives away by itself: scores that need no model, against which a row is read.

Dice only: an empty prediction scores 0 at detection, which needs no line. Nothing here is trained, and nothing here is a competitor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.metrics.dice import MaskSlices
from benchmark.metrics.grid_oracle import Levels, grid_oracle, pooling_matrix, upsampling_matrix

ALL_POSITIVE = "all positive"


def dice_anchors(masks: MaskSlices, class_names: Sequence[str], grid: int | None) -> dict[str, dict[str, float]]:
    """Anchor -> metric -> fraction, for the micro Dice of each class (`<class>_dice`) and their mean (`avg_dice`).

    Args:
        masks: (N, C, S, S) bool, true masks of the test split; read a few images at a time.
        grid: cells per side of the feature map that alone decides a prediction; None for heads that also see finer maps.

    Raises:
        UsageError: masks are not square, or the grid is finer than the pixels.
    """
    anchors = {ALL_POSITIVE: _named(all_positive(masks), class_names)}
    if grid is not None:
        anchors[_oracle(grid)] = _named(grid_oracle(masks, grid), class_names)
    return anchors


@dataclass(frozen=True)
class TrueMasks:
    """True masks of one image.

    Attributes:
        in_frame: (C, S, S) bool, as heads learn from them.
        as_scored: (C, H, W) bool, in the image's own pixels.
        map_back: from an (S, S) float32 map of the frame to (H, W).
    """

    in_frame: np.ndarray
    as_scored: np.ndarray
    map_back: Callable[[np.ndarray], np.ndarray]


def dice_anchors_of_images(
    images: Iterable[TrueMasks], class_names: Sequence[str], grid: int | None, side: int
) -> dict[str, dict[str, float]]:
    """As `dice_anchors`, of predictions that are made in a frame and scored in the pixels of each image.

    The oracle's map goes the way of a prediction: averaged to the grid, upsampled to the frame, mapped back.

    Args:
        images: each asked for when the last is done with.
        grid: None for heads that also see finer maps: then the frame is what limits them.
        side: of the frame in pixels.
    """
    cells = grid or side
    down, up = pooling_matrix(side, cells), upsampling_matrix(cells, side)
    levels, n_true, n_pixels = Levels(len(class_names)), np.zeros(len(class_names), np.int64), 0
    for image in images:
        n_pixels += image.as_scored[0].size
        for label, inside in enumerate(image.as_scored):
            n_true[label] += np.count_nonzero(inside)
            if inside.any():
                share = up @ (down @ image.in_frame[label].astype(np.float32) @ down.T) @ up.T
                levels.add(label, image.map_back(share), inside)
    return {
        ALL_POSITIVE: all_positive_of_counts(n_true, n_pixels, class_names),
        _oracle(cells): _named(levels.best_dice(), class_names),
    }


def all_positive_of_counts(n_true: np.ndarray, n_pixels: int, class_names: Sequence[str]) -> dict[str, float]:
    """What `dice_anchors` says of calling everything foreground, from counts over all images.

    Args:
        n_true: (C,) positive pixels of each class.
        n_pixels: of all images together.
    """
    return _named(_everything(n_true, n_pixels), class_names)


def all_positive(masks: MaskSlices, chunk: int = 16) -> np.ndarray:
    """(C,) micro Dice of calling every pixel of every image foreground: 2 P / (P + all pixels). 0 for a class without positive pixels."""
    n_images, n_classes, height, width = masks.shape
    n_true = np.zeros(n_classes, np.int64)
    for start in range(0, n_images, chunk):
        for image in masks[start : start + chunk]:
            n_true += np.array([np.count_nonzero(of_class) for of_class in image])
    return _everything(n_true, n_images * height * width)


def _everything(n_true: np.ndarray, n_pixels: int) -> np.ndarray:
    dice: np.ndarray = 2 * n_true / np.maximum(n_true + n_pixels, 1)
    return dice


def _oracle(grid: int) -> str:
    return f"grid oracle {grid} x {grid}"


def _named(per_class: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    by_class = {f"{name}_dice": float(value) for name, value in zip(class_names, per_class, strict=True)}
    return {**by_class, "avg_dice": float(per_class.mean())}
