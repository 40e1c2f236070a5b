"""Which detection finds which box: pools of detections, greedy matching, and the average precision that follows from the hits.

Shared by the families of box metrics (`detection`, `coco`, `mgca`, `froc`). Everything takes image weights: a bootstrap resample is the
same hits counted again. Geometry lives in `overlaps`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from benchmark.errors import UsageError
from benchmark.metrics.overlaps import Overlaps, rank_within_image

# LoVT's released code; the list of the RSNA challenge, but not the challenge's metric.
LOVT_THRESHOLDS = (0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75)
LOVT_CONFIDENCE = 0.2
# Multiples of 0.01, not hundredths: level 35 is 0.35000000000000003, and a recall of exactly 7/20 does not reach it. LoVT counts so.
RECALL_LEVELS = np.arange(0, 1.01, 0.01)
# The wide pool: no detection that a well calibrated head would need is cut off.
FULL_CONFIDENCE = 0.001
FULL_PER_IMAGE = 100
NO_BOX = "no image has a box"  # why most metrics of boxes may have no value


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

    def at(self, threshold: float) -> Matched:
        """The same at one of the thresholds."""
        place = self.thresholds.index(threshold)
        return replace(self, thresholds=(threshold,), hit=self.hit[place : place + 1])


def lovt_pool(table: Overlaps) -> Overlaps:
    """Detections with confidence of at least 0.2: LoVT's pool, without a limit per image."""
    return table.select(table.confidence >= LOVT_CONFIDENCE)


def full_pool(table: Overlaps) -> Overlaps:
    """Detections with confidence of at least 0.001, the 100 most confident of each image."""
    return table.select((table.confidence >= FULL_CONFIDENCE) & (rank_within_image(table.image) < FULL_PER_IMAGE))


def match(table: Overlaps, thresholds: Sequence[float] = LOVT_THRESHOLDS, n_classes: int = 1) -> Matched:
    """Decides for every detection and threshold whether it is a hit, by the rule of `detection.lovt_map`; the pool is the caller's."""
    for what, label in (("detection", table.label), ("ground-truth box", table.truth_label)):
        strange = label[(label < 0) | (label >= n_classes)]
        if len(strange):
            raise UsageError(f"A {what} has class {strange[0]}; classes are 0 to {n_classes - 1}.")
    limits = np.asarray(thresholds, np.float64)
    hit = np.zeros((len(limits), table.n_detections), bool)
    assign(table, limits, hit)
    return Matched(
        tuple(thresholds), hit, table.image, table.label, table.truth_image, table.truth_label, n_images=table.n_images, n_classes=n_classes
    )


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


def assign(table: Overlaps, limits: np.ndarray, hit: np.ndarray) -> None:
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
