"""Global histogram equalisation as LoVT's conversion applied it to four of its five datasets.

Computed on the table of grey levels instead of on every pixel: the same bytes as scikit-image, several times faster. A test holds the two
equal on real and random images.
"""

from __future__ import annotations

import numpy as np

_BINS = 256


def equalise(grey: np.ndarray) -> np.ndarray:
    """Maps each pixel to 255 times the share of pixels up to its grey level, truncated.

    Equal to the byte to `(255 * skimage.exposure.equalize_hist(grey / largest_value)).astype(uint8)`: 256 bins between the darkest and the
    brightest pixel, linear between bin centres.

    Args:
        grey: (H, W) uint8 or uint16.

    Returns:
        (H, W) uint8.

    Source: LoVT's conversion (docs/sources.md, LoVT).
    """
    n_levels = np.iinfo(grey.dtype).max + 1
    pixels_at = np.bincount(grey.ravel(), minlength=n_levels)
    present = np.flatnonzero(pixels_at)
    level_values = np.arange(n_levels) / (n_levels - 1)
    counts, edges = np.histogram(level_values[present], bins=_BINS, weights=pixels_at[present])
    share = counts.cumsum() / counts.sum()
    table = np.interp(level_values, (edges[:-1] + edges[1:]) / 2, share)
    return (255 * table).astype(np.uint8)[grey]
