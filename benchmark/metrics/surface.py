"""Normalised surface distance: which share of two outlines lies within a tolerance of each other.

Only for true masks: the outline of a filled box is an artefact of annotation. Overlap by area lives in `dice`.

Formulas:
    nsd: (|{p ∈ ∂P : d(p, ∂T) ≤ τ}| + |{t ∈ ∂T : d(t, ∂P) ≤ τ}|) / (|∂P| + |∂T|); outlines ∂P of the prediction and ∂T of the mask, distance
        d in pixels, τ = 2; mean over images and classes with ground truth
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage

from benchmark.metrics.spec import MetricSpec

# Pixels of the frame: 2 of 224 are about 3 mm on a chest 35 cm wide. Fixed, so that values are comparable between backbones.
TOLERANCE_PX = 2.0


@dataclass(frozen=True)
class Surfaces:
    """Normalised surface distance of every (image, class) with ground truth: image, label (n,) int64; nsd (n,) float64 in [0, 1]."""

    image: np.ndarray
    label: np.ndarray
    nsd: np.ndarray


def surface_distances(predicted: np.ndarray, masks: np.ndarray, first_image: int = 0, tolerance_px: float = TOLERANCE_PX) -> Surfaces:
    """Evaluates every (image, class) of (n, C, H, W) bool masks that has ground truth; an empty prediction scores 0."""
    cells = np.argwhere(masks.any(axis=(2, 3)))
    values = [normalised_surface_distance(predicted[i, c], masks[i, c], tolerance_px) for i, c in cells]
    return Surfaces(first_image + cells[:, 0], cells[:, 1], np.array(values, np.float64))


def join(chunks: list[Surfaces]) -> Surfaces:
    """Values of consecutive chunks as one split."""
    return Surfaces(*(np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("image", "label", "nsd")))


def mean_nsd(surfaces: Surfaces, weights: np.ndarray | None = None) -> float | None:
    """Mean over the (image, class) with ground truth; None without any. `weights`: (n_images,) copies of each image in a resample."""
    weight = np.ones(len(surfaces.image)) if weights is None else np.asarray(weights, np.float64)[surfaces.image]
    return float((weight * surfaces.nsd).sum() / weight.sum()) if weight.any() else None


def normalised_surface_distance(predicted: np.ndarray, mask: np.ndarray, tolerance_px: float = TOLERANCE_PX) -> float:
    """Share of the outline pixels of both (H, W) bool masks that lie within `tolerance_px` of the other outline, in [0, 1].

    The outline is every mask pixel with an edge neighbour outside the mask; beyond the image is outside. Distances are Euclidean between
    pixel centres. One of two masks empty: 0; both empty: 1.

    Source: Nikolov et al., arXiv 1809.04430 (surface Dice), on pixels instead of surface elements.
    """
    either = predicted | mask
    if not either.any():
        return 1.0
    here = ndimage.find_objects(either.astype(np.uint8))[0]
    outlines = [_outline(np.pad(m[here], 1)) for m in (predicted, mask)]
    if not (outlines[0].any() and outlines[1].any()):
        return 0.0
    close = sum(
        np.count_nonzero(ndimage.distance_transform_edt(~there)[outline] <= tolerance_px) for outline, there in (outlines, outlines[::-1])
    )
    return float(close / sum(np.count_nonzero(outline) for outline in outlines))


def _outline(mask: np.ndarray) -> np.ndarray:
    outline: np.ndarray = mask & ~ndimage.binary_erosion(mask)
    return outline


METRICS = (
    MetricSpec(
        name="nsd",
        title="normalised surface distance",
        target="masks",
        needs=("surfaces",),
        compute=lambda masks: partial(mean_nsd, masks.surfaces),
        undefined="no image has a positive pixel",
    ),
)
