"""Which detection touches which ground-truth box, computed once per split; every detection metric reads this table.

Matching, averaging and counting live in `detection` and `froc`. The table is sparse, so that a resample of images costs no new geometry:
it is also what a record keeps (`statistics`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from benchmark.errors import TrainingError, UsageError
from benchmark.metrics.boxes import Boxes, Detections, require_same_frame

_PAIRS = 2**16  # whose geometry is computed at once


@dataclass(frozen=True)
class Overlaps:
    """Detections of a split by falling confidence, and every pair of detection and truth of one image and class that touch.

    Equal confidences keep image order, then the order in which the head returned them.

    Attributes:
        n_images: images in the split, those without boxes included.
        frame: coordinate frame both sides were measured in.
        image, label: (n,) int64 of the detections; confidence: (n,) float64 in [0, 1], falling.
        truth_image, truth_label: (m,) int64 of the ground-truth boxes, in the order given.
        pair_detection, pair_truth: (p,) int64, indices into the two lists above, sorted by detection, then truth.
        pair_iou: (p,) float64 in [0, 1], intersection over union with LoVT's one pixel added to every side.
        pair_centre: (p,) bool, the detection's centre lies in the truth (edges included). A pair is kept when this or the IoU is not zero.
    """

    n_images: int
    frame: str
    image: np.ndarray
    label: np.ndarray
    confidence: np.ndarray
    truth_image: np.ndarray
    truth_label: np.ndarray
    pair_detection: np.ndarray
    pair_truth: np.ndarray
    pair_iou: np.ndarray
    pair_centre: np.ndarray

    @property
    def n_detections(self) -> int:
        return len(self.image)

    @property
    def n_truth(self) -> int:
        return len(self.truth_image)

    def select(self, chosen: np.ndarray) -> Overlaps:
        """The table of the detections where `chosen` ((n,) bool) holds; ground truth and order stay."""
        position = np.cumsum(chosen) - 1
        kept = chosen[self.pair_detection]
        return Overlaps(
            n_images=self.n_images,
            frame=self.frame,
            image=self.image[chosen],
            label=self.label[chosen],
            confidence=self.confidence[chosen],
            truth_image=self.truth_image,
            truth_label=self.truth_label,
            pair_detection=position[self.pair_detection[kept]],
            pair_truth=self.pair_truth[kept],
            pair_iou=self.pair_iou[kept],
            pair_centre=self.pair_centre[kept],
        )


def overlaps(detections: Detections, truth: Boxes, order: np.ndarray | None = None) -> Overlaps:
    """Builds the table for all images of a split.

    IoU has one pixel added to widths and heights (LoVT's released code); boxes may leave the frame, as LoVT does not clip them. A detection
    that overflowed is in the table and touches nothing.

    Args:
        order: `falling(detections)`, where it is known already.

    Raises:
        FrameMismatch: the two were measured in different frames or over different images.
        TrainingError: a confidence or a coordinate of a true box is not finite.
        UsageError: arrays of unequal length, an image index outside the split, a negative side, a confidence outside [0, 1].
    """
    require_same_frame(detections, truth)
    check_boxes("detections", detections)
    check_boxes("ground truth", truth)
    order = falling(detections) if order is None else order
    image = np.asarray(detections.image, np.int64)[order]
    label = np.asarray(detections.label, np.int64)[order]
    truth_image, truth_label = np.asarray(truth.image, np.int64), np.asarray(truth.label, np.int64)
    pair_detection, pair_truth = pairs_of_one_image_and_class(image, label, truth_image, truth_label)
    touching, iou, inside = _touching(detections.xywh, truth.xywh, order[pair_detection], pair_truth)
    return Overlaps(
        n_images=truth.n_images,
        frame=truth.frame,
        image=image,
        label=label,
        confidence=np.asarray(detections.confidence, np.float64)[order],
        truth_image=truth_image,
        truth_label=truth_label,
        pair_detection=pair_detection[touching],
        pair_truth=pair_truth[touching],
        pair_iou=iou,
        pair_centre=inside,
    )


def falling(detections: Detections) -> np.ndarray:
    """(n,) int64 order of an `Overlaps` table: falling confidence, then image, then the order given."""
    image = np.asarray(detections.image)
    if np.all(image[1:] >= image[:-1]):  # as a head gives them: one stable sort is a third of the work
        return np.argsort(-detections.confidence, kind="stable")
    return np.lexsort((image, -detections.confidence))


def rank_within_image(image: np.ndarray) -> np.ndarray:
    """(n,) int64: how many detections of the same image stand earlier in the list. `image`: (n,) int64 in falling confidence."""
    # NumPy sorts numbers of 16 bits ten times as fast as those of 64.
    order = np.argsort(image.astype(np.uint16) if image.min(initial=0) >= 0 and image.max(initial=0) < 2**16 else image, kind="stable")
    ordered = image[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(image)])
    rank = np.empty(len(image), np.int64)
    rank[order] = np.arange(len(image)) - np.repeat(first, np.diff(np.r_[first, len(image)]))
    return rank


def check_boxes(what: str, boxes: Boxes) -> None:
    """Raises TrainingError for values that may not be infinite, UsageError for arrays that make no sense."""
    lengths = {f.name: len(getattr(boxes, f.name)) for f in fields(boxes) if f.name not in ("n_images", "frame")}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"The {what} have arrays of different length: {lengths}.")
    if np.shape(boxes.xywh) != (len(boxes.image), 4):
        raise UsageError(f"The {what} need boxes of shape ({len(boxes.image)}, 4), found {np.shape(boxes.xywh)}.")
    outside = (boxes.image < 0) | (boxes.image >= boxes.n_images)
    if outside.any():
        raise UsageError(f"The {what} name image {boxes.image[outside][0]}, but the split has {boxes.n_images} images, counted from 0.")
    if np.min(boxes.label, initial=0) < 0:
        raise UsageError(f"The {what} have a class of {np.min(boxes.label)}; classes count from 0.")
    negative = boxes.xywh[:, 2:] < 0
    if negative.any():
        raise UsageError(f"The {what} have a box with a side of {boxes.xywh[:, 2:][negative].min()}; boxes are x, y, width, height.")
    bad = int(np.count_nonzero(~np.isfinite(boxes.confidence if isinstance(boxes, Detections) else boxes.xywh)))
    if bad:
        raise TrainingError(f"The {what} hold {bad} values that are not finite; the job that made them diverged.")
    if isinstance(boxes, Detections) and len(boxes.image) and not (boxes.confidence.min() >= 0 and boxes.confidence.max() <= 1):
        raise UsageError(f"Confidences leave [0, 1]: {boxes.confidence.min()} to {boxes.confidence.max()}; are these logits?")


def pairs_of_one_image_and_class(
    image: np.ndarray, label: np.ndarray, truth_image: np.ndarray, truth_label: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(p,) indices of detections and of ground-truth boxes, for every pair of one image and class, sorted by detection, then truth."""
    n_labels = 1 + max(label.max(initial=0), truth_label.max(initial=0))
    group, truth_group = image * n_labels + label, truth_image * n_labels + truth_label
    by_group = np.argsort(truth_group, kind="stable")
    in_group = np.bincount(truth_group, minlength=1 + int(group.max(initial=0)))
    met = np.flatnonzero(in_group[group])  # detections of an image and class that has truth: few of many
    count, start = in_group[group[met]], (np.cumsum(in_group) - in_group)[group[met]]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(met, count), by_group[np.repeat(start, count) + within]


def _touching(
    xywh: np.ndarray, truth_xywh: np.ndarray, detection: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(p,) bool, which pairs touch; of these, IoU and whether the detection's centre lies in the truth. A part of the pairs at a time."""
    touching = np.zeros(len(detection), bool)
    ious, insides = [np.zeros(0)], [np.zeros(0, bool)]
    for start in range(0, len(detection), _PAIRS):
        some = slice(start, start + _PAIRS)
        boxes = np.asarray(xywh[detection[some]], np.float64)
        measured = np.flatnonzero(np.isfinite(boxes).all(axis=1))  # an overflowed box touches nothing
        detected, true = _corners(boxes[measured]), _corners(truth_xywh[truth[some][measured]])
        iou = _iou_plus_one(detected, true)
        centre = (detected[:, :2] + detected[:, 2:]) / 2
        inside = np.all((centre >= true[:, :2]) & (centre <= true[:, 2:]), axis=1)
        kept = (iou > 0) | inside
        touching[start + measured[kept]] = True
        ious.append(iou[kept])
        insides.append(inside[kept])
    return touching, np.concatenate(ious), np.concatenate(insides)


def _corners(xywh: np.ndarray) -> np.ndarray:
    """(n, 4) float64 x1, y1, x2, y2."""
    xywh = np.asarray(xywh, np.float64)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _iou_plus_one(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(p,) IoU of corner boxes, row by row; operations in the order of `mean_average_precision`, so that ties at a threshold agree."""

    def area(box: np.ndarray) -> np.ndarray:
        product: np.ndarray = (box[:, 2] - box[:, 0] + 1.0) * (box[:, 3] - box[:, 1] + 1.0)
        return product

    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    sides = np.maximum(high - low + 1.0, 0.0)
    shared = sides[:, 0] * sides[:, 1]
    iou: np.ndarray = shared / (area(second) + area(first) - shared)
    return iou
