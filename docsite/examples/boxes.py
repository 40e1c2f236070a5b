"""Examples of the families that score boxes: the same detections on three images, each family by its own rule."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmark.metrics import froc
from benchmark.metrics.boxes import Boxes, Detections
from benchmark.metrics.matching import LOVT_CONFIDENCE, full_pool, lovt_pool, match
from benchmark.metrics.overlaps import overlaps
from benchmark.metrics.scores import score_detection
from docsite import drawing
from docsite.drawing import Axes, Picture
from docsite.examples.base import Example

SIDE = 120  # pixels of an image
IOU = 0.5  # of the curve that is drawn
LEGEND = "Thick line: true box. Filled: detection, with its confidence. "
TRUTH = ((0, (12, 14, 40, 40)), (0, (66, 60, 44, 48)), (1, (30, 36, 60, 50)))  # image, xywh; the third image has no finding
FOUND = (  # image, xywh, confidence
    (0, (14, 16, 40, 40), 0.9),
    (0, (70, 12, 34, 30), 0.7),
    (0, (68, 66, 44, 48), 0.4),
    (1, (36, 40, 58, 50), 0.6),
    (1, (4, 92, 40, 24), 0.1),
    (2, (40, 40, 44, 36), 0.65),
)


def lovt() -> Example:
    """LoVT's average precision: the curve at one threshold."""
    matched = match(lovt_pool(overlaps(*_split())), (IOU,))
    plot = _curve(matched.hit[0], f"confidence ≥ {LOVT_CONFIDENCE:g}, IoU > {IOU:g}")
    shown = f"{LEGEND}The curve is that of IoU > {IOU:g}; the detection of confidence 0.1 is dropped."
    return _example((*_images(), plot), shown, "mAP@0.5", "mAP", "pos_mAP", "calibration_error", "lost_at_0.2")


def coco() -> Example:
    """COCO's average precision of the same detections: those of little confidence count, too."""
    matched = match(full_pool(overlaps(*_split())), (IOU,))
    plot = _curve(matched.hit[0], f"confidence ≥ 0.001, IoU ≥ {IOU:g}")
    shown = f"{LEGEND}All six detections count. A curve as drawn, for each of ten IoUs."
    return _example((*_images(), plot), shown, "coco_AP50", "coco_AP75", "coco_AP")


def mgca() -> Example:
    """MGCA's two averages: as released, the false alarm on the third image costs nothing."""
    shown = f"{LEGEND}The third image has a false alarm and no true box: the released code never looks at it."
    return _example(tuple(_images()), shown, "mAP_mgca", "mAP_mgca_all")


def free_response() -> Example:
    """FROC of the same detections."""
    hits = froc.centre_hits(full_pool(overlaps(*_split())))
    rates = np.linspace(0, 1.5, 151)
    curve, read = froc.read_interpolating(hits, rates=rates), froc.read_interpolating(hits)
    assert curve is not None
    assert read is not None
    axes = Axes("false positives per image", "share of boxes found", x_ends=(0, 1.5), x_ticks=(0, 0.5, 1, 1.5))
    dots = [axes.dot(rate, value) for rate, value in zip(read.rates, read.sensitivity, strict=True) if rate <= 1.5]
    values = ", ".join(f"{value:.2f} at {rate:g}" for rate, value in zip(read.rates, read.sensitivity, strict=True))
    line = axes.line(zip(rates.tolist(), curve.sensitivity, strict=True))
    plot = axes.picture(f"Share of boxes found: {values} false positives per image.", [line, *dots])
    shown = f"{LEGEND}A detection is its centre. Dots: the rates that are read, as far as drawn; beyond the end the last share counts."
    return _example((*_images(), plot), shown, "froc_full", "froc")


def _example(pictures: tuple[Picture, ...], shown: str, *names: str) -> Example:
    metrics = score_detection(*_split(), ("finding",)).metrics
    return Example("boxes", pictures, shown, {name: metrics[name] for name in names})


def _split() -> tuple[Detections, Boxes]:
    def arrays(rows: tuple) -> dict:
        n = len(rows)
        boxes = np.array([row[1] for row in rows], np.float64)
        return {"image": np.array([row[0] for row in rows]), "xywh": boxes, "label": np.zeros(n, np.int64), "n_images": 3, "frame": "drawn"}

    return Detections(**arrays(FOUND), confidence=np.array([row[2] for row in FOUND])), Boxes(**arrays(TRUTH))


def _images() -> Iterator[Picture]:
    for image in range(3):
        truth = [xywh for owner, xywh in TRUTH if owner == image]
        found = [(xywh, f"{confidence:g}") for owner, xywh, confidence in FOUND if owner == image]
        said = ", ".join(words for _, words in found)
        yield drawing.image(f"Image {image + 1}. True boxes: {len(truth)}. Detections of confidence {said}.", truth, found, SIDE)


def _curve(hit: np.ndarray, rule: str) -> Picture:
    """Precision over recall of detections by falling confidence, and what is averaged: the best precision from each recall on."""
    seen, found = np.arange(1, len(hit) + 1), np.cumsum(hit)
    precision, recall = found / seen, found / len(TRUTH)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    axes = Axes("recall", "precision")
    stairs, last = [], 0.0
    for reached, highest in zip(recall.tolist(), best.tolist(), strict=True):
        stairs += [(last, highest), (reached, highest)] if reached > last else []
        last = reached
    dots = [axes.dot(*point) for point in zip(recall.tolist(), precision.tolist(), strict=True)]
    said = ", ".join(f"{p:.2f} at recall {r:.2f}" for r, p in zip(recall.tolist(), precision.tolist(), strict=True))
    return axes.picture(f"Precision {said}; {rule}.", [axes.line(stairs), *dots])


EXAMPLES = {"detection": lovt, "coco": coco, "mgca": mgca, "froc": free_response}
