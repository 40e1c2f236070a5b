"""Pixel average precision: how well probabilities rank foreground above background, at every threshold at once.

Counts at one threshold live in `dice`. A split has a quarter of a billion pixels, so they are binned, not sorted.
"""

from __future__ import annotations

import numpy as np

# Bins are the leading bits of the float32 pattern, of p below one half and of 1 - p above: 13 bits of mantissa, so that two probabilities
# in one bin differ by less than 0.02 % of their distance to the nearer end of [0, 1]. Below 2**-40 all share the first bin.
_SHIFT = 10
_SMALLEST = int(np.float32(2.0**-40).view(np.int32)) >> _SHIFT
_HALF = (int(np.float32(0.5).view(np.int32)) >> _SHIFT) - _SMALLEST
_BINS = 2 * _HALF + 2


class PixelHistogram:
    """Pixels by class and probability bin; grows by chunks of a split and forgets the images.

    The average precision read from it equals scikit-learn's on probabilities rounded to the bins: equal values enter together.
    """

    def __init__(self, n_classes: int):
        self._all = np.zeros((n_classes, _BINS), np.int64)
        self._true = np.zeros((n_classes, _BINS), np.int64)

    def add(self, probabilities: np.ndarray, masks: np.ndarray) -> None:
        """Counts the pixels of (n, C, H, W) float32 probabilities in [0, 1] with (n, C, H, W) bool masks."""
        for label in range(len(self._all)):
            bins = probability_bins(probabilities[:, label])
            self._all[label] += np.bincount(bins.ravel(), minlength=_BINS)
            self._true[label] += np.bincount(bins[masks[:, label]], minlength=_BINS)

    def average_precision(self) -> np.ndarray:
        """(C,) sum over falling probability bins of (recall gained) x (precision); NaN for classes without a positive pixel."""
        found, seen = (np.cumsum(counts[:, ::-1], axis=1) for counts in (self._true, self._all))
        precision = np.divide(found, seen, out=np.zeros(found.shape), where=seen > 0)
        n_true = found[:, -1]
        gained = (self._true[:, ::-1] * precision).sum(axis=1)
        return np.divide(gained, n_true, out=np.full(len(n_true), np.nan), where=n_true > 0)


def probability_bins(probabilities: np.ndarray) -> np.ndarray:
    """Bin numbers (int32) of probabilities in [0, 1], rising with the probability; same shape."""
    p = np.ascontiguousarray(probabilities, np.float32)
    bits = np.maximum((np.minimum(p, 1 - p).view(np.int32) >> _SHIFT) - _SMALLEST, 0)
    return np.where(p < 0.5, bits, _BINS - 1 - bits)
