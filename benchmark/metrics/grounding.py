"""How well a similarity map points at the boxes of a phrase: contrast, overlap and peak, in original pixels.

Maps arrive upsampled to the original image with padding cut off (`Frame` knows how); the truth is the union of the phrase's boxes.
Source: docs/classification.md, Phrases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import TrainingError, UsageError

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
COLUMNS = ("cnr", "cnr_abs", "miou", "pointing", "centre_cnr", "centre_pointing")  # what a task keeps of a phrase
CENTRE_SPREAD = 0.25  # standard deviation of the centre prior, as a share of each side


@dataclass(frozen=True)
class Grounded:
    """One phrase on one image; NaN where a value has no meaning.

    Attributes:
        cnr: (mean inside - mean outside) / sqrt(variance inside + variance outside), 0 for a constant map.
        cnr_abs: its absolute value, as some papers report; a column of its own.
        miou: mean over thresholds 0.1 to 0.5 of the IoU of {similarity > threshold} with the boxes.
        iou: the IoU at each threshold.
        pointing: share of the map's highest pixels that lie inside: 1 or 0 unless the maximum is tied.
    """

    cnr: float
    cnr_abs: float
    miou: float
    iou: tuple[float, ...]
    pointing: float


def union_of_boxes(boxes_xywh: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool union of boxes in original pixels, edges rounded to whole pixels, parts outside the image cut off."""
    height, width = shape
    union = np.zeros(shape, bool)
    for x, y, w, h in np.asarray(boxes_xywh, np.float64).reshape(-1, 4):
        left, top, right, bottom = round(x), round(y), round(x + w), round(y + h)
        union[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)] = True
    return union


def ground(similarity: np.ndarray, inside: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> Grounded:
    """Scores one map.

    Args:
        similarity: (H, W) float, the raw cosine in [-1, 1]; no rescaling, because thresholds are absolute.
        inside: (H, W) bool, the union of the phrase's boxes.

    Returns:
        All values; CNR is NaN when the boxes cover the whole image.

    Raises:
        UsageError: shapes differ, or no pixel lies in a box.
        TrainingError: the map is not finite.
    """
    similarity = np.asarray(similarity, np.float64)
    if similarity.shape != inside.shape or similarity.ndim != 2:
        raise UsageError(f"A map of shape {similarity.shape} cannot be compared with boxes on {inside.shape}.")
    if not inside.any():
        raise UsageError("No pixel of the image lies in a box of the phrase: are the boxes those of another size of the image?")
    if not np.isfinite(similarity).all():
        raise TrainingError(f"{np.count_nonzero(~np.isfinite(similarity)):,} pixels of a similarity map are not finite.")
    cnr = contrast_to_noise(similarity, inside)
    iou = tuple(_iou(similarity > threshold, inside) for threshold in thresholds)
    peak = similarity == similarity.max()
    return Grounded(cnr, abs(cnr), float(np.mean(iou)), iou, float(inside[peak].mean()))


def contrast_to_noise(similarity: np.ndarray, inside: np.ndarray) -> float:
    """CNR with population variances. A constant map has no contrast: 0. NaN when nothing lies outside, or for two flat levels."""
    if inside.all():
        return float("nan")
    if similarity.min() == similarity.max():
        return 0.0
    one, other = similarity[inside], similarity[~inside]
    contrast, noise = one.mean() - other.mean(), np.sqrt(one.var() + other.var())
    return float(contrast / noise) if noise > 0 else float("nan")


def centre_prior(shape: tuple[int, int]) -> np.ndarray:
    """(H, W) float64 in (0, 1]: the baseline that always points at the middle, a Gaussian of a quarter of each side."""
    height, width = shape
    rows = (np.arange(height) + 0.5) / height - 0.5
    columns = (np.arange(width) + 0.5) / width - 0.5
    return np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * CENTRE_SPREAD**2))


def _iou(predicted: np.ndarray, inside: np.ndarray) -> float:
    return float((predicted & inside).sum() / (predicted | inside).sum())
