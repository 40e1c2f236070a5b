"""Binned pixel average precision: how well probabilities rank foreground above background, at every threshold at once.

Counts at one threshold live in `dice`. Pixels are binned per image, so that a record can keep the bins and every resample of images gives
the metric again: the number reported is the one read from the bins, not from the unrounded probabilities.

Formulas:
    pixel_ap: mean_c Σ_k (R_k - R_{k-1}) P_k; recall R_k and precision P_k of the pixels from the k-th highest bin of probability on
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmark.metrics.columns import Lists, narrow
from benchmark.metrics.spec import MetricSpec

# Bins are the leading bits of the float32 pattern, of p below one half and of 1 - p above: 32 bins per factor of two, so that two
# probabilities in one bin differ by at most 3.2 % of their distance to the nearer end of [0, 1]. Below 2**-24 all share the first bin,
# above 1 - 2**-24 the last. Equal bins enter together, which lowers the value: by less than 0.01 on the splits of the tests.
_SHIFT = 18
_SMALLEST = int(np.float32(2.0**-24).view(np.int32)) >> _SHIFT
_HALF = (int(np.float32(0.5).view(np.int32)) >> _SHIFT) - _SMALLEST
N_BINS = 2 * _HALF + 2
_BAND = 2**16  # pixels looked at at once: they stay in the processor's cache, which halves the time
COLUMNS = ("pixel_cell", "pixel_seen", "pixel_true")


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of every image by class and probability bin.

    Attributes:
        seen: (N, C, N_BINS) int32, all pixels; true: the same of those inside the mask.
    """

    seen: np.ndarray
    true: np.ndarray


def count_pixels(probabilities: np.ndarray, masks: np.ndarray) -> PixelCounts:
    """Counts the pixels of (n, C, H, W) float32 probabilities in [0, 1] with (n, C, H, W) bool masks."""
    n_images, n_classes = probabilities.shape[:2]
    row = np.arange(n_images * n_classes, dtype=np.int64)[:, None] * N_BINS
    cell = row + probability_bins(probabilities).reshape(len(row), math.prod(probabilities.shape[2:]))
    inside = masks.reshape(cell.shape)
    counts = [np.bincount(chosen, minlength=len(row) * N_BINS).astype(np.int32) for chosen in (cell.ravel(), cell[inside])]
    return PixelCounts(*(c.reshape(n_images, n_classes, N_BINS) for c in counts))


