"""Deep images in 8 bits, linearly: the darkest pixel of an image becomes 0 and the brightest 255, as MIMIC-CXR-JPG was made.

For protocols that never equalise. An image of 8 bits stays as stored, as in copies of a release that somebody already brought to 8 bits.
"""

from __future__ import annotations

import numpy as np


def stretch(grey: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of (H, W) uint8 or uint16; one grey value alone becomes 0.

    Source: MIMIC-CXR-JPG's description of its conversion (docs/sources.md, MIMIC-CXR), without the equalisation that follows there.
    """
    if grey.dtype == np.uint8:
        return grey
    darkest, brightest = int(grey.min()), int(grey.max())
    levels = np.arange(np.iinfo(grey.dtype).max + 1, dtype=np.float64)
    table = np.rint(255 * (levels - darkest) / max(1, brightest - darkest)).clip(0, 255).astype(np.uint8)
    return table[grey]
