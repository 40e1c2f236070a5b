"""The ceiling of a feature grid: what a linear head could score if its features knew the mask exactly.

A row's Dice is read against it: a coarse grid loses small findings by geometry alone. Nothing here is trained.
"""

from __future__ import annotations

import numpy as np

from benchmark.errors import UsageError
from benchmark.metrics.dice import MaskSlices

_LEVELS = 4096


def grid_oracle(masks: MaskSlices, grid: int, chunk: int = 16) -> np.ndarray:
    """(C,) micro Dice of masks averaged to a grid and upsampled again, at the best of 4,096 thresholds per class.

    Each cell holds the share of its area inside the mask (cells of a grid that does not divide the side share pixels by area); the map is
    upsampled bilinearly (`align_corners=False`), as the linear head upsamples its logits. It is an oracle by construction, not a bound:
    free logits per cell could do slightly better. 0 for a class without positive pixels.

    Args:
        masks: (N, C, S, S) bool, read `chunk` images at a time.
        grid: cells per side, for example 7 for a stride-32 map of a 224-px frame.

    Raises:
        UsageError: masks are not square, or the grid is finer than the pixels.
    """
    n_images, n_classes, side, width = masks.shape
    if side != width or not 1 <= grid <= side:
        raise UsageError(f"A grid of {grid} x {grid} cells needs square masks of at least that size; these are {side} x {width}.")
    down, up = pooling_matrix(side, grid), upsampling_matrix(grid, side)
    levels = Levels(n_classes)
    for start in range(0, n_images, chunk):
        part = np.asarray(masks[start : start + chunk], dtype=bool)
        for label in range(n_classes):
            inside = part[:, label]
            # Images without the class upsample to zero, which no useful threshold counts.
            inside = inside[inside.any(axis=(1, 2))]
            levels.add(label, up @ (down @ inside.astype(np.float32) @ down.T) @ up.T, inside)
    return levels.best_dice()


class Levels:
    """Pixels inside and outside of true masks, by the level of an oracle's map."""

    def __init__(self, n_classes: int):
        self._counts = np.zeros((2, n_classes, _LEVELS), np.int64)  # outside, inside

    def add(self, label: int, share: np.ndarray, inside: np.ndarray) -> None:
        """Counts pixels of a class: float32 share in [0, 1], and bool whether they lie inside; of one shape."""
        level = np.minimum((share * _LEVELS).astype(np.int32), _LEVELS - 1)
        self._counts[1, label] += np.bincount(level[inside], minlength=_LEVELS)
        self._counts[0, label] += np.bincount(level[~inside], minlength=_LEVELS)

    def best_dice(self) -> np.ndarray:
        """(C,) micro Dice at the best threshold of each class."""
        # Foreground from some level upwards; level 0 alone is never foreground.
        fp, tp = np.cumsum(self._counts[:, :, :0:-1], axis=2)
        n_true = self._counts[1].sum(axis=1, keepdims=True)
        found: np.ndarray = (2 * tp / np.maximum(tp + fp + n_true, 1)).max(axis=1)
        return found


def pooling_matrix(side: int, grid: int) -> np.ndarray:
    """(grid, side) float32: row k averages the pixels of cell k by the area they share."""
    edges = np.arange(grid + 1) * side / grid
    pixel = np.arange(side)
    shared = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    matrix: np.ndarray = (np.maximum(shared, 0) * grid / side).astype(np.float32)
    return matrix


def upsampling_matrix(grid: int, side: int) -> np.ndarray:
    """(side, grid) float32: bilinear interpolation between cell centres, constant beyond the outer ones (`align_corners=False`)."""
    position = np.clip((np.arange(side) + 0.5) * grid / side - 0.5, 0, grid - 1)
    matrix: np.ndarray = np.maximum(1 - np.abs(position[:, None] - np.arange(grid)), 0).astype(np.float32)
    return matrix
