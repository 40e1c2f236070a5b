"""Average precision of boxes: LoVT's own rule, its wide-pool variant, and two diagnostics of the confidence.

FROC lives in `froc`, COCO's rule in `coco`, geometry in `overlaps`. Each family has its own result type, so that no table can mix them by
accident. All take image weights: a bootstrap resample is the same matches counted again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.errors import UsageError
from benchmark.metrics.boxes import Boxes, Detections
from benchmark.metrics.overlaps import Overlaps, overlaps, rank_within_image

# LoVT's; the list of the RSNA challenge, but not the challenge's metric.
LOVT_THRESHOLDS = (0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75)
LOVT_CONFIDENCE = 0.2
# Multiples of 0.01, not hundredths: level 35 is 0.35000000000000003, and a recall of exactly 7/20 does not reach it. LoVT counts so.
RECALL_LEVELS = np.arange(0, 1.01, 0.01)
# The wide pool: what a calibrated head would not need.
FULL_CONFIDENCE = 0.001
FULL_PER_IMAGE = 100
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
        return self.average_precision.mean(axis=0)

    def at(self, threshold: float) -> float:
        """Mean over classes at one threshold.

        Raises:
            UsageError: the threshold was not computed.
        """
        if threshold not in self.thresholds:
            raise UsageError(f"No average precision at IoU {threshold}; computed were {list(self.thresholds)}.")
        return float(self.average_precision[self.thresholds.index(threshold)].mean())


@dataclass(frozen=True)
class Matched:
    """Which detections are hits at which threshold: what a pooled average precision needs of a split, geometry forgotten.

    Attributes:
        thresholds: T IoU thresholds.
        hit: (T, n) bool over detections by falling confidence.
        image, label: (n,) int64 of the detections.
        truth_image, truth_label: (m,) int64.
        n_images, n_classes: sizes of the split.
    """

    thresholds: tuple[float, ...]
    hit: np.ndarray
    image: np.ndarray
    label: np.ndarray
    truth_image: np.ndarray
    truth_label: np.ndarray
    n_images: int
    n_classes: int

    @cached_property
    def by_class(self) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """Per class: image of each of its detections, and per threshold the places of hits among them."""
        chosen = [np.flatnonzero(self.label == label) for label in range(self.n_classes)]
        return [(self.image[of_class], [np.flatnonzero(hit[of_class]) for hit in self.hit]) for of_class in chosen]


def lovt_pool(table: Overlaps) -> Overlaps:
    """Detections with confidence of at least 0.2: LoVT's pool, without a limit per image."""
    return table.select(table.confidence >= LOVT_CONFIDENCE)


def full_pool(table: Overlaps) -> Overlaps:
    """Detections with confidence of at least 0.001, the 100 most confident of each image."""
    return table.select((table.confidence >= FULL_CONFIDENCE) & (rank_within_image(table.image) < FULL_PER_IMAGE))


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


def ap40_75_full(detections: Detections, truth: Boxes, n_classes: int = 1) -> LovtMap:
    """LoVT's average over IoU 0.40 to 0.75, without its truncation at confidence 0.2: confidence at least 0.001, 100 boxes per image.

    Arguments, errors and matching as in `lovt_map`; a column of its own, `AP40_75_full`.
    """
    return pooled_map(match(full_pool(overlaps(detections, truth)), LOVT_THRESHOLDS, n_classes))


def match(table: Overlaps, thresholds: Sequence[float] = LOVT_THRESHOLDS, n_classes: int = 1) -> Matched:
    """Decides for every detection and threshold whether it is a hit, by the rule of `lovt_map`; the pool is the caller's."""
    for what, label in (("detection", table.label), ("ground-truth box", table.truth_label)):
        strange = label[(label < 0) | (label >= n_classes)]
        if len(strange):
            raise UsageError(f"A {what} has class {strange[0]}; classes are 0 to {n_classes - 1}.")
    limits = np.asarray(thresholds, np.float64)
    hit = np.zeros((len(limits), table.n_detections), bool)
    _assign(table, limits, hit)
    return Matched(
        tuple(thresholds), hit, table.image, table.label, table.truth_image, table.truth_label, n_images=table.n_images, n_classes=n_classes
    )


def pooled_map(matched: Matched, weights: np.ndarray | None = None) -> LovtMap:
    """Average precisions of a split, or of a resample of it.

    Args:
        weights: (n_images,) how often each image stands in the resample; None takes every image once.
    """
    weights = np.ones(matched.n_images) if weights is None else np.asarray(weights, np.float64)
    positive = np.zeros(matched.n_images, bool)
    positive[matched.truth_image] = True
    return LovtMap(matched.thresholds, average_precisions(matched, weights), average_precisions(matched, weights * positive))


def average_precisions(matched: Matched, weights: np.ndarray | None = None) -> np.ndarray:
    """(T, C) float64 average precision of the split, or of the resample in which image i stands `weights[i]` times ((n_images,)).

    Copies of a detection follow each other, so the value is that of a list of repeated images wherever no image holds equal confidences.
    """
    weights = np.ones(matched.n_images) if weights is None else np.asarray(weights, np.float64)
    n_truth = np.bincount(matched.truth_label, weights=weights[matched.truth_image], minlength=matched.n_classes)
    found = np.zeros((len(matched.thresholds), matched.n_classes))
    for label, (image, places) in enumerate(matched.by_class):
        # Images left out of a resample stay in the lists with weight 0, which moves neither sum.
        weight = weights[image]
        seen = np.maximum(np.cumsum(weight), 1.0)
        for t, at in enumerate(places):  # precision peaks at hits, and only they move recall
            hits = np.cumsum(weight[at])
            recall = hits / max(n_truth[label], 1.0)
            best_from_here = np.maximum.accumulate((hits / seen[at])[::-1])[::-1]
            reached = np.searchsorted(recall, RECALL_LEVELS, side="left")
            found[t, label] = best_from_here[reached[reached < len(recall)]].sum() / len(RECALL_LEVELS)
    return found


