"""Lesions found: sensitivity per connected piece of ground truth, by size third.

Pooled pixels hide small findings; here every lesion counts once. False positives play no part, so read it beside `dice.precision`.

Formulas:
    lesion_sensitivity_{size}: n_hit / n; of the n lesions of a third by area those with at least half of their pixels predicted
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from benchmark.metrics.spec import MetricSpec

SIZES = ("small", "medium", "large")
HIT_COVERAGE = 0.5
_EIGHT_NEIGHBOURS = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Lesions:
    """Ground-truth lesions of a split: image, label, area and covered pixels, each (n,) int64."""

    image: np.ndarray
    label: np.ndarray
    area: np.ndarray
    covered: np.ndarray

    @property
    def hit(self) -> np.ndarray:
        """(n,) bool: at least half of the lesion's pixels are predicted."""
        return self.covered >= HIT_COVERAGE * self.area


def find_lesions(predicted: np.ndarray, masks: np.ndarray, first_image: int = 0) -> Lesions:
    """Lesions of (n, C, H, W) bool masks, and how much of each the prediction covers.

    A lesion is a set of ground-truth pixels of one class connected by edges or corners. Overlapping boxes drawn as masks are one lesion.

    Args:
        first_image: index in the split of the chunk's first image.
    """
    rows: list[np.ndarray] = []
    for image, label in np.argwhere(masks.any(axis=(2, 3))):
        here = ndimage.find_objects(masks[image, label].astype(np.uint8))[0]
        pieces, n = ndimage.label(masks[image, label][here], structure=_EIGHT_NEIGHBOURS)
        area = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
        covered = np.bincount(pieces[predicted[image, label][here]], minlength=n + 1)[1:]
        rows.append(np.stack([np.full(n, first_image + image), np.full(n, label), area, covered]))
    table = np.concatenate(rows, axis=1).astype(np.int64) if rows else np.zeros((4, 0), np.int64)
    return Lesions(*table)


def join(chunks: list[Lesions]) -> Lesions:
    """Lesions of consecutive chunks as one split."""
    return Lesions(*(np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("image", "label", "area", "covered")))


def size_third(lesions: Lesions) -> np.ndarray:
    """(n,) int64, 0 small to 2 large: thirds of the areas of all lesions of the split, edges belonging to the smaller third.

    It follows from the ground truth alone, so it is the same for every backbone. Many equal areas can leave a third empty.
    """
    n = len(lesions.area)
    if n == 0:
        return np.zeros(0, np.int64)
    # The smallest area that a third, or two, of the lesions do not exceed; in integers, so that counting every lesion twice moves nothing.
    edges = np.sort(lesions.area)[[(n + 2) // 3 - 1, (2 * n + 2) // 3 - 1]]
    return np.searchsorted(edges, lesions.area, side="left")


def lesion_sensitivity(lesions: Lesions, weights: np.ndarray | None = None) -> dict[str, float | None]:
    """Share of lesions hit in each size third; None for an empty third.

    Args:
        weights: (n_images,) how often each image stands in a resample. The thirds stay those of the whole split.
    """
    weight = np.ones(len(lesions.image)) if weights is None else np.asarray(weights, np.float64)[lesions.image]
    third = size_third(lesions)
    total = np.bincount(third, weights=weight, minlength=3)
    found = np.bincount(third, weights=weight * lesions.hit, minlength=3)
    return {name: float(f / t) if t else None for name, f, t in zip(SIZES, found, total, strict=True)}


METRICS = (
    MetricSpec(
        name="lesion_sensitivity_{size}",
        title="lesions found, {size} third",
        target="masks",
        values=dict(zip(SIZES, ("smallest", "middle", "largest"), strict=True)),
        needs=("lesions",),
        compute=lambda masks, size: lambda weights=None: lesion_sensitivity(masks.lesions, weights)[size],
        undefined="no lesion falls into the {size} third",
    ),
)
