"""What a job calls: all metrics of a split by name, with the statistics its record keeps.

Selection functions give only what validation needs every epoch. Definitions, names and reasons are in the families' modules.

Formulas:
    negative_loss: -L; mean loss L of the head over the validation images
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import UsageError
from benchmark.metrics import dice, pixels
from benchmark.metrics.box_statistics import detection_statistics
from benchmark.metrics.boxes import Boxes, Detections
from benchmark.metrics.coco import coco_hits
from benchmark.metrics.dice import DiceCounts, MaskSlices
from benchmark.metrics.label_statistics import ClassificationStatistics, MeanStatistics, undefined_classes
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.mask_tally import ScoredMasks, tally
from benchmark.metrics.mgca import mgca_hits
from benchmark.metrics.overlaps import check_boxes, falling, overlaps
from benchmark.metrics.spec import INFINITE, VALIDATION_LOSS, MetricSpec
from benchmark.metrics.statistics import Statistics, pooled_metrics, undefined_reasons

_CHUNK = 16  # images looked at at once: what counting makes of them is several times their pixels

METRICS = tuple(
    MetricSpec(
        name="negative_loss",
        title="negative validation loss",
        target=target,
        needs=(VALIDATION_LOSS,),
        low=-INFINITE,
        high=INFINITE,
        selects=True,
    )
    for target in ("masks", "labels")
)


@dataclass(frozen=True)
class Scores:
    """Metrics of one split.

    Attributes:
        metrics: value by name, fractions in [0, 1], never NaN.
        statistics: what the metrics follow from, image by image (`metrics.statistics`).
        undefined: why a metric has no value here, by name.
    """

    metrics: dict[str, float]
    statistics: Statistics
    undefined: dict[str, str]


def segmentation_selection(counts: DiceCounts, class_names: Sequence[str]) -> dict[str, float]:
    """Validation metrics of a segmentation head, those that pixel counts give: `<class>_dice` for every class, `avg_dice`, and more."""
    return _selection(SegmentationStatistics(tuple(class_names), counts, lesions=None, surfaces=None))


def detection_selection(detections: Detections, truth: Boxes, class_names: Sequence[str]) -> dict[str, float]:
    """Validation metrics of a detection head: `mAP`, `mAP@0.5`, `mAP@0.75`; and where an image has a box `froc`, `froc_full`, MGCA's."""
    check_boxes("detections", detections)  # before they are sorted
    order = falling(detections)
    found = mgca_hits(detections, truth, len(class_names), order) if len(truth.image) else None
    return _selection(detection_statistics(overlaps(detections, truth, order), class_names, mgca_hits=found))


def score_segmentation(
    probabilities: np.ndarray | Iterable[np.ndarray],
    masks: MaskSlices,
    class_names: Sequence[str],
    true_masks: bool,
    batch_size: int | None = None,
) -> Scores:
    """All segmentation metrics of a split, in one pass over the predictions.

    Args:
        probabilities: (N, C, S, S) float32 in [0, 1], or consecutive chunks of it, each asked for when the last is done with.
        masks: (N, C, S, S) bool in the same frame, or what gives its slices: a memory map, or the masks of a part.
        class_names: C names, in channel order.
        true_masks: False for filled boxes, whose outlines mean nothing: no surface distance then.
        batch_size: of the test; None leaves out the metric that depends on it.

    Raises:
        UsageError: chunks and masks disagree in shape or number.
        TrainingError: a probability is not a number in [0, 1].
    """
    frame_pixels = int(masks.shape[2] * masks.shape[3])
    return _scores(tally(_in_frame(probabilities, masks, len(class_names)), class_names, true_masks, frame_pixels, batch_size))


def score_masks(found: Iterable[ScoredMasks], class_names: Sequence[str], true_masks: bool, batch_size: int | None = None) -> Scores:
    """All segmentation metrics of a split whose images are scored each in its own size; none that needs one size for all.

    Args:
        found: at least one image, in the split's order; each is asked for when the last is done with.
        class_names, true_masks, batch_size: as of `score_segmentation`.
    """
    return _scores(tally(found, class_names, true_masks, None, batch_size))


