"""LoVT's average precision in many resamples at once: the same numbers as `matching.average_precisions`, many times as fast.

One resample is a column. Detections between two hits matter only by their number, so they are counted once per image and multiplied with
the copies of the images. What a hit adds is its precision times the recall levels that it is the first to reach.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from benchmark.metrics.matching import RECALL_LEVELS, Matched

_CHUNK = 100  # resamples whose tables fit into a core's cache


def mean_average_precisions(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """(R,) float64 mean over thresholds of the mean over classes, of (R, n_images) copies of each image."""
    found = np.zeros((len(weights), len(matched.thresholds), matched.n_classes))
    for label, (image, places) in enumerate(matched.by_class):
        hits = np.unique(np.concatenate(places))  # at any threshold
        if len(hits) == 0:
            continue
        between, truth_image = _between(hits, image, matched.n_images), matched.truth_image[matched.truth_label == label]
        hits_at = [(np.searchsorted(hits, at), image[at]) for at in places]
        for start in range(0, len(weights), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            copies = np.ascontiguousarray(weights[chunk].T, np.float64)
            seen = np.maximum(np.cumsum(between @ copies, axis=0), 1.0)
            found[chunk, :, label] = _of_chunk(copies, seen, hits_at, np.maximum(copies[truth_image].sum(axis=0), 1.0))
    mean_ap: np.ndarray = found.mean(axis=2).mean(axis=1)
    return mean_ap


def _of_chunk(copies: np.ndarray, seen: np.ndarray, hits_at: Sequence[tuple[np.ndarray, np.ndarray]], n_truth: np.ndarray) -> np.ndarray:
    """(r, T) average precisions of one class.

    Args:
        copies: (n_images, r) of each image in each resample.
        seen: (hits, r) detections up to each hit.
        hits_at: per threshold, which of the hits are some there, and their images.
        n_truth: (r,) boxes.
    """
    found = np.zeros((copies.shape[1], len(hits_at)))
    for t, (among, image) in enumerate(hits_at):
        hits = np.cumsum(copies[image], axis=0)
        best_from_here = np.maximum.accumulate((hits / seen[among])[::-1], axis=0)[::-1]
        n_reached = np.searchsorted(RECALL_LEVELS, hits / n_truth, side="right")
        found[:, t] = (best_from_here * np.diff(n_reached, axis=0, prepend=0)).sum(axis=0) / len(RECALL_LEVELS)
    return found


def _between(hits: np.ndarray, image: np.ndarray, n_images: int) -> sparse.csr_array:
    """(hits, n_images) how many detections of an image stand after the hit before and up to this one."""
    until = image[: hits[-1] + 1]
    row = np.searchsorted(hits, np.arange(len(until)))
    return sparse.coo_array((np.ones(len(until)), (row, until)), shape=(len(hits), n_images)).tocsr()
