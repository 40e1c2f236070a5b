"""What a test split gives away by itself: scores that need no model, against which a row is read.

Dice only: an empty prediction scores 0 at detection, which needs no line. Nothing here is trained, and nothing here is a competitor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.metrics.dice import MaskSlices
from benchmark.metrics.grid_oracle import grid_oracle

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
        anchors[f"grid oracle {grid} x {grid}"] = _named(grid_oracle(masks, grid), class_names)
    return anchors


def all_positive(masks: MaskSlices, chunk: int = 16) -> np.ndarray:
    """(C,) micro Dice of calling every pixel of every image foreground: 2 P / (P + all pixels). 0 for a class without positive pixels."""
    n_images, n_classes, height, width = masks.shape
    n_true = np.zeros(n_classes, np.int64)
    for start in range(0, n_images, chunk):
        for image in masks[start : start + chunk]:
            n_true += np.array([np.count_nonzero(of_class) for of_class in image])
    dice: np.ndarray = 2 * n_true / np.maximum(n_true + n_images * height * width, 1)
    return dice


def _named(per_class: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    by_class = {f"{name}_dice": float(value) for name, value in zip(class_names, per_class, strict=True)}
    return {**by_class, "avg_dice": float(per_class.mean())}
