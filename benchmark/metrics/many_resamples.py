"""Average precisions and areas under curves in many resamples at once: the numbers of one at a time, many times as fast.

One resample is a column. What stands between two hits (or two positives) matters only by its number, so it is counted once per image and
multiplied with the copies of the images. What a hit adds to an average precision is its precision times the recall levels that it is the
first to reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import sparse

from benchmark.metrics.matching import RECALL_LEVELS, Matched

# Of one class in r resamples: (k, r) positives and (2 k + 1, r) negatives, as in `under_roc`, -> (r,).
Area = Callable[[np.ndarray, np.ndarray], np.ndarray]

_CHUNK = 100  # resamples whose tables fit into a core's cache


def mean_average_precisions(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """(R,) float64 means over thresholds and classes of `matching.average_precisions`, of (R, n_images) copies of each image."""
    boxes = [matched.truth_image[matched.truth_label == label] for label in range(matched.n_classes)]
    found, _ = of_hits(matched.by_class, boxes, RECALL_LEVELS, weights)
    mean_ap: np.ndarray = found.mean(axis=2).mean(axis=1)
    return mean_ap


def of_hits(
    by_class: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], boxes: Sequence[np.ndarray], levels: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Average precisions of every class at every threshold.

    Args:
        by_class: C times the image of each detection by falling confidence, and per threshold the places of hits among them.
        boxes: C times the image of each box.
        levels: recalls that are averaged over.
        weights: (R, n_images) copies of each image.

    Returns:
        (R, T, C) float64, 0 without a hit, and (R, C) float64 boxes.
    """
    n_thresholds = max((len(places) for _, places in by_class), default=0)
    found, n_boxes = np.zeros((len(weights), n_thresholds, len(by_class))), np.zeros((len(weights), len(by_class)))
    for label, ((image, places), image_of_box) in enumerate(zip(by_class, boxes, strict=True)):
        hits = np.unique(np.concatenate(places))  # at any threshold
        between = _counted(np.searchsorted(hits, np.arange(len(image))), image, (len(hits), weights.shape[1]))
        hits_at = [(np.searchsorted(hits, at), image[at]) for at in places]
        for chunk, copies in _chunks(weights):
            n_boxes[chunk, label] = copies[image_of_box].sum(axis=0)
            if len(hits):
                seen = np.maximum(np.cumsum(between @ copies, axis=0), 1.0)
                found[chunk, :, label] = _of_chunk(copies, seen, hits_at, np.maximum(n_boxes[chunk, label], 1.0), levels)
    return found, n_boxes


def of_scores(truth: np.ndarray, place: np.ndarray, area: Area, weights: np.ndarray) -> np.ndarray:
    """(R, C) float64 areas; NaN where a class has none.

    Args:
        truth: (N, C) 1 for a positive, 0 for a negative; all else is left out.
        place: (N, C) int64 place of the score among the distinct scores of its class, 0 the lowest.
        weights: (R, N) copies of each image.
    """
    tables = [_steps(*column) for column in zip(truth.T, place.T, strict=True)]
    found = np.full((len(weights), len(tables)), np.nan)
    for chunk, copies in _chunks(weights):
        for label, (positives, negatives) in enumerate(tables):
            found[chunk, label] = area(positives @ copies, negatives @ copies)
    return found


def _steps(truth: np.ndarray, place: np.ndarray) -> tuple[sparse.csr_array, sparse.csr_array]:
    """(k, N) which score each positive has, of the k that one has, and (2 k + 1, N) where each negative stands, as `under_roc` counts."""
    positive, negative = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    steps, step_of_positive = np.unique(place[positive], return_inverse=True)
    row = np.searchsorted(steps, place[negative]) + np.searchsorted(steps, place[negative], side="right")
    n_images = len(truth)
    return _counted(step_of_positive, positive, (len(steps), n_images)), _counted(row, negative, (2 * len(steps) + 1, n_images))


def by_chunk(values: Callable[[np.ndarray], np.ndarray], weights: np.ndarray) -> np.ndarray:
    """(R, ...) values of (R, n_images) weights, of which few at a time are made float64."""
    chunks = [values(weights[start : start + _CHUNK].astype(np.float64)) for start in range(0, max(len(weights), 1), _CHUNK)]
    return np.concatenate(chunks)


def under_roc(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(r,) as `classification.auroc`, to the bit.

    Args:
        positives: (k, r) positives at each score that one has, rising.
        negatives: (2 k + 1, r) negatives below the first of these scores, at it, between it and the next, and so on.
    """
    n_pairs = positives.sum(axis=0) * negatives.sum(axis=0)
    above = (positives * (np.cumsum(negatives, axis=0)[1::2] - negatives[1::2] / 2)).sum(axis=0)
    return _where(above, n_pairs)


def under_precision(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(r,) as `classification.average_precision`, up to rounding; arguments as for `under_roc`."""
    hits = np.cumsum(positives[::-1], axis=0)[::-1]
    seen = hits + np.cumsum(negatives[::-1], axis=0)[::-1][1::2]
    gained = positives * np.divide(hits, seen, out=np.zeros(hits.shape), where=seen > 0)
    return _where(gained.sum(axis=0), positives.sum(axis=0))


def _of_chunk(
    copies: np.ndarray, seen: np.ndarray, hits_at: Sequence[tuple[np.ndarray, np.ndarray]], n_boxes: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """(r, T) average precisions of one class.

    Args:
        copies: (n_images, r) of each image in each resample.
        seen: (hits, r) detections up to each hit.
        hits_at: per threshold, which of the hits are some there, and their images.
        n_boxes: (r,), at least 1.
    """
    found = np.zeros((copies.shape[1], len(hits_at)))
    for t, (among, image) in enumerate(hits_at):
        hits = np.cumsum(copies[image], axis=0)
        best_from_here = np.maximum.accumulate((hits / seen[among])[::-1], axis=0)[::-1]
        n_reached = np.searchsorted(levels, hits / n_boxes, side="right")
        found[:, t] = (best_from_here * np.diff(n_reached, axis=0, prepend=0)).sum(axis=0) / len(levels)
    return found


def _where(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return shares


def _chunks(weights: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of the weights, and (n_images, r) float64 of them."""
    for start in range(0, len(weights), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        yield chunk, np.ascontiguousarray(weights[chunk].T, np.float64)


def _counted(row: np.ndarray, image: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """(rows, n_images) how many of an image's entries belong to each row; those of rows beyond the last count nowhere."""
    inside = row < shape[0]
    return sparse.coo_array((np.ones(inside.sum()), (row[inside], image[inside])), shape=shape).tocsr()
