"""What a record keeps of a split's predictions: per-image sufficient statistics, from which every pooled metric is computed again.

The names of all pooled metrics are given here, once. Metrics take image weights, so bootstrap and permutation (`uncertainty`) need no
predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from benchmark.errors import UsageError
from benchmark.metrics import coco, detection, dice, froc, label_statistics, lesions, mgca, pixels, surface
from benchmark.metrics.dice import DiceCounts
from benchmark.metrics.label_statistics import ClassificationStatistics, LabelStatistics, MeanStatistics
from benchmark.metrics.lesions import Lesions
from benchmark.metrics.many_resamples import mean_average_precisions
from benchmark.metrics.overlaps import Overlaps, rank_within_image, stack
from benchmark.metrics.pixels import PixelCounts
from benchmark.metrics.surface import Surfaces

# (n_images,) int64 copies of each image, or None for the split itself -> value; None when undefined.
PooledMetric = Callable[[np.ndarray | None], float | None]


@dataclass(frozen=True)
class SegmentationStatistics:
    """Pixel counts, lesions, (true masks only) surfaces, and pixels by probability where there are probabilities and not only masks.

    Attributes:
        frame_pixels: pixels of an image; None in older records, which do not define `dice_with_background`.
        batch_sizes: (N,) int64 images in the test batch of each image, for the metric that depends on it; None where predictions were
            scored without batches.
    """

    class_names: tuple[str, ...]
    counts: DiceCounts
    lesions: Lesions
    surfaces: Surfaces | None
    pixels: PixelCounts | None = None
    frame_pixels: int | None = None
    batch_sizes: np.ndarray | None = None

    @property
    def n_images(self) -> int:
        return len(self.counts.tp)


@dataclass(frozen=True)
class DetectionStatistics:
    """Scored detections of a split with their IoU and centre hit on every ground-truth box they touch.

    Attributes:
        coco: (n,) int64 of `coco.coco_hits`, detection by detection; None where only LoVT's geometry was kept.
        mgca: (n,) int64 of `mgca.mgca_hits`; None there and in older records.
    """

    class_names: tuple[str, ...]
    table: Overlaps
    coco: np.ndarray | None = None
    mgca: np.ndarray | None = None

    @property
    def n_images(self) -> int:
        return self.table.n_images


Statistics = SegmentationStatistics | DetectionStatistics | LabelStatistics

# Detection metrics that read no detection under confidence 0.2.
LOVT_POOL = frozenset({"mAP", "mAP@0.5", "mAP@0.75", "pos_mAP", "froc"})


@dataclass(frozen=True)
class DicePool:
    """A micro Dice as a pooled metric: of one class, or (label None) the mean over classes. Sums of counts, so many resamples cost one
    matrix product."""

    counts: DiceCounts
    label: int | None

    def __call__(self, weights: np.ndarray | None = None) -> float:
        per_class = dice.micro_dice(self.counts, weights)
        return float(per_class.mean() if self.label is None else per_class[self.label])

    def many(self, weights: np.ndarray) -> np.ndarray:
        """(R,) float64 of (R, n_images) weights."""
        per_class = dice.micro_dice(self.counts, weights)
        return per_class.mean(axis=1) if self.label is None else per_class[:, self.label]


@dataclass(frozen=True)
class MapPool:
    """LoVT's mAP of matched detections as a pooled metric."""

    matched: detection.Matched

    def __call__(self, weights: np.ndarray | None = None) -> float:
        return float(detection.average_precisions(self.matched, weights).mean(axis=1).mean())

    def many(self, weights: np.ndarray) -> np.ndarray:
        """(R,) float64 of (R, n_images) weights."""
        return mean_average_precisions(self.matched, weights)


def detection_statistics(
    table: Overlaps, class_names: Sequence[str], coco_hits: np.ndarray | None = None, mgca_hits: np.ndarray | None = None
) -> DetectionStatistics:
    """Keeps the detections that some pool reads: confidence at least 0.001, and of those under 0.2 the 100 most confident per image."""
    among_first = rank_within_image(table.image) < detection.FULL_PER_IMAGE
    read = (table.confidence >= detection.FULL_CONFIDENCE) & (among_first | (table.confidence >= detection.LOVT_CONFIDENCE))
    hits = (None if found is None else found[read] for found in (coco_hits, mgca_hits))
    return DetectionStatistics(tuple(class_names), table.select(read), *hits)


def pooled_metrics(statistics: Statistics) -> dict[str, PooledMetric]:
    """Every metric that the statistics define, by name. Matching is done here, once; calls are cheap."""
    return {name: made() for name, made in _makers(statistics).items()}


