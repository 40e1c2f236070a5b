"""COCO's box AP: pycocotools decides once which detection is a hit at which IoU, and the average precision follows from those hits.

What a record keeps is one number per detection, its hits at COCO's ten thresholds as bits; a resample of images is the same hits counted
again. LoVT's own rules are in `detection`.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import numpy as np

from benchmark.metrics.boxes import Boxes, Detections, require_same_frame
from benchmark.metrics.detection import FULL_CONFIDENCE, FULL_PER_IMAGE
from benchmark.metrics.overlaps import falling, overlaps, rank_within_image

N_THRESHOLDS = 10  # IoU 0.50, 0.55, ..., 0.95
RECALLS = np.linspace(0.0, 1.0, 101)
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
        image, label: (n,) int64; hits: (n,) int64, bit t set for a hit at IoU 0.50 + 0.05 t; `UNCOUNTED` outside the pool.
        truth_image, truth_label: (m,) int64.
    """

    n_images: int
    image: np.ndarray
    label: np.ndarray
    hits: np.ndarray
    truth_image: np.ndarray
    truth_label: np.ndarray


def coco_hits(detections: Detections, truth: Boxes, n_classes: int = 1) -> np.ndarray:
    """(n,) int64 hits of `CocoHits`, in the order of `overlaps.overlaps`: confidence at least 0.001, 100 boxes per image, plain IoU, `>=`.

    Raises:
        FrameMismatch: the two were measured in different frames.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    require_same_frame(detections, truth)
    order = falling(detections)
    image, label, box, confidence = (a[order] for a in (detections.image, detections.label, detections.xywh, detections.confidence))
    pool = np.flatnonzero((confidence >= FULL_CONFIDENCE) & (rank_within_image(np.asarray(image, np.int64)) < FULL_PER_IMAGE))
    hits = np.full(len(order), UNCOUNTED, np.int64)
    hits[pool] = 0
    if len(truth.image) == 0 or len(pool) == 0:
        return hits
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
        reference, found = COCO(), COCO()
        images = [{"id": i} for i in range(truth.n_images)]
        categories = [{"id": c} for c in range(n_classes)]
        reference.dataset = {"images": images, "categories": categories, "annotations": _annotations(truth.image, truth.label, truth.xywh)}
        annotations = _annotations(image[pool], label[pool], box[pool], confidence[pool])
        found.dataset = {"images": images, "categories": categories, "annotations": annotations}
        reference.createIndex()
        found.createIndex()
        evaluation = COCOeval(reference, found, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [FULL_PER_IMAGE]
        evaluation.evaluate()
    for judged in evaluation.evalImgs:
        if judged is not None:
            matched = np.asarray(judged["dtMatches"]) > 0  # (thresholds, detections)
            hits[pool[np.array(judged["dtIds"], np.int64) - 1]] = (matched << np.arange(N_THRESHOLDS)[:, None]).sum(axis=0)
    return hits


def average_precision(found: CocoHits, threshold: int | None = None, weights: np.ndarray | None = None) -> float | None:
    """COCO's AP over all thresholds, or at one of them, over the classes that have truth; None where none has.

    Args:
        threshold: 0 is IoU 0.50, 5 is 0.75.
        weights: (n_images,) copies of each image; None takes every image once.
    """
    weights = np.ones(found.n_images) if weights is None else np.asarray(weights, np.float64)
    n_truth = np.bincount(found.truth_label, weights=weights[found.truth_image])
    chosen = range(N_THRESHOLDS) if threshold is None else (threshold,)
    values = [_of_class(found, label, n_truth[label], chosen, weights) for label in np.flatnonzero(n_truth)]
    return float(np.mean(values)) if values else None


def coco_ap(detections: Detections, truth: Boxes, n_classes: int = 1) -> CocoAp:
    """COCO's AP at IoU 0.50:0.95, 0.50 and 0.75 of a split, over confidence of at least 0.001 and 100 boxes per image."""
    table = overlaps(detections, truth)
    hits = coco_hits(detections, truth, n_classes)
    found = CocoHits(table.n_images, table.image, table.label, hits, table.truth_image, table.truth_label)
    return CocoAp(average_precision(found), average_precision(found, 0), average_precision(found, 5))


def _of_class(found: CocoHits, label: int, n_truth: float, thresholds, weights: np.ndarray) -> np.ndarray:
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


def _annotations(image: np.ndarray, label: np.ndarray, xywh: np.ndarray, score: np.ndarray | None = None) -> list[dict]:
    """COCO annotations. Numbers start at 1: pycocotools takes an id of 0 for "no match"."""
    rows = enumerate(zip(image.tolist(), label.tolist(), xywh.tolist(), strict=True), start=1)
    made = [{"id": k, "image_id": i, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0} for k, (i, c, box) in rows]
    if score is not None:
        for annotation, value in zip(made, score.tolist(), strict=True):
            annotation["score"] = value
    return made
