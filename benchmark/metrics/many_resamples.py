"""LoVT's average precision in many resamples at once: the same numbers as `matching.average_precisions`, several times as fast.

One resample is a column. Detections between two hits matter only by their number, so they are counted once per image and multiplied with
the copies of the images.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from benchmark.metrics.matching import RECALL_LEVELS, Matched

_CHUNK = 100  # resamples whose tables fit into a core's cache


def mean_average_precisions(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """(R,) float64 mean over thresholds of the mean over classes, of (R, n_images) copies of each image."""
    chunks = [_of_chunk(matched, np.asarray(weights[start : start + _CHUNK], np.float64)) for start in range(0, len(weights), _CHUNK)]
    return np.concatenate([np.zeros(0), *chunks])


def _of_chunk(matched: Matched, weights: np.ndarray) -> np.ndarray:
    found = np.zeros((len(weights), len(matched.thresholds), matched.n_classes))
    copies = np.ascontiguousarray(weights.T)
    for label, (image, places) in enumerate(matched.by_class):
        hit_somewhere = np.unique(np.concatenate(places))
        if len(hit_somewhere) == 0:
            continue
        n_truth = np.maximum(copies[matched.truth_image[matched.truth_label == label]].sum(axis=0), 1.0)
        seen = np.maximum(np.cumsum(_between(hit_somewhere, image, matched.n_images) @ copies, axis=0), 1.0)
        for t, at in enumerate(places):
            hits = np.cumsum(copies[image[at]], axis=0)
            precision = hits / seen[np.searchsorted(hit_somewhere, at)]
            best_from_here = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            recall = np.ascontiguousarray((hits / n_truth).T)
            for r, levels in enumerate(recall):
                reached = np.searchsorted(levels, RECALL_LEVELS, side="left")
                found[r, t, label] = best_from_here[reached[reached < len(levels)], r].sum() / len(RECALL_LEVELS)
    mean_ap: np.ndarray = found.mean(axis=2).mean(axis=1)
    return mean_ap


def _between(hits: np.ndarray, image: np.ndarray, n_images: int) -> sparse.csr_array:
    """(hits, n_images) how many detections of an image stand after the hit before and up to this one."""
    until = image[: hits[-1] + 1]
    row = np.searchsorted(hits, np.arange(len(until)))
    return sparse.coo_array((np.ones(len(until)), (row, until)), shape=(len(hits), n_images)).tocsr()