def score_detection(detections: Detections, truth: Boxes, class_names: Sequence[str]) -> Scores:
    """All detection metrics of a split.

    Args:
        detections: all images of the split after NMS, as confident as 0.001 or less: every family cuts for itself.
        truth: ground-truth boxes in the same frame.
        class_names: names of the labels 0 .. C - 1.

    Raises:
        FrameMismatch: the two were measured in different frames.
        UsageError: a label is not a class, or arrays disagree in length.
        TrainingError: a confidence or a coordinate of a true box is not finite.
    """
    check_boxes("detections", detections)  # before they are sorted
    order = falling(detections)
    hits = (rule(detections, truth, len(class_names), order=order) for rule in (coco_hits, mgca_hits))
    return _scores(detection_statistics(overlaps(detections, truth, order), class_names, *hits))


def classification_selection(scores: np.ndarray, truth: np.ndarray, class_names: Sequence[str], exclusive: bool) -> dict[str, float]:
    """Validation metrics of a classifier: (N, C) probabilities against (N, C) labels, those that are defined."""
    return score_classification(scores, truth, class_names, exclusive).metrics


def score_classification(
    scores: np.ndarray,
    truth: np.ndarray,
    class_names: Sequence[str],
    exclusive: bool,
    thresholds: np.ndarray | None = None,
    calibrated: bool = True,
) -> Scores:
    """All metrics of class scores.

    Args:
        scores: (N, C) float; probabilities when `calibrated`, else any scale.
        truth: (N, C) of 1, 0 and -1 (unknown).
        exclusive: each image has exactly one class.
        thresholds: (C,) chosen on validation.

    Raises:
        UsageError: shapes or labels that fit nothing.
        TrainingError: a score is not finite.
    """
    kept = None if thresholds is None else tuple(float(t) for t in thresholds)
    statistics = ClassificationStatistics(
        tuple(class_names), np.asarray(scores, np.float64), np.asarray(truth, np.int8), exclusive, kept, calibrated
    )
    found = _scores(statistics)
    missing = undefined_classes(statistics.truth, class_names)
    why = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    undefined = dict.fromkeys(found.undefined, why) if why else dict(found.undefined)
    if missing:
        undefined |= {f"mean over all {len(class_names)} classes": f"{why}; means cover the other {len(class_names) - len(missing)}"}
    return Scores(found.metrics, found.statistics, undefined)


def score_rows(names: Sequence[str], values: np.ndarray, image: np.ndarray, n_images: int) -> Scores:
    """Means of (n, len(names)) values of queries or phrases, each belonging to an image; NaN where undefined."""
    found = _scores(MeanStatistics(tuple(names), np.asarray(image, np.int64), np.asarray(values, np.float64), n_images))
    return Scores(found.metrics, found.statistics, dict.fromkeys(found.undefined, "no query or phrase defines it"))


def _selection(statistics: Statistics) -> dict[str, float]:
    values = {name: metric(None) for name, metric in pooled_metrics(statistics, selects=True).items()}
    return {name: value for name, value in values.items() if value is not None}


def _scores(statistics: Statistics) -> Scores:
    values = {name: metric(None) for name, metric in pooled_metrics(statistics).items()}
    why = undefined_reasons(statistics)
    return Scores(
        metrics={name: value for name, value in values.items() if value is not None},
        statistics=statistics,
        undefined={name: why[name] for name, value in values.items() if value is None},
    )


def _in_frame(probabilities: np.ndarray | Iterable[np.ndarray], masks: MaskSlices, n_classes: int) -> Iterator[ScoredMasks]:
    """Predictions beside their masks; raises as `score_segmentation`."""
    n_images = 0
    for chunk in _chunks(probabilities):
        mask = np.asarray(masks[n_images : n_images + len(chunk)], dtype=bool)
        if chunk.shape != mask.shape or chunk.shape[1] != n_classes:
            raise UsageError(
                f"Predictions of shape {chunk.shape} do not fit masks of shape {mask.shape} "
                f"from image {n_images} on, with {n_classes} classes."
            )
        yield ScoredMasks(dice.binarise(chunk), mask, pixels.count_pixels(chunk, mask))
        n_images += len(chunk)
    if n_images != len(masks) or n_images == 0:
        raise UsageError(f"Predictions cover {n_images} images, masks {len(masks)}.")


def _chunks(probabilities: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for chunk in [probabilities] if isinstance(probabilities, np.ndarray) else probabilities:
        yield from (np.asarray(chunk[start : start + _CHUNK]) for start in range(0, len(chunk), _CHUNK))
