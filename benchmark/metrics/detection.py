"""Average precision of boxes: LoVT's own rule, its wide-pool variant, and two diagnostics of the confidence.

FROC lives in `froc`, COCO's rule in `coco`, matching in `matching`. Each family has its own result type, so that no table can mix them by
accident. All take image weights: a bootstrap resample is the same matches counted again.

Formulas:
    mAP: (1 / 8) Σ_t AP_t; t = 0.40, 0.45, …, 0.75
    mAP@{iou}: AP_t = mean_c (1 / 101) Σ_r max_{q ≥ r} p_{t,c}(q); recalls r = 0, 0.01, …, 1; precision p_{t,c}(q) = TP / (TP + FP) of
        class c at recall q, where a hit needs IoU > t, with one pixel added to sides, and detections under confidence 0.2 are dropped
    pos_mAP: (1 / 8) Σ_t AP_t; over images with a box only
    {class}_mAP: (1 / 8) Σ_t AP_{t,c}; of the class c alone
    AP40_75_full: (1 / 8) Σ_t AP_t; over confidence of at least 0.001, the 100 most confident of each image
    calibration_error: Σ_b (n_b / n) |s_b - h_b|; mean confidence s_b and share of hits h_b (IoU > 0.5) of the n_b detections in bin b, of
        ten bins of equal width
    lost_at_0.2: n_lost / n; of the n boxes those that only detections under confidence 0.2 find, at IoU > 0.40
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import UsageError
from benchmark.metrics.boxes import Boxes, Detections
from benchmark.metrics.many_resamples import mean_average_precisions
from benchmark.metrics.matching import (
    LOVT_CONFIDENCE,
    LOVT_THRESHOLDS,
    NO_BOX,
    Matched,
    assign,
    average_precisions,
    full_pool,
    lovt_pool,
    match,
)
from benchmark.metrics.overlaps import Overlaps, overlaps
from benchmark.metrics.spec import SEVERAL_CLASSES, MetricSpec, PooledMetric

if TYPE_CHECKING:
    from benchmark.metrics.box_statistics import BoxView

CALIBRATION_BINS = 10
CALIBRATION_IOU = 0.5


@dataclass(frozen=True)
class LovtMap:
    """Average precisions of one pool of detections.

    Attributes:
        thresholds: T IoU thresholds; a match needs more than the threshold.
        average_precision: (T, C) float64 in [0, 1]; 0 for a class without truth or without detections.
        positives_only: the same over the images that have at least one box.
    """

    thresholds: tuple[float, ...]
    average_precision: np.ndarray
    positives_only: np.ndarray

    @property
    def mean(self) -> float:
        """mAP: mean over thresholds of the mean over classes."""
        return float(self.average_precision.mean(axis=1).mean())

    @property
    def pos_mean(self) -> float:
        return float(self.positives_only.mean(axis=1).mean())

    @property
    def per_class(self) -> np.ndarray:
        """(C,) mean over thresholds."""
        of_classes: np.ndarray = self.average_precision.mean(axis=0)
        return of_classes

    def at(self, threshold: float) -> float:
        """Mean over classes at one threshold.

        Raises:
            UsageError: the threshold was not computed.
        """
        if threshold not in self.thresholds:
            raise UsageError(f"No average precision at IoU {threshold}; computed were {list(self.thresholds)}.")
        return float(self.average_precision[self.thresholds.index(threshold)].mean())


def lovt_map(detections: Detections, truth: Boxes, thresholds: Sequence[float] = LOVT_THRESHOLDS, n_classes: int = 1) -> LovtMap:
    """LoVT's detection mAP, column `mAP`.

    Detections under confidence 0.2 are dropped here. Those of all images are pooled per class and taken by falling confidence; equal
    confidences keep image order, then the head's order. A detection hits the free box of its image and class with the largest IoU
    (one pixel added to sides), if that IoU is greater than the threshold: when the best box is taken the next best is tried. Of boxes with
    equal IoU the later one is taken. Average precision is the mean over recall 0, 0.01, ..., 1 of the best precision at that recall
    or a higher one.

    Args:
        detections: all images of a split after NMS, xywh in pixels of the frame, confidence in [0, 1].
        truth: ground-truth boxes in the same frame.
        thresholds: IoU thresholds in (0, 1).
        n_classes: labels run over 0 .. n_classes - 1; a class without truth counts as 0.

    Raises:
        FrameMismatch: the two were measured in different frames.
        UsageError: a label is not a class, or arrays disagree in length.
        TrainingError: a confidence or a coordinate of a true box is not finite.

    Source: LoVT's released code (`BBoxMeanAPMetric` over `mean_average_precision`, policy "soft").
    """
    return pooled_map(match(lovt_pool(overlaps(detections, truth)), thresholds, n_classes))


@dataclass(frozen=True)
class MapPool:
    """LoVT's mAP of matched detections as a pooled metric."""

    matched: Matched

    def __call__(self, weights: np.ndarray | None = None) -> float:
        return float(average_precisions(self.matched, weights).mean(axis=1).mean())

    def many(self, weights: np.ndarray) -> np.ndarray:
        """(R,) float64 of (R, n_images) weights."""
        return mean_average_precisions(self.matched, weights)