def calibration(table: Overlaps) -> Callable[[np.ndarray | None], float | None]:
    """Expected calibration error of the confidence as the probability of a hit, in [0, 1], as a function of image weights.

    Over the wide pool: detections fall into ten equal bins of confidence ([0, 0.1), ..., [0.9, 1]); the error is the mean over detections
    of |mean confidence - share of hits| of their bin. A hit is a match of `lovt_map` at IoU > 0.5, so duplicates of a found box are misses.
    None without detections.
    """
    pool = full_pool(table)
    hit = np.zeros((1, pool.n_detections), bool)
    _assign(pool, np.array([CALIBRATION_IOU]), hit)
    bin_of = np.minimum((pool.confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gap = pool.confidence - hit[0]

    def error(weights: np.ndarray | None = None) -> float | None:
        weight = _per_entry(weights, pool.image)
        n_detections = weight.sum()
        by_bin = np.bincount(bin_of, weights=weight * gap, minlength=CALIBRATION_BINS)
        return float(np.abs(by_bin).sum() / n_detections) if n_detections else None

    return error


def lost_at(
    table: Overlaps, confidence: float = LOVT_CONFIDENCE, iou: float = LOVT_THRESHOLDS[0]
) -> Callable[[np.ndarray | None], float | None]:
    """Share of all ground-truth boxes, in [0, 1], that a detection of the wide pool finds at `iou`, but none of at least `confidence`.

    As a function of image weights. Taking detections by falling confidence, those under the cut cannot take a box away from those above:
    the lost boxes are the hits below. None without ground truth.
    """
    pool = full_pool(table)
    hit = np.zeros((1, pool.n_detections), bool)
    _assign(pool, np.array([iou]), hit)
    image_of_lost = pool.image[hit[0] & (pool.confidence < confidence)]

    def share(weights: np.ndarray | None = None) -> float | None:
        n_truth = _per_entry(weights, table.truth_image).sum()
        return float(_per_entry(weights, image_of_lost).sum() / n_truth) if n_truth else None

    return share


def objectness_calibration_error(table: Overlaps) -> float | None:
    """`calibration` of the split itself."""
    return calibration(table)(None)


def share_lost_at(table: Overlaps, confidence: float = LOVT_CONFIDENCE, iou: float = LOVT_THRESHOLDS[0]) -> float | None:
    """`lost_at` of the split itself."""
    return lost_at(table, confidence, iou)(None)


def _per_entry(weights: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    """Weight of each entry's image; ones for the split itself."""
    return np.ones(len(image)) if weights is None else np.asarray(weights, np.float64)[image]


def _assign(table: Overlaps, limits: np.ndarray, hit: np.ndarray) -> None:
    """Fills `hit` (T, n) by LoVT's rule: a match needs more than the threshold."""
    relevant = table.pair_iou > limits.min()
    detection, truth, iou = table.pair_detection[relevant], table.pair_truth[relevant], table.pair_iou[relevant]
    group = group_of(table.image, table.label, 1 + int(table.label.max(initial=0)))
    take(detection, truth, iou, iou > limits[:, None], group, hit, table.n_truth)


def take(
    detection: np.ndarray, truth: np.ndarray, iou: np.ndarray, reached: np.ndarray, group: np.ndarray, hit: np.ndarray, n_truth: int
) -> None:
    """Gives boxes to detections greedily and fills `hit` (T, n): the free box of largest IoU, the later of equal ones.

    All images go in step: the first candidate of every image and class, then the second, and so on.

    Args:
        detection, truth, iou: (p,) pairs; detections count by falling confidence.
        reached: (T, p) bool, the pair's IoU is enough at the threshold.
        group: (n,) int64, image and class of each detection as one number.
    """
    if len(detection) == 0:
        return
    candidates = np.unique(detection)
    rank = rank_within_image(group[candidates])
    rank_of_pair = rank[np.searchsorted(candidates, detection)]
    by_rank = np.lexsort((truth, iou, detection, rank_of_pair))
    detection, truth, rank_of_pair = (a[by_rank] for a in (detection, truth, rank_of_pair))
    reached = reached[:, by_rank]
    taken = np.zeros((len(reached), n_truth), bool)
    row = np.arange(len(reached))[:, None]
    bounds = np.searchsorted(rank_of_pair, np.arange(rank.max() + 2))
    for start, stop in itertools.pairwise(bounds):
        ranked, options = detection[start:stop], truth[start:stop]
        first = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        free = ~taken[:, options] & reached[:, start:stop]
        best = np.maximum.reduceat(np.where(free, np.arange(stop - start), -1), first, axis=1)
        found = best >= 0
        hit[:, ranked[first]] = found
        taken[row, options[best]] |= found


def group_of(image: np.ndarray, label: np.ndarray, n_labels: int) -> np.ndarray:
    """(n,) int64: image and class as one number."""
    return np.asarray(image, np.int64) * n_labels + np.asarray(label, np.int64)