def count_image(probabilities: Iterable[np.ndarray], masks: np.ndarray, apart: int = 1) -> PixelCounts:
    """As `count_pixels` for one image of any size, a band at a time.

    Args:
        probabilities: C maps (H, W) float32 in [0, 1], each asked for when the last is done with.
        masks: (C, H, W) bool.
        apart: every so many pixels of a row and of a column one is looked at, and stands for its neighbours.
    """
    lattice = slice(apart // 2, None, apart)
    rows = [
        _count_map(np.ascontiguousarray(of_class[lattice, lattice]).reshape(-1), mask[lattice, lattice].reshape(-1))
        for of_class, mask in zip(probabilities, masks, strict=True)
    ]
    return PixelCounts(*(np.stack([row[k] for row in rows])[None] * np.int32(apart**2) for k in range(2)))


def join(chunks: Sequence[PixelCounts]) -> PixelCounts:
    """Counts of consecutive chunks of images as one."""
    return PixelCounts(np.concatenate([p.seen for p in chunks]), np.concatenate([p.true for p in chunks]))


def average_precision(counts: PixelCounts, weights: np.ndarray | None = None) -> np.ndarray:
    """(C,) sum over falling probability bins of (recall gained) x (precision); NaN for classes without a positive pixel.

    Equal bins enter together. `weights`: (N,) copies of each image; None takes every image once.
    """
    pooled = [_pooled(part, weights)[:, ::-1] for part in (counts.seen, counts.true)]
    seen, found = (np.cumsum(part, axis=1) for part in pooled)
    precision = np.divide(found, seen, out=np.zeros(found.shape), where=seen > 0)
    n_true = found[:, -1]
    per_class: np.ndarray = np.divide((pooled[1] * precision).sum(axis=1), n_true, out=np.full(len(n_true), np.nan), where=n_true > 0)
    return per_class


def pixel_ap(counts: PixelCounts, weights: np.ndarray | None = None) -> float | None:
    """Mean of `average_precision` over the classes that occur; None when none does."""
    per_class = average_precision(counts, weights)
    occurs = ~np.isnan(per_class)
    return float(per_class[occurs].mean()) if occurs.any() else None


def probability_bins(probabilities: np.ndarray) -> np.ndarray:
    """Bin numbers (int32) of probabilities in [0, 1], rising with the probability; same shape."""
    p = np.ascontiguousarray(probabilities, np.float32)
    bits = np.maximum((np.minimum(p, 1 - p).view(np.int32) >> _SHIFT) - _SMALLEST, 0)
    numbers: np.ndarray = np.where(p < 0.5, bits, N_BINS - 1 - bits)
    return numbers


def to_json(counts: PixelCounts) -> dict[str, Any]:
    """Shape and both counts; each is base64 of zlib of little-endian int32, since most bins of most images are empty."""
    packed = {name: base64.b64encode(zlib.compress(part.astype("<i4").tobytes())).decode() for name, part in vars(counts).items()}
    return {"shape": list(counts.seen.shape), "encoding": "base64 of zlib of little-endian int32", **packed}


def from_json(stored: dict[str, Any]) -> PixelCounts:
    """Raises ValueError or KeyError for anything that `to_json` did not write, such as more bytes than the shape has."""
    shape = tuple(int(n) for n in stored["shape"])
    n_bytes = 4 * int(np.prod(shape))
    if len(shape) != 3 or shape[2] != N_BINS:
        raise ValueError(f"pixel counts of shape {shape}, expected {N_BINS} bins")
    chunks = []
    for name in ("seen", "true"):
        decoder = zlib.decompressobj()
        try:
            raw = decoder.decompress(base64.b64decode(stored[name], validate=True), n_bytes + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if len(raw) != n_bytes:
            raise ValueError(f"pixel counts {name!r} do not fill their shape {shape}")
        chunks.append(np.frombuffer(raw, "<i4").astype(np.int32).reshape(shape))
    return PixelCounts(*chunks)


def to_columns(counts: PixelCounts) -> dict[str, Lists]:
    """Per image the cells (class x N_BINS + bin) that hold a pixel, and both counts in each: most bins of most images are empty."""
    n_images = len(counts.seen)
    seen, true = (part.reshape(n_images, math.prod(part.shape[1:])) for part in (counts.seen, counts.true))
    image, cell = np.nonzero((seen != 0) | (true != 0))
    each = np.bincount(image, minlength=n_images).astype(np.int64)
    return {name: Lists(each, narrow(values)) for name, values in zip(COLUMNS, (cell, seen[image, cell], true[image, cell]), strict=True)}


def from_columns(lists: Mapping[str, Lists], n_classes: int) -> PixelCounts:
    """Raises KeyError or ValueError for anything that `to_columns` did not write."""
    cells, *counted = (lists[name] for name in COLUMNS)
    cell, image, shape = cells.values.astype(np.int64), cells.image, (len(cells.counts), n_classes, N_BINS)
    if any(not np.array_equal(one.counts, cells.counts) for one in counted):
        raise ValueError("lists of different length")
    if np.any((cell < 0) | (cell >= n_classes * N_BINS)):
        raise ValueError(f"a pixel outside {n_classes} x {N_BINS} bins")
    chunks = []
    for one in counted:
        part = np.zeros((shape[0], n_classes * N_BINS), np.int32)
        part[image, cell] = one.values
        chunks.append(part.reshape(shape))
    return PixelCounts(*chunks)


def _count_map(probabilities: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N_BINS,) int32 of all (n,) pixels, and of those inside."""
    seen, true = np.zeros(N_BINS, np.int64), np.zeros(N_BINS, np.int64)
    for start in range(0, len(probabilities), _BAND):
        cell = probability_bins(probabilities[start : start + _BAND])
        seen += np.bincount(cell, minlength=N_BINS)
        true += np.bincount(cell[inside[start : start + _BAND]], minlength=N_BINS)
    return seen.astype(np.int32), true.astype(np.int32)


def _pooled(part: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """(C, N_BINS) int64 pixels of the split or of a resample; whole numbers, so that no order of images moves a digit."""
    summed: np.ndarray
    if weights is None:
        summed = part.sum(axis=0, dtype=np.int64)
    else:
        summed = np.tensordot(np.asarray(weights, np.float64), part, axes=1).astype(np.int64)
    return summed


METRICS = (
    MetricSpec(
        name="pixel_ap",
        title="pixel AP",
        target="masks",
        needs=("pixels",),
        compute=lambda masks: partial(pixel_ap, masks.pixels),
        undefined="no image has a positive pixel",
    ),
)
