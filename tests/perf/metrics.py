"""Detection scores of a test split: the project's vectorised ones against the packages that define them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmark.metrics.boxes import Boxes, Detections
from benchmark.metrics.coco import coco_ap
from benchmark.metrics.detection import lovt_map
from tests.perf.measure import BenchResult, Measurement, alternate, report
from tests.perf.plain_scores import package_lovt_map, pycocotools_ap

SIDES = "plain: `mean-average-precision` fed image by image, and pycocotools; fast: `benchmark.metrics.detection` and `.coco`."
PER_IMAGE = 40


def run(quick: bool, folder: Path) -> BenchResult:
    started = time.monotonic()
    n_images, repeats = (40, 1) if quick else (5000, 3)
    detections, truth = split(n_images, seed=0)
    for warm in (lovt_map, coco_ap, package_lovt_map, pycocotools_ap):
        warm(*split(3, seed=1))
    rows = []
    plain, fast, one, other = alternate(lambda: package_lovt_map(detections, truth), lambda: lovt_map(detections, truth).mean, repeats)
    rows.append(
        Measurement(
            what="LoVT's mAP",
            plain=plain,
            fast=fast,
            target=10,
            compared="mAP",
            difference=abs(one - other),
            tolerance=1e-6,
            details={"mAP": other},
        )
    )
    plain, fast, one, other = alternate(lambda: pycocotools_ap(detections, truth), lambda: coco_ap(detections, truth), repeats)
    difference = max(abs(a - b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))
    rows.append(
        Measurement(
            what="COCO AP",
            plain=plain,
            fast=fast,
            target=5,
            compared="AP, AP50, AP75",
            difference=difference,
            tolerance=1e-12,
            details={"AP": other.ap or 0.0},
        )
    )
    sizes = {"images": n_images, "detections": len(detections.image), "boxes": len(truth.image), "repetitions": repeats}
    return report("metrics", SIDES, quick, sizes, rows, started)


def split(n_images: int, seed: int) -> tuple[Detections, Boxes]:
    """A made-up split like RSNA's: a quarter of the images has one or two boxes; 40 detections an image, the best near a box."""
    rng = np.random.default_rng(seed)
    n_boxes = np.where(rng.random(n_images) < 0.25, rng.integers(1, 3, n_images), 0)
    n_boxes[0] = 1
    image = np.repeat(np.arange(n_images), n_boxes)
    size = rng.uniform(20, 90, (len(image), 2))
    boxes = np.concatenate([rng.uniform(0, 224 - size), size], axis=1)
    owner = np.repeat(np.arange(n_images), PER_IMAGE)
    side = rng.uniform(10, 110, (len(owner), 2))
    xywh = np.concatenate([rng.uniform(0, np.maximum(224 - side, 1)), side], axis=1)
    confidence = rng.beta(0.4, 4, len(owner)).clip(0.001, 1)
    near = np.repeat(image * PER_IMAGE, 6) + np.tile(np.arange(6), len(image))
    xywh[near] = np.repeat(boxes, 6, axis=0) * rng.normal(1, 0.08, (len(near), 4))
    confidence[near] = rng.uniform(0.1, 1, len(near))
    frame = "padded-224"
    labels = np.zeros(len(owner), np.int64)
    return (
        Detections(owner, xywh, labels, n_images, frame, confidence),
        Boxes(image, boxes, np.zeros(len(image), np.int64), n_images, frame),
    )
