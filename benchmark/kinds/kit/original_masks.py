"""Masks in the pixels of the original images: probabilities mapped back from the frame, counted beside the truth, coded, and scored again.

One image at a time lies in memory in its own size, one of its probability maps at that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from benchmark.errors import DataChanged, UsageError
from benchmark.imaging import coco_rle
from benchmark.imaging.geometry import Frame
from benchmark.imaging.originals import Originals
from benchmark.kinds.base import Part
from benchmark.metrics import anchors, pixels
from benchmark.metrics.dice import MASK_THRESHOLD
from benchmark.metrics.mask_tally import ScoredMasks

Codes = list[list[bytes]]
"""COCO's compressed run-length code of each image and class: N lists of C."""

TOLERANCE = 2 / 224  # of the longer side: two pixels of the frame that `surface.TOLERANCE_PX` is about, in any image


class BothCodes(NamedTuple):
    """Predicted masks of a split in the frame, and in original pixels as they were scored."""

    frame: Codes
    original: Codes


def scored(probabilities: Iterable[np.ndarray], part: Part, codes: Codes) -> Iterator[ScoredMasks]:
    """Predictions of a part beside the truth, image by image.

    Args:
        probabilities: consecutive (n, C, S, S) float32 in [0, 1].
        codes: gets the predicted masks.

    Raises:
        UsageError: predictions of more or fewer images than the part has.
        DataChanged: as `true_masks`.
    """
    n_images = 0
    for maps in itertools.chain.from_iterable(probabilities):
        if n_images == len(part):
            raise UsageError(f"Predictions cover more than the {n_images} images of the {part.name} part.")
        frame, true = _originals(part).frames[n_images], true_masks(part, n_images)
        predicted = np.zeros(true.shape, bool)
        counts = pixels.count_image(_binarised(maps, frame, predicted), true, pixels_apart(frame))
        codes.append(encode(predicted))
        yield ScoredMasks(predicted[None], true[None], counts, tolerance_px(frame))
        n_images += 1
    if n_images != len(part):
        raise UsageError(f"Predictions cover {n_images} of the {len(part)} images of the {part.name} part.")


def scored_again(predicted: Callable[[int, Frame], np.ndarray], part: Part) -> Iterator[ScoredMasks]:
    """Predicted masks of a part beside the truth, image by image.

    Args:
        predicted: of an image's place in the part and its frame, (C, height, width) bool.
    """
    for i, frame in enumerate(_originals(part).frames):
        yield ScoredMasks(predicted(i, frame)[None], true_masks(part, i)[None], None, tolerance_px(frame))


def mapped_back(maps: np.ndarray, frame: Frame) -> np.ndarray:
    """(C, height, width) bool from (C, S, S) float32 probabilities."""
    predicted = np.zeros((len(maps), frame.height, frame.width), bool)
    for _ in _binarised(maps, frame, predicted):
        pass
    return predicted


def true_masks(part: Part, image: int) -> np.ndarray:
    """(C, height, width) bool of an image of the part.

    Raises:
        DataChanged: they are not those that the frame's masks in the cache were made from.
    """
    originals = _originals(part)
    masks = originals.masks(image)
    if not np.array_equal(originals.frames[image].place_masks(masks), part.masks(np.array([image]))[0]):
        raise DataChanged(
            f"{part.cache.recipe.dataset}: a mask of the test split is another one now than when it was decoded; a file changed since. "
            "Run the same command again."
        )
    return masks


def dice_anchors(part: Part, class_names: Sequence[str], grid: int | None) -> dict[str, dict[str, float]]:
    """What the part gives away by itself (`metrics.anchors`), scored as predictions are."""
    frames = _originals(part).frames
    images = (anchors.TrueMasks(part.masks(np.array([i]))[0], true_masks(part, i), frame.map_to_original) for i, frame in enumerate(frames))
    return anchors.dice_anchors_of_images(images, class_names, grid, part.cache.recipe.size)


def encode(masks: np.ndarray) -> list[bytes]:
    """Codes of the (C, H, W) bool masks of one image."""
    return [coco_rle.encode(mask[None])[0] if mask.any() else _empty(mask.shape) for mask in masks]


def tolerance_px(frame: Frame) -> float:
    """Distance between outlines that is forgiven, in pixels of the original image."""
    return TOLERANCE * max(frame.height, frame.width)


def pixels_apart(frame: Frame) -> int:
    """Of how many pixels of a row one is counted by its probability: half of those under a pixel of the frame, and no less is told."""
    return max(int(0.5 / max(frame.scale_x, frame.scale_y)), 1)


def _binarised(maps: np.ndarray, frame: Frame, predicted: np.ndarray) -> Iterator[np.ndarray]:
    """Each map in original pixels; `predicted` is filled in as they are asked for."""
    for values, foreground in zip(maps, predicted, strict=True):
        whole = frame.map_to_original(values)
        np.greater_equal(whole, MASK_THRESHOLD, out=foreground)
        yield whole


def _originals(part: Part) -> Originals:
    if part.originals is None:
        raise TypeError(f"The {part.name} part is not scored in original pixels.")
    return part.originals


@lru_cache(maxsize=256)
def _empty(shape: tuple[int, int]) -> bytes:
    """Code of an empty mask: most masks of a release with many classes are, and coding one takes as long as any other."""
    return coco_rle.encode(np.zeros((1, *shape), bool))[0]
