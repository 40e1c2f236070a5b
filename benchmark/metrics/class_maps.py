"""A classifier's maps as segmentations: how they overlap with masks and where they point, as CheXlocalize scores a saliency method.

A map is stretched to 0..1 within its image and cut at its finding's threshold. It is left empty where the image's probability of the
finding is not above the finding's cutoff. Threshold and cutoff are chosen for each finding on validation images, and nowhere else.
Source: the authors' code (docs/sources.md, CheXlocalize); which choices are LOBE's: docs/classification.md, Maps of a classifier.

Formulas:
    mask_iou, {class}_mask_iou: |F ∩ T| / |F ∪ T|; mask T of the finding; F = {s > θ} where the image's probability p > c, else empty, so
        that the value is 0; s is the map stretched to 0 … 1; mean over images with the finding
    mask_iou_official, {class}_mask_iou_official: |F ∩ T| / |F ∪ T|; mean over images with the finding in which F is not empty
    mask_iou_full: |F ∩ T| / |F ∪ T|; mean over images with the finding, and those without it in which F is not empty
    mean_mask_iou, mean_mask_iou_official, mean_pointing: (1 / C) Σ_c v_c; value v_c of each of the C findings
    pointing, {class}_pointing: |M ∩ T| / |M|; M are the pixels of the highest s
    centre_pointing: |M ∩ T| / |M|; M are the one to four pixels in the middle of the image
    {class}_threshold, {class}_cutoff: θ, c; of the highest mean over validation images
    auroc: P(p_1 > p_0) + ½ P(p_1 = p_0); probabilities p_1 and p_0 of an image with and one without the finding, mean over findings
    negative_loss: -L; mean loss L of the head over the validation images
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmark.errors import TrainingError, UsageError
from benchmark.metrics.spec import SEVERAL_CLASSES, VALIDATION_LOSS, MetricSpec

TARGET = "labels-to-masks"  # learned from labels, scored against masks
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # tune_heatmap_threshold.py; numpy.arange(0.2, 0.8, 0.1) has 0.8 too
CUTOFFS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # tune_probability_threshold.py
UNTUNED = (0.5, 0.0)  # threshold and cutoff of a finding that no validation image has

COLUMNS = ("mask_iou", "mask_iou_official", "mask_iou_full", "pointing", "centre_pointing")  # kept of an image and a finding
OF_CLASSES = ("mask_iou", "mask_iou_official", "pointing")  # of these also for each finding, and as the mean of the findings


class Cut(NamedTuple):
    """Where a finding's maps are cut: above `threshold` of the stretched map, in images whose probability is above `cutoff`."""

    threshold: float
    cutoff: float


def stretched(values: np.ndarray) -> np.ndarray | None:
    """(H, W) float32 from 0 to 1; None for a map of one level, which finds nothing.

    Raises:
        TrainingError: the map is not finite.
    """
    if not np.isfinite(values).all():
        raise TrainingError(f"{np.count_nonzero(~np.isfinite(values)):,} pixels of a class's map are not finite.")
    low, high = float(values.min()), float(values.max())
    return None if not high > low else ((values - low) / (high - low)).astype(np.float32)


def overlaps(values: np.ndarray, inside: np.ndarray, thresholds: tuple[float, ...] = THRESHOLDS) -> np.ndarray:
    """(T,) IoU of a map, cut at each threshold, with a mask that is not empty; 0 for a map of one level.

    Args:
        values: (H, W) float.
        inside: (H, W) bool.

    Raises:
        UsageError: shapes differ, or the mask is empty.
    """
    if values.shape != inside.shape or not inside.any():
        raise UsageError(f"A map of shape {values.shape} is compared with a mask that is not empty, here of shape {inside.shape}.")
    whole = stretched(values)
    if whole is None:
        return np.zeros(len(thresholds))
    found = [whole > threshold for threshold in thresholds]
    return np.array([np.count_nonzero(one & inside) / np.count_nonzero(one | inside) for one in found])


