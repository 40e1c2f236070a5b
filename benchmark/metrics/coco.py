"""COCO's box AP: which detection is a hit at which IoU is decided once, and the average precision follows from those hits.

What a record keeps is one number per detection, its hits at COCO's ten thresholds as bits; a resample of images is the same hits counted
again. Other thresholds and pools by the same rule: `mgca`. LoVT's own rules are in `detection`.

Formulas:
    coco_AP{iou}: AP_t = mean_c (1 / 101) Σ_r max_{q ≥ r} p_{t,c}(q); recalls r = 0, 0.01, …, 1; precision p_{t,c}(q) = TP / (TP + FP) of
        class c at recall q, where a hit needs IoU ≥ t
    coco_AP: (1 / 10) Σ_t AP_t; t = 0.50, 0.55, …, 0.95
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.metrics.boxes import Boxes, Detections, require_same_frame
from benchmark.metrics.many_resamples import of_hits
from benchmark.metrics.matching import FULL_CONFIDENCE, FULL_PER_IMAGE, NO_BOX, group_of, take
from benchmark.metrics.overlaps import check_boxes, falling, pairs_of_one_image_and_class, rank_within_image
from benchmark.metrics.spec import MetricSpec

# COCO's own numbers, as pycocotools makes them.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
THRESHOLDS_IN_NAMES = {50: 0, 75: 5}  # per cent of IoU -> its place among the thresholds
UNCOUNTED = -1  # a detection outside COCO's pool


@dataclass(frozen=True)
class CocoAp:
    """COCO's box AP (fractions). None where no image has a box, for which COCO gives -1."""

    ap: float | None
    ap50: float | None
    ap75: float | None


@dataclass(frozen=True)
class CocoHits:
    """Detections by falling confidence.

    Attributes:
        image, label: (n,) int64; hits: (n,) int64, bit t set for a hit at threshold t; `UNCOUNTED` outside the pool.
        truth_image, truth_label: (m,) int64.
        n_thresholds: of the hits; COCO's are IoU 0.50 + 0.05 t.
    """

    n_images: int
    image: np.ndarray
    label: np.ndarray
    hits: np.ndarray
    truth_image: np.ndarray
    truth_label: np.ndarray
    n_thresholds: int = len(THRESHOLDS)

    @cached_property
    def labels(self) -> np.ndarray:
        """Classes that have truth."""
        return np.unique(self.truth_label)

    @cached_property
    def by_class(self) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """Per class that has truth: image of each of its detections that count, and per threshold the places of hits among them."""
        chosen = [np.flatnonzero((self.label == label) & (self.hits != UNCOUNTED)) for label in self.labels]
        places = [[np.flatnonzero((self.hits[kept] >> t) & 1) for t in range(self.n_thresholds)] for kept in chosen]
        return [(self.image[kept], at) for kept, at in zip(chosen, places, strict=True)]

    @cached_property
    def boxes_by_class(self) -> list[np.ndarray]:
        """The image of each box of these classes."""
        return [self.truth_image[self.truth_label == label] for label in self.labels]


def coco_hits(
    detections: Detections,
    truth: Boxes,
    n_classes: int = 1,
    thresholds: np.ndarray = THRESHOLDS,
    least_confidence: float = FULL_CONFIDENCE,
    order: np.ndarray | None = None,
) -> np.ndarray:
    """(n,) int64 hits of `CocoHits`, in the order of `overlaps.overlaps`: confidence at least 0.001, 100 boxes per image, plain IoU, `>=`.

    Equal confidences keep image order, then the head's order; of boxes with equal IoU the later one is taken.

    Args:
        thresholds: rising IoU thresholds, bit t for entry t.
        least_confidence: of a detection that counts.
        order: `overlaps.falling(detections)`, where it is known already.

    Raises:
        FrameMismatch: the two were measured in different frames.
        TrainingError, UsageError: values or lengths make no sense, as in `overlaps`, which an overflowed detection does not.

    Source: pycocotools' `COCOeval`, to which the average precision is equal up to rounding of the mean (tests/metrics/test_detection.py),
    but for images with more than 100 detections of several classes: COCOeval keeps 100 of each class, this keeps 100 of the image.
    """
    require_same_frame(detections, truth)
    check_boxes("detections", detections)
    check_boxes("ground truth", truth)
    order = falling(detections) if order is None else order
    first = rank_within_image(np.asarray(detections.image, np.int64)[order]) < FULL_PER_IMAGE
    pool = np.flatnonzero((np.asarray(detections.confidence)[order] >= least_confidence) & first)
    image, label = (np.asarray(a, np.int64)[order[pool]] for a in (detections.image, detections.label))
    detection, true = pairs_of_one_image_and_class(image, label, np.asarray(truth.image), np.asarray(truth.label))
    boxes = np.asarray(detections.xywh[order[pool[detection]]], np.float64)
    measured = np.isfinite(boxes).all(axis=1)  # the others touch nothing
    detection, true = detection[measured], true[measured]
    iou = _iou(boxes[measured], np.asarray(truth.xywh, np.float64)[true])
    relevant = iou >= thresholds[0]
    detection, true, iou = detection[relevant], true[relevant], iou[relevant]
    hit = np.zeros((len(thresholds), len(pool)), bool)
    take(detection, true, iou, iou >= thresholds[:, None], group_of(image, label, n_classes), hit, len(truth.image))
    hits = np.full(len(order), UNCOUNTED, np.int64)
    hits[pool] = (hit << np.arange(len(thresholds))[:, None]).sum(axis=0)
    return hits


