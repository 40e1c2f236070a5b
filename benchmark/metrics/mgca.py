"""MGCA's detection mAP: COCO's rule at eight lower IoU thresholds over detections of objectness 0.5, as released and over all images.

The released code hands an image to the metric only if some detection is left in it and it has a box. So an image in which nothing was found
costs no recall, and a false alarm on a healthy one costs no precision. Two columns, never one. Recall levels are COCO's; torchmetrics has
them in single precision, so that a recall exactly on one of the 101 may count for the next level there.
Source: MGCA's released code (docs/segmentation.md, MGCA's mAP, twice).

Formulas:
    mAP_mgca_all: (1 / 8) Σ_t AP_t; COCO's AP_t at t = 0.40, 0.45, …, 0.75 over detections of confidence ≥ 0.5
    mAP_mgca: (1 / 8) Σ_t AP_t; over the images alone that have both a box and such a detection
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.metrics.boxes import Boxes, Detections
from benchmark.metrics.coco import UNCOUNTED, CocoHits, CocoPool, average_precision, coco_hits
from benchmark.metrics.matching import NO_BOX
from benchmark.metrics.spec import MetricSpec

THRESHOLDS = np.array([0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75])
CONFIDENCE = 0.5


def mgca_hits(detections: Detections, truth: Boxes, n_classes: int = 1, order: np.ndarray | None = None) -> np.ndarray:
    """(n,) int64 hits at `THRESHOLDS`, in the order of `overlaps.overlaps`: confidence at least 0.5, 100 boxes per image, plain IoU, `>=`.

    Args:
        order: `overlaps.falling(detections)`, where it is known already.

    Raises:
        FrameMismatch, TrainingError, UsageError: as `coco.coco_hits`.
    """
    return coco_hits(detections, truth, n_classes, THRESHOLDS, CONFIDENCE, order)


@dataclass(frozen=True)
class AsReleased:
    """The mean over thresholds and classes over the images that have both a box and a detection, as a pooled metric.

    None where no image has a box; 0 where there are boxes but no such image (MGCA's code gives -1).

    Attributes:
        found: with hits at `THRESHOLDS`.
    """

    found: CocoHits

    def __call__(self, weights: np.ndarray | None = None) -> float | None:
        weights = np.ones(self.found.n_images) if weights is None else np.asarray(weights, np.float64)
        if not weights[self.found.truth_image].any():
            return None
        return average_precision(self.found, weights=weights * self._handed_over) or 0.0

    def many(self, weights: np.ndarray) -> np.ndarray:
        """(R,) float64 of (R, n_images) weights, up to rounding; NaN for None."""
        values: np.ndarray = np.nan_to_num(CocoPool(self.found).many(weights * self._handed_over))
        values[~weights[:, self.found.truth_image].any(axis=1)] = np.nan
        return values

    @cached_property
    def _handed_over(self) -> np.ndarray:
        """(n_images,) bool: images that the released code hands to its metric."""
        detected, boxed = np.zeros((2, self.found.n_images), bool)
        detected[self.found.image[self.found.hits != UNCOUNTED]] = True
        boxed[self.found.truth_image] = True
        handed: np.ndarray = detected & boxed
        return handed


METRICS = (
    MetricSpec(
        name="mAP_mgca",
        title="mAP (MGCA, as released)",
        target="boxes",
        needs=("mgca",),
        compute=lambda boxes: AsReleased(boxes.mgca),
        undefined=NO_BOX,
        selects=True,
    ),
    MetricSpec(
        name="mAP_mgca_all",
        title="mAP (MGCA, all images)",
        target="boxes",
        needs=("mgca",),
        compute=lambda boxes: CocoPool(boxes.mgca),
        undefined=NO_BOX,
        selects=True,
    ),
)