def pooled_metric(statistics: Statistics, name: str) -> PooledMetric:
    """One metric of `pooled_metrics`, without the work that the others need.

    Raises:
        UsageError: the statistics do not define it.
    """
    known = _makers(statistics)
    if name not in known:
        raise UsageError(f"Metric {name!r} cannot be computed from stored statistics; these can: {', '.join(known)}.")
    return known[name]()


def defines(statistics: Statistics, name: str) -> bool:
    return name in _makers(statistics)


def values_in(metric: PooledMetric, weights: np.ndarray) -> np.ndarray:
    """(R,) float64 of a pooled metric in R resamples, (R, n_images) copies of each image; NaN where it is undefined."""
    if isinstance(metric, DicePool | MapPool):
        return metric.many(weights)
    return np.array([metric(row.astype(np.int64)) for row in weights], np.float64)


def reduced_to(statistics: Statistics, name: str) -> Statistics:
    """What `pooled_metric(..., name)` reads, and as little else as possible: small enough to keep those of many runs at hand."""
    if isinstance(statistics, SegmentationStatistics):
        if name.endswith("_dice"):
            none = np.zeros(0, np.int64)
            return SegmentationStatistics(statistics.class_names, statistics.counts, Lesions(none, none, none, none), None)
        return statistics
    if isinstance(statistics, DetectionStatistics) and name in LOVT_POOL:
        return DetectionStatistics(statistics.class_names, detection.lovt_pool(statistics.table))
    return statistics


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
        order = np.argsort(-np.concatenate([first.table.confidence, second.table.confidence]), kind="stable")  # as `stack` does
        pairs = ((first.coco, second.coco), (first.mgca, second.mgca))
        hits = (None if a is None or b is None else np.concatenate([a, b])[order] for a, b in pairs)
        return DetectionStatistics(first.class_names, stack(first.table, second.table), *hits)
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
        first.frame_pixels if first.frame_pixels == second.frame_pixels else None,
        None if first.batch_sizes is None or second.batch_sizes is None else np.concatenate([first.batch_sizes, second.batch_sizes]),
    )


