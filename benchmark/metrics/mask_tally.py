"""Adds up what a record keeps of masks, a few images of one size at a time: all of one frame, or each in pixels of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.metrics import dice, lesions, pixels, surface
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.pixels import PixelCounts


@dataclass(frozen=True)
class ScoredMasks:
    """Masks of some images of one size.

    Attributes:
        predicted, true: (n, C, H, W) bool.
        pixels: the same pixels by probability; None where no more than the predicted masks is known.
        tolerance_px: distance within which two outlines agree.
    """

    predicted: np.ndarray
    true: np.ndarray
    pixels: PixelCounts | None
    tolerance_px: float = surface.TOLERANCE_PX


def tally(
    found: Iterable[ScoredMasks], class_names: Sequence[str], true_masks: bool, frame_pixels: int | None, batch_size: int | None
) -> SegmentationStatistics:
    """Statistics of a split.

    Args:
        found: consecutive images, each asked for when the last are done with; with `pixels` all of them or none.
        true_masks: False for filled boxes, whose outlines mean nothing: no surface distance then.
        frame_pixels: pixels of an image; None where they differ.
        batch_size: of the test; None leaves out the metric that depends on it.
    """
    counts, pieces, outlines, by_probability = [], [], [], []
    n_images = 0
    for some in found:
        counts.append(dice.count_overlap(some.predicted, some.true))
        pieces.append(lesions.find_lesions(some.predicted, some.true, first_image=n_images))
        if true_masks:
            outlines.append(surface.surface_distances(some.predicted, some.true, n_images, some.tolerance_px))
        if some.pixels is not None:
            by_probability.append(some.pixels)
        n_images += len(some.true)
    return SegmentationStatistics(
        tuple(class_names),
        dice.join(counts),
        lesions.join(pieces),
        surface.join(outlines) if true_masks else None,
        pixels.join(by_probability) if by_probability else None,
        frame_pixels=frame_pixels,
        batch_sizes=None if batch_size is None else dice.sizes_of_batches(n_images, batch_size),
    )