def average_precision(found: CocoHits, threshold: int | None = None, weights: np.ndarray | None = None) -> float | None:
    """COCO's AP over all thresholds, or at one of them, over the classes that have truth; None where none has.

    Args:
        threshold: of COCO's, 0 is IoU 0.50, 5 is 0.75.
        weights: (n_images,) copies of each image; None takes every image once.
    """
    weights = np.ones(found.n_images) if weights is None else np.asarray(weights, np.float64)
    n_truth = np.bincount(found.truth_label, weights=weights[found.truth_image])
    chosen = range(found.n_thresholds) if threshold is None else (threshold,)
    values = [_of_class(found, int(label), n_truth[label], chosen, weights) for label in np.flatnonzero(n_truth)]
    return float(np.stack(values, axis=-1).mean()) if values else None


@dataclass(frozen=True)
class CocoPool:
    """COCO's AP of hits as a pooled metric: over all their thresholds, or at one of them."""

    found: CocoHits
    threshold: int | None = None

    def __call__(self, weights: np.ndarray | None = None) -> float | None:
        return average_precision(self.found, self.threshold, weights)

    def many(self, weights: np.ndarray) -> np.ndarray:
        """(R,) float64 of (R, n_images) weights, up to rounding; NaN for None."""
        chosen = slice(None) if self.threshold is None else slice(self.threshold, self.threshold + 1)
        by_class = [(image, places[chosen]) for image, places in self.found.by_class]
        values, n_boxes = of_hits(by_class, self.found.boxes_by_class, RECALLS, weights)
        n_averaged = (n_boxes > 0).sum(axis=1) * values.shape[1]  # a class without a box in a resample has no hit there
        means: np.ndarray = np.divide(values.sum(axis=(1, 2)), n_averaged, out=np.full(len(weights), np.nan), where=n_averaged > 0)
        return means


def coco_ap(detections: Detections, truth: Boxes, n_classes: int = 1) -> CocoAp:
    """COCO's AP at IoU 0.50:0.95, 0.50 and 0.75 of a split, over confidence of at least 0.001 and 100 boxes per image."""
    hits, order = coco_hits(detections, truth, n_classes), falling(detections)
    image, label, true_image, true_label = (
        np.asarray(a, np.int64) for a in (detections.image[order], detections.label[order], truth.image, truth.label)
    )
    found = CocoHits(truth.n_images, image, label, hits, true_image, true_label)
    return CocoAp(average_precision(found), average_precision(found, 0), average_precision(found, 5))


def _of_class(found: CocoHits, label: int, n_truth: float, thresholds: Sequence[int], weights: np.ndarray) -> np.ndarray:
    """(thresholds, 101) precision at COCO's recalls: highest precision from there on, 0 where never reached."""
    weight = weights[found.image]
    kept = np.flatnonzero((found.label == label) & (found.hits != UNCOUNTED) & (weight > 0))
    weight, hits = weight[kept], found.hits[kept]
    seen = np.cumsum(weight)
    curves = np.zeros((len(thresholds), len(RECALLS)))
    for curve, t in zip(curves, thresholds, strict=True):
        at = np.flatnonzero((hits >> t) & 1)  # precision peaks at hits, and only they move recall
        if len(at) == 0:
            continue
        true = np.cumsum(weight[at])
        best_from_here = np.maximum.accumulate((true / (seen[at] + np.spacing(1)))[::-1])[::-1]
        reached = np.searchsorted(true / n_truth, RECALLS, side="left")
        curve[reached < len(at)] = best_from_here[reached[reached < len(at)]]
    return curves


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(p,) IoU of xywh boxes, row by row; operations in the order of pycocotools, so that ties at a threshold agree."""
    low = np.maximum(first[:, :2], second[:, :2])
    sides = np.maximum(np.minimum(first[:, 2:] + first[:, :2], second[:, 2:] + second[:, :2]) - low, 0.0)
    shared = sides[:, 0] * sides[:, 1]
    union = first[:, 2] * first[:, 3] + second[:, 2] * second[:, 3] - shared
    iou: np.ndarray = np.divide(shared, union, out=np.zeros(len(shared)), where=shared > 0)
    return iou


METRICS = (
    MetricSpec(
        name="coco_AP",
        title="COCO AP",
        target="boxes",
        needs=("coco",),
        compute=lambda boxes: CocoPool(boxes.coco),
        undefined=NO_BOX,
    ),
    MetricSpec(
        name="coco_AP{iou}",
        title="COCO AP at IoU {iou}",
        target="boxes",
        values={50: "0.5", 75: "0.75"},
        needs=("coco",),
        compute=lambda boxes, iou: CocoPool(boxes.coco, THRESHOLDS_IN_NAMES[iou]),
        undefined=NO_BOX,
    ),
)