def json_for(stored: dict[str, Any], name: str) -> dict[str, Any]:
    """Stored statistics without the large parts that one metric does not read, so that they need not be decoded."""
    unread = {"pixels"} if name != "pixel_ap" else set()
    unread |= {"coco"} if not name.startswith("coco_") else set()
    unread |= {"mgca"} if not name.startswith(mgca.RELEASED) else set()
    return {part: None if part in unread else value for part, value in stored.items()}


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
            "frame_pixels": statistics.frame_pixels,
            "batch_sizes": None if statistics.batch_sizes is None else statistics.batch_sizes.tolist(),
        }
    table = statistics.table
    return {
        "kind": "detection",
        "classes": list(statistics.class_names),
        "frame": table.frame,
        "n_images": table.n_images,
        "detections": _lists(table, ("image", "label", "confidence")),
        "coco": None if statistics.coco is None else statistics.coco.tolist(),
        "mgca": None if statistics.mgca is None else statistics.mgca.tolist(),
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


def _makers(statistics: Statistics) -> dict[str, Callable[[], PooledMetric]]:
    """Name -> what makes the metric; work that several share is done once, when the first of them is made."""
    if isinstance(statistics, SegmentationStatistics):
        return _segmentation_makers(statistics)
    if isinstance(statistics, DetectionStatistics):
        return _detection_makers(statistics)
    return {name: partial(_itself, metric) for name, metric in label_statistics.metrics_of(statistics).items()}


def _segmentation_makers(statistics: SegmentationStatistics) -> dict[str, Callable[[], PooledMetric]]:
    counts = statistics.counts

    def of_size(size: str, weights: np.ndarray | None = None) -> float | None:
        return lesions.lesion_sensitivity(statistics.lesions, weights)[size]

    metrics: dict[str, PooledMetric] = {f"{name}_dice": DicePool(counts, label) for label, name in enumerate(statistics.class_names)}
    metrics["avg_dice"] = DicePool(counts, None)
    for name in ("pooled_dice", "pos_dice", "image_dice_positives", "image_dice_all", "negatives_empty", "precision", "recall", "iou"):
        metrics[name] = partial(getattr(dice, name), counts)
    if statistics.batch_sizes is not None:
        metrics["image_dice_batches"] = partial(dice.image_dice_batches, counts, statistics.batch_sizes)
    if statistics.frame_pixels is not None:
        metrics["dice_with_background"] = partial(dice.dice_with_background, counts, statistics.frame_pixels)
    for size in lesions.SIZES:
        metrics[f"lesion_sensitivity_{size}"] = partial(of_size, size)
    if statistics.surfaces is not None:
        metrics["nsd"] = partial(surface.mean_nsd, statistics.surfaces)
    if statistics.pixels is not None:
        metrics["pixel_ap"] = partial(pixels.pixel_ap, statistics.pixels)
    return {name: partial(_itself, metric) for name, metric in metrics.items()}


def _detection_makers(statistics: DetectionStatistics) -> dict[str, Callable[[], PooledMetric]]:
    table, n_classes = statistics.table, len(statistics.class_names)
    cut, full = cache(lambda: detection.lovt_pool(table)), cache(lambda: detection.full_pool(table))
    matched = cache(lambda: detection.match(cut(), n_classes=n_classes))

    def matched_at(threshold: float) -> PooledMetric:
        return MapPool(detection.match(cut(), (threshold,), n_classes))

    def positives() -> PooledMetric:
        found = matched()
        return lambda weights=None: detection.pooled_map(found, weights).pos_mean

    def carried_forward() -> PooledMetric:
        hits = froc.centre_hits(cut())

        def value(weights: np.ndarray | None = None) -> float | None:
            # LoVT scores a split without boxes by the absence of false positives; LOBE calls that undefined.
            boxes = len(table.truth_image) if weights is None else np.sum(np.asarray(weights)[table.truth_image])
            return froc.read_carrying_forward(hits, weights).mean if boxes else None

        return value

    def interpolated() -> PooledMetric:
        hits = froc.centre_hits(full())

        def value(weights: np.ndarray | None = None) -> float | None:
            curve = froc.read_interpolating(hits, weights)
            return None if curve is None else curve.mean

        return value

    makers: dict[str, Callable[[], PooledMetric]] = {
        "mAP": lambda: MapPool(matched()),
        "mAP@0.5": partial(matched_at, 0.5),
        "mAP@0.75": partial(matched_at, 0.75),
        "pos_mAP": positives,
        "froc": carried_forward,
        "AP40_75_full": lambda: MapPool(detection.match(full(), n_classes=n_classes)),
        "froc_full": interpolated,
        "calibration_error": lambda: detection.calibration(table),
        "lost_at_0.2": lambda: detection.lost_at(table),
    }
    if statistics.coco is not None:
        found = coco.CocoHits(table.n_images, table.image, table.label, statistics.coco, table.truth_image, table.truth_label)
        for name, at in (("coco_AP", None), ("coco_AP50", 0), ("coco_AP75", 5)):
            makers[name] = partial(_itself, partial(coco.average_precision, found, at))
    if statistics.mgca is not None:
        hits = coco.CocoHits(
            table.n_images, table.image, table.label, statistics.mgca, table.truth_image, table.truth_label, len(mgca.THRESHOLDS)
        )
        makers |= {name: partial(_itself, metric) for name, metric in mgca.metrics_of(hits).items()}
    if n_classes > 1:
        for label, name in enumerate(statistics.class_names):
            makers[f"{name}_mAP"] = lambda label=label: partial(_mean_ap_of_class, matched(), label)
    return makers


def _itself(metric: PooledMetric) -> PooledMetric:
    return metric


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
    frame_pixels, batches = stored.get("frame_pixels"), stored.get("batch_sizes")
    batch_sizes = None if batches is None else np.array(batches, np.int64)
    if frame_pixels is not None and (type(frame_pixels) is not int or frame_pixels < 1):
        raise ValueError(f"frames of {frame_pixels!r} pixels")
    if batch_sizes is not None and (batch_sizes.shape != (len(counts.tp),) or (batch_sizes < 1).any()):
        raise ValueError("batch sizes that do not fit the images")
    return SegmentationStatistics(classes, counts, found, surfaces, counted, frame_pixels, batch_sizes)


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
    hits = {name: None if stored.get(name) is None else np.array(stored[name], np.int64) for name in ("coco", "mgca")}
    for (name, found), thresholds in zip(hits.items(), (coco.THRESHOLDS, mgca.THRESHOLDS), strict=True):
        if found is not None and (len(found) != table.n_detections or np.any((found < coco.UNCOUNTED) | (found >= 2 ** len(thresholds)))):
            raise ValueError(f"hits of {name} that do not fit the detections")
    return DetectionStatistics(tuple(stored["classes"]), table, **hits)
