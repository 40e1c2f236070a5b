"""Detection scores as released evaluation code computes them: through the packages that define them, image by image.

Used by `bench metrics` and by the tests that hold the vectorised scores to these.
"""

from __future__ import annotations

import contextlib
import io

import numpy as np

from benchmark.errors import EnvironmentProblem
from benchmark.metrics.boxes import Boxes, Detections
from benchmark.metrics.coco import CocoAp
from benchmark.metrics.matching import FULL_CONFIDENCE, FULL_PER_IMAGE, LOVT_CONFIDENCE, LOVT_THRESHOLDS, RECALL_LEVELS


def pycocotools_ap(detections: Detections, truth: Boxes, n_classes: int = 1) -> CocoAp:
    """COCO's box AP by pycocotools' `COCOeval`: confidence of at least 0.001, 100 boxes per image and class, all box areas."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    kept = detections.confidence >= FULL_CONFIDENCE
    image, label, box, confidence = (a[kept] for a in (detections.image, detections.label, detections.xywh, detections.confidence))
    with contextlib.redirect_stdout(io.StringIO()):
        reference, found = COCO(), COCO()
        images = [{"id": i} for i in range(truth.n_images)]
        categories = [{"id": c} for c in range(n_classes)]
        reference.dataset = {"images": images, "categories": categories, "annotations": _annotations(truth.image, truth.label, truth.xywh)}
        found.dataset = {"images": images, "categories": categories, "annotations": _annotations(image, label, box, confidence)}
        reference.createIndex()
        found.createIndex()
        evaluation = COCOeval(reference, found, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [FULL_PER_IMAGE]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]  # (10 thresholds, 101 recalls, classes)
    precision = precision[:, :, (precision > -1).any(axis=(0, 1))]
    return CocoAp(float(precision.mean()), float(precision[0].mean()), float(precision[5].mean()))


def package_lovt_map(detections: Detections, truth: Boxes, n_classes: int = 1) -> float:
    """LoVT's mAP by `mean_average_precision`, fed image by image as LoVT's metric does (docs/sources.md, LoVT).

    Raises:
        EnvironmentProblem: the package, which only the development install has, is missing.
    """
    try:
        from mean_average_precision import MetricBuilder
    except ImportError:
        raise EnvironmentProblem("`mean-average-precision` is not installed; `pip install lobe-bench[dev]` brings it.") from None
    metric = MetricBuilder.build_evaluation_metric("map_2d", async_mode=False, num_classes=n_classes)
    kept = detections.confidence >= LOVT_CONFIDENCE
    corners = np.concatenate([detections.xywh[:, :2], detections.xywh[:, :2] + detections.xywh[:, 2:]], axis=1)
    found = np.column_stack([corners, detections.label, detections.confidence])[kept]
    true_corners = np.concatenate([truth.xywh[:, :2], truth.xywh[:, :2] + truth.xywh[:, 2:]], axis=1)
    true = np.column_stack([true_corners, truth.label, np.zeros((len(true_corners), 2))])
    image = detections.image[kept]
    for i in range(truth.n_images):
        metric.add(found[image == i], true[truth.image == i])
    value = metric.value(iou_thresholds=LOVT_THRESHOLDS, recall_thresholds=RECALL_LEVELS, mpolicy="soft")
    return float(value["mAP"])


def _annotations(image: np.ndarray, label: np.ndarray, xywh: np.ndarray, score: np.ndarray | None = None) -> list[dict]:
    """COCO annotations. Numbers start at 1: pycocotools takes an id of 0 for "no match"."""
    rows = enumerate(zip(image.tolist(), label.tolist(), xywh.tolist(), strict=True), start=1)
    made = [{"id": k, "image_id": i, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0} for k, (i, c, box) in rows]
    if score is not None:
        for annotation, value in zip(made, score.tolist(), strict=True):
            annotation["score"] = value
    return made
