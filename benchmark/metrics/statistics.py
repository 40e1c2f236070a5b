"""What a record keeps of a split's predictions: per-image sufficient statistics, from which every pooled metric is computed again.

The names of all pooled metrics are given here, once. Metrics take image weights, so bootstrap and permutation (`uncertainty`) need no
predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmark.errors import UsageError
from benchmark.metrics import coco, detection, dice, froc, label_statistics, lesions, pixels, surface
from benchmark.metrics.dice import DiceCounts
from benchmark.metrics.label_statistics import ClassificationStatistics, LabelStatistics, MeanStatistics
from benchmark.metrics.lesions import Lesions
from benchmark.metrics.overlaps import Overlaps, rank_within_image, stack
from benchmark.metrics.pixels import PixelCounts
from benchmark.metrics.surface import Surfaces

# (n_images,) int64 copies of each image, or None for the split itself -> value; None when undefined.
PooledMetric = Callable[[np.ndarray | None], float | None]


@dataclass(frozen=True)
class SegmentationStatistics:
    """Pixel counts, lesions, (true masks only) surfaces, and pixels by probability where there are probabilities and not only masks."""

    class_names: tuple[str, ...]
    counts: DiceCounts
    lesions: Lesions
    surfaces: Surfaces | None
    pixels: PixelCounts | None = None

    @property
    def n_images(self) -> int:
        return len(self.counts.tp)


@dataclass(frozen=True)
class DetectionStatistics:
    """Scored detections of a split with their IoU and centre hit on every ground-truth box they touch.

    Attributes:
        coco: (n,) int64 of `coco.coco_hits`, detection by detection; None where only LoVT's geometry was kept.
    """

    class_names: tuple[str, ...]
    table: Overlaps
    coco: np.ndarray | None = None

    @property
    def n_images(self) -> int:
        return self.table.n_images


Statistics = SegmentationStatistics | DetectionStatistics | LabelStatistics


def detection_statistics(table: Overlaps, class_names: Sequence[str], coco_hits: np.ndarray | None = None) -> DetectionStatistics:
    """Keeps the detections that some pool reads: confidence at least 0.001, and of those under 0.2 the 100 most confident per image."""
    among_first = rank_within_image(table.image) < detection.FULL_PER_IMAGE
    read = (table.confidence >= detection.FULL_CONFIDENCE) & (among_first | (table.confidence >= detection.LOVT_CONFIDENCE))
    return DetectionStatistics(tuple(class_names), table.select(read), None if coco_hits is None else coco_hits[read])


def pooled_metrics(statistics: Statistics) -> dict[str, PooledMetric]:
    """Every metric that the statistics define, by name. Matching is done here, once; calls are cheap."""
    if isinstance(statistics, SegmentationStatistics):
        return _segmentation_metrics(statistics)
    if isinstance(statistics, DetectionStatistics):
        return _detection_metrics(statistics)
    return label_statistics.metrics_of(statistics)


def pooled_metric(statistics: Statistics, name: str) -> PooledMetric:
    """One metric of `pooled_metrics`.

    Raises:
        UsageError: the statistics do not define it.
    """
    known = pooled_metrics(statistics)
    if name not in known:
        raise UsageError(f"Metric {name!r} cannot be computed from stored statistics; these can: {', '.join(known)}.")
    return known[name]


def stack_statistics(first: Statistics, second: Statistics) -> Statistics:
    """Two methods over the same images as one split of twice the length (`overlaps.stack`).

    Raises:
        UsageError: they are of different kind, classes or length.
    """
    if type(first) is not type(second) or first.class_names != second.class_names or first.n_images != second.n_images:
        raise UsageError(
            f"Cannot compare statistics of {first.n_images} images, classes {list(first.class_names)}, "
            f"with {second.n_images} images, classes {list(second.class_names)}."
        )
    if isinstance(first, ClassificationStatistics | MeanStatistics):
        return label_statistics.stack(first, second)
    if isinstance(first, DetectionStatistics):
        hits = None
        if first.coco is not None and second.coco is not None:
            order = np.argsort(-np.concatenate([first.table.confidence, second.table.confidence]), kind="stable")  # as `stack` does
            hits = np.concatenate([first.coco, second.coco])[order]
        return DetectionStatistics(first.class_names, stack(first.table, second.table), hits)
    n = first.n_images
    later = second.lesions
    surfaces = None
    if first.surfaces is not None and second.surfaces is not None:
        surfaces = surface.join([first.surfaces, Surfaces(second.surfaces.image + n, second.surfaces.label, second.surfaces.nsd)])
    return SegmentationStatistics(
        first.class_names,
        dice.join([first.counts, second.counts]),
        lesions.join([first.lesions, Lesions(later.image + n, later.label, later.area, later.covered)]),
        surfaces,
        None if first.pixels is None or second.pixels is None else pixels.join([first.pixels, second.pixels]),
    )


def to_json(statistics: Statistics) -> dict[str, Any]:
    """Statistics as lists and numbers, exact: `from_json` gives the same values back to the last bit."""
    if isinstance(statistics, ClassificationStatistics | MeanStatistics):
        return label_statistics.to_json(statistics)
    if isinstance(statistics, SegmentationStatistics):
        return {
            "kind": "segmentation",
            "classes": list(statistics.class_names),
            "counts": _lists(statistics.counts, ("tp", "fp", "fn")),
            "lesions": _lists(statistics.lesions, ("image", "label", "area", "covered")),
            "surfaces": None if statistics.surfaces is None else _lists(statistics.surfaces, ("image", "label", "nsd")),
            "pixels": None if statistics.pixels is None else pixels.to_json(statistics.pixels),
        }
    table = statistics.table
    return {
        "kind": "detection",
        "classes": list(statistics.class_names),
        "frame": table.frame,
        "n_images": table.n_images,
        "detections": _lists(table, ("image", "label", "confidence")),
        "coco": None if statistics.coco is None else statistics.coco.tolist(),
        "truth": {"image": table.truth_image.tolist(), "label": table.truth_label.tolist()},
        "pairs": {
            "detection": table.pair_detection.tolist(),
            "truth": table.pair_truth.tolist(),
            "iou": table.pair_iou.tolist(),
            "centre": table.pair_centre.astype(int).tolist(),
        },
    }


def from_json(stored: dict[str, Any]) -> Statistics:
    """Reads what `to_json` wrote.

    Raises:
        UsageError: something else was given, or its lists contradict each other.
    """
    readers = {
        "segmentation": _segmentation_from_json,
        "detection": _detection_from_json,
        "classification": label_statistics.classification_from_json,
        "means": label_statistics.means_from_json,
    }
    try:
        return readers[stored["kind"]](stored)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"These are not sufficient statistics of a record: {type(error).__name__}: {error}.") from None


def _segmentation_metrics(statistics: SegmentationStatistics) -> dict[str, PooledMetric]:
    counts = statistics.counts

    def of_class(label: int, weights: np.ndarray | None = None) -> float:
        return float(dice.micro_dice(counts, weights)[label])

    metrics: dict[str, PooledMetric] = {f"{name}_dice": partial(of_class, label) for label, name in enumerate(statistics.class_names)}
    for name in ("avg_dice", "pooled_dice", "pos_dice", "image_dice_positives", "negatives_empty", "precision", "recall", "iou"):
        metrics[name] = partial(getattr(dice, name), counts)

    def of_size(size: str, weights: np.ndarray | None = None) -> float | None:
        return lesions.lesion_sensitivity(statistics.lesions, weights)[size]

    for size in lesions.SIZES:
        metrics[f"lesion_sensitivity_{size}"] = partial(of_size, size)
    if statistics.surfaces is not None:
        metrics["nsd"] = partial(surface.mean_nsd, statistics.surfaces)
    if statistics.pixels is not None:
        metrics["pixel_ap"] = partial(pixels.pixel_ap, statistics.pixels)
    return metrics


def _detection_metrics(statistics: DetectionStatistics) -> dict[str, PooledMetric]:
    table, n_classes = statistics.table, len(statistics.class_names)
    cut, full = detection.lovt_pool(table), detection.full_pool(table)
    matched = detection.match(cut, n_classes=n_classes)
    matched_50, matched_75 = (detection.match(cut, (t,), n_classes) for t in (0.5, 0.75))
    matched_full = detection.match(full, n_classes=n_classes)
    hits, hits_full = froc.centre_hits(cut), froc.centre_hits(full)

    def carried_forward(weights: np.ndarray | None = None) -> float | None:
        # LoVT scores a split without boxes by the absence of false positives; LOBE calls that undefined.
        boxes = len(table.truth_image) if weights is None else np.sum(np.asarray(weights)[table.truth_image])
        return froc.read_carrying_forward(hits, weights).mean if boxes else None

    def interpolated(weights: np.ndarray | None = None) -> float | None:
        curve = froc.read_interpolating(hits_full, weights)
        return None if curve is None else curve.mean

    metrics: dict[str, PooledMetric] = {
        "mAP": partial(_mean_ap, matched),
        "mAP@0.5": partial(_mean_ap, matched_50),
        "mAP@0.75": partial(_mean_ap, matched_75),
        "pos_mAP": lambda weights=None: detection.pooled_map(matched, weights).pos_mean,
        "froc": carried_forward,
        "AP40_75_full": partial(_mean_ap, matched_full),
        "froc_full": interpolated,
        "calibration_error": detection.calibration(table),
        "lost_at_0.2": detection.lost_at(table),
    }
    if statistics.coco is not None:
        found = coco.CocoHits(table.n_images, table.image, table.label, statistics.coco, table.truth_image, table.truth_label)
        metrics["coco_AP"] = partial(coco.average_precision, found, None)
        metrics["coco_AP50"] = partial(coco.average_precision, found, 0)
        metrics["coco_AP75"] = partial(coco.average_precision, found, 5)
    if n_classes > 1:
        for label, name in enumerate(statistics.class_names):
            metrics[f"{name}_mAP"] = partial(_mean_ap_of_class, matched, label)
    return metrics


def _mean_ap(matched: detection.Matched, weights: np.ndarray | None = None) -> float:
    return float(detection.average_precisions(matched, weights).mean(axis=1).mean())


def _mean_ap_of_class(matched: detection.Matched, label: int, weights: np.ndarray | None = None) -> float:
    return float(detection.average_precisions(matched, weights)[:, label].mean())


def _lists(source: Any, names: Sequence[str]) -> dict[str, list]:
    return {name: getattr(source, name).tolist() for name in names}


def _segmentation_from_json(stored: dict[str, Any]) -> SegmentationStatistics:
    classes = tuple(stored["classes"])
    counts = DiceCounts(*(np.array(stored["counts"][name], np.int64).reshape(-1, len(classes)) for name in ("tp", "fp", "fn")))
    found = Lesions(*(np.array(stored["lesions"][name], np.int64) for name in ("image", "label", "area", "covered")))
    kept = stored["surfaces"]
    surfaces = kept and Surfaces(np.array(kept["image"], np.int64), np.array(kept["label"], np.int64), np.array(kept["nsd"], np.float64))
    by_probability = stored.get("pixels")
    counted = by_probability and pixels.from_json(by_probability)
    if counted is not None and counted.seen.shape[:2] != counts.tp.shape:
        raise ValueError("pixel counts of other images or classes")
    return SegmentationStatistics(classes, counts, found, surfaces, counted)


def _detection_from_json(stored: dict[str, Any]) -> DetectionStatistics:
    detections, truth, pairs = stored["detections"], stored["truth"], stored["pairs"]
    table = Overlaps(
        n_images=int(stored["n_images"]),
        frame=str(stored["frame"]),
        image=np.array(detections["image"], np.int64),
        label=np.array(detections["label"], np.int64),
        confidence=np.array(detections["confidence"], np.float64),
        truth_image=np.array(truth["image"], np.int64),
        truth_label=np.array(truth["label"], np.int64),
        pair_detection=np.array(pairs["detection"], np.int64),
        pair_truth=np.array(pairs["truth"], np.int64),
        pair_iou=np.array(pairs["iou"], np.float64),
        pair_centre=np.array(pairs["centre"], bool),
    )
    lengths = {len(table.image), len(table.label), len(table.confidence)}
    pair_lengths = {len(table.pair_detection), len(table.pair_truth), len(table.pair_iou), len(table.pair_centre)}
    if len(lengths) > 1 or len(pair_lengths) > 1 or len(table.truth_image) != len(table.truth_label):
        raise ValueError("lists of different length")
    for name, index, n in (
        ("image", table.image, table.n_images),
        ("truth image", table.truth_image, table.n_images),
        ("pair detection", table.pair_detection, table.n_detections),
        ("pair truth", table.pair_truth, table.n_truth),
    ):
        if len(index) and not (index.min() >= 0 and index.max() < n):
            raise ValueError(f"a {name} index outside 0 to {n - 1}")
    if np.any(np.diff(table.confidence) > 0):
        raise ValueError("detections are not sorted by falling confidence")
    hits = None if stored.get("coco") is None else np.array(stored["coco"], np.int64)
    if hits is not None and (len(hits) != table.n_detections or np.any((hits < coco.UNCOUNTED) | (hits >= 2 ** len(coco.THRESHOLDS)))):
        raise ValueError("COCO hits that do not fit the detections")
    return DetectionStatistics(tuple(stored["classes"]), table, hits)