def pooled_map(matched: Matched, weights: np.ndarray | None = None) -> LovtMap:
    """Average precisions of a split, or of a resample of it.

    Args:
        weights: (n_images,) how often each image stands in the resample; None takes every image once.
    """
    weights = np.ones(matched.n_images) if weights is None else np.asarray(weights, np.float64)
    positive = np.zeros(matched.n_images, bool)
    positive[matched.truth_image] = True
    return LovtMap(matched.thresholds, average_precisions(matched, weights), average_precisions(matched, weights * positive))


def ap40_75_full(boxes: BoxView) -> MapPool:
    """LoVT's average over IoU 0.40 to 0.75 without its truncation at confidence 0.2: confidence at least 0.001, 100 boxes per image."""
    return MapPool(match(boxes.full, n_classes=boxes.n_classes))


def objectness_calibration_error(table: Overlaps) -> PooledMetric:
    """Expected calibration error of the confidence as the probability of a hit, in [0, 1].

    Over the wide pool: detections fall into ten equal bins of confidence ([0, 0.1), ..., [0.9, 1]); the error is the mean over detections
    of |mean confidence - share of hits| of their bin. A hit is a match of `lovt_map` at IoU > 0.5, so duplicates of a found box are misses.
    None without detections.
    """
    pool = full_pool(table)
    hit = np.zeros((1, pool.n_detections), bool)
    assign(pool, np.array([CALIBRATION_IOU]), hit)
    bin_of = np.minimum((pool.confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gap = pool.confidence - hit[0]

    def error(weights: np.ndarray | None = None) -> float | None:
        weight = _per_entry(weights, pool.image)
        n_detections = weight.sum()
        by_bin = np.bincount(bin_of, weights=weight * gap, minlength=CALIBRATION_BINS)
        return float(np.abs(by_bin).sum() / n_detections) if n_detections else None

    return error


def share_lost_at(table: Overlaps, confidence: float = LOVT_CONFIDENCE, iou: float = LOVT_THRESHOLDS[0]) -> PooledMetric:
    """Share of all ground-truth boxes, in [0, 1], that a detection of the wide pool finds at `iou`, but none of at least `confidence`.

    Taking detections by falling confidence, those under the cut cannot take a box away from those above: the lost boxes are the hits below.
    None without ground truth.
    """
    pool = full_pool(table)
    hit = np.zeros((1, pool.n_detections), bool)
    assign(pool, np.array([iou]), hit)
    image_of_lost = pool.image[hit[0] & (pool.confidence < confidence)]

    def share(weights: np.ndarray | None = None) -> float | None:
        n_truth = _per_entry(weights, table.truth_image).sum()
        return float(_per_entry(weights, image_of_lost).sum() / n_truth) if n_truth else None

    return share


def _images_with_a_box(matched: Matched) -> PooledMetric:
    return lambda weights=None: pooled_map(matched, weights).pos_mean


def _of_class(matched: Matched, label: int) -> PooledMetric:
    return lambda weights=None: float(average_precisions(matched, weights)[:, label].mean())


def _per_entry(weights: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    """Weight of each entry's image; ones for the split itself."""
    return np.ones(len(image)) if weights is None else np.asarray(weights, np.float64)[image]


METRICS = (
    MetricSpec(
        name="mAP",
        title="mAP (LoVT)",
        target="boxes",
        needs=("lovt_pool",),
        compute=lambda boxes: MapPool(boxes.matched),
        selects=True,
    ),
    MetricSpec(
        name="mAP@{iou}",
        title="mAP (LoVT) at IoU {iou}",
        target="boxes",
        values={0.5: "0.5", 0.75: "0.75"},
        needs=("lovt_pool",),
        compute=lambda boxes, iou: MapPool(boxes.matched.at(iou)),
        selects=True,
    ),
    MetricSpec(
        name="pos_mAP",
        title="mAP (LoVT), images with a box only",
        target="boxes",
        needs=("lovt_pool",),
        compute=lambda boxes: _images_with_a_box(boxes.matched),
    ),
    MetricSpec(
        name="{class}_mAP",
        title="{class} mAP (LoVT)",
        target="boxes",
        needs=("lovt_pool", SEVERAL_CLASSES),
        compute=lambda boxes, label: _of_class(boxes.matched, label),
    ),
    MetricSpec(name="AP40_75_full", title="AP 40-75 (full)", target="boxes", needs=("full_pool",), compute=ap40_75_full),
    MetricSpec(
        name="calibration_error",
        title="calibration error of the confidence",
        target="boxes",
        needs=("full_pool",),
        compute=lambda boxes: objectness_calibration_error(boxes.table),
        undefined="no detection has a confidence of at least 0.001",
        better="lower",
    ),
    MetricSpec(
        name="lost_at_0.2",
        title="boxes lost at confidence 0.2",
        target="boxes",
        needs=("full_pool",),
        compute=lambda boxes: share_lost_at(boxes.table),
        undefined=NO_BOX,
        better="lower",
    ),
)