def chosen(overlap: np.ndarray, confidence: np.ndarray) -> Cut | None:
    """Threshold and cutoff of one finding; None where no image has it. The first of equals wins.

    The threshold has the highest mean IoU over images with the finding. The cutoff then has the highest mean over images where something is
    found or to be found: what is found where nothing is counts 0.

    Args:
        overlap: (N, T) IoU of each validation image at each of `THRESHOLDS`; NaN where the finding is not there.
        confidence: (N,) probability of the finding; 0 where the map has one level.
    """
    there = ~np.isnan(overlap[:, 0])
    if not there.any():
        return None
    best = int(overlap[there].mean(axis=0).argmax())
    shown = confidence[:, None] > np.array(CUTOFFS)
    found = np.where(there, overlap[:, best], 0)[:, None] * shown
    counted = np.count_nonzero(there[:, None] | shown, axis=0)
    return Cut(THRESHOLDS[best], CUTOFFS[int((found.sum(axis=0) / counted).argmax())])


def located(values: np.ndarray, inside: np.ndarray, cut: Cut, probability: float) -> np.ndarray:
    """(5,) values of `COLUMNS` for an image that has the finding.

    Where nothing is predicted the IoU is 0, and the authors' slice leaves the image out (NaN). Pointing looks at the map alone, cut or not.

    Args:
        values: (H, W) float map in original pixels.
        inside: (H, W) bool, not empty.
        probability: of the finding in the image.
    """
    shown = probability > cut.cutoff and float(values.max()) > float(values.min())
    overlap = float(overlaps(values, inside, (cut.threshold,))[0]) if shown else 0.0
    pointing = float(inside[values == values.max()].mean())
    return np.array([overlap, overlap if shown else np.nan, overlap, pointing, _centre(inside)])


def not_there(values: np.ndarray, cut: Cut, probability: float) -> np.ndarray | None:
    """(5,) values of `COLUMNS` for an image without the finding where something is predicted; None where nothing is: it counts nowhere."""
    if not (probability > cut.cutoff and float(values.max()) > float(values.min())):
        return None
    return np.array([np.nan, np.nan, 0.0, np.nan, np.nan])


def _centre(inside: np.ndarray) -> float:
    """The pointing game of always pointing at the middle: the one to four pixels there."""
    height, width = inside.shape
    return float(inside[(height - 1) // 2 : height // 2 + 1, (width - 1) // 2 : width // 2 + 1].mean())


_NOT_THERE = "no test image has the finding"
_TITLES = {
    "mask_iou": "IoU of masks, nothing found = 0",
    "mask_iou_official": "IoU of masks, images where something is found",
    "pointing": "hit rate",
}


def _spec(name: str, title: str, *needs: str) -> MetricSpec:
    return MetricSpec(name=name, title=title, target=TARGET, needs=needs, undefined=_NOT_THERE)


METRICS = (
    MetricSpec(
        name="negative_loss",
        title="negative validation loss",
        target=TARGET,
        needs=(VALIDATION_LOSS,),
        low=-float("inf"),
        high=float("inf"),
        selects=True,
    ),
    MetricSpec(name="auroc", title="AUROC of whole images", target=TARGET, undefined=_NOT_THERE, selects=True),
    _spec("mask_iou_full", "IoU of masks, found where nothing is = 0"),
    _spec("centre_pointing", "hit rate of pointing at the centre"),
    *(_spec(name, title) for name, title in _TITLES.items()),
    *(_spec(f"mean_{name}", f"{title}, mean of findings", SEVERAL_CLASSES) for name, title in _TITLES.items()),
    *(_spec(f"{{class}}_{name}", f"{{class}} {title}", SEVERAL_CLASSES) for name, title in _TITLES.items()),
    *(
        MetricSpec(
            name=f"{{class}}_{name}", title=f"{{class}} {name} from validation", target=TARGET, needs=(VALIDATION_LOSS,), better="neither"
        )
        for name in Cut._fields
    ),
)
