"""Arrays of pixels as a job sees them: the padded square frame, with the way back. What decodes files is `imaging`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import UsageError
from benchmark.imaging.geometry import Frame
from benchmark.imaging.prepare import RULES, Intensity

Images = np.ndarray | Sequence[np.ndarray]
"""(N, H, W) grey images, or a list of (H, W) ones of any sizes; uint8, or uint16 where the intensities are equalised or stretched."""


@dataclass(frozen=True)
class Framed:
    """
    Attributes:
        pixels: (N, S, S) uint8.
        frames: of each image.
    """

    pixels: np.ndarray
    frames: tuple[Frame, ...]


def framed(images: Images, size: int, intensity: Intensity = "as-stored") -> Framed:
    """Images in the frame of a task, as its training images were.

    Args:
        size: side of the frame in pixels.
        intensity: the dataset's rule.

    Raises:
        UsageError: something else than grey images was given; says which of them, its shape and its type.
    """
    placed, frames = [], []
    for place, image in enumerate(_each(images)):
        is_grey = image.dtype in (np.uint8, np.uint16) and bool(image.size)
        grey = RULES[intensity](image) if is_grey else image
        if grey.ndim != 2 or not grey.size or grey.dtype != np.uint8:
            raise UsageError(
                f"Image {place} has shape {image.shape} and type {image.dtype}; expected are grey images, (H, W) of uint8, 0 is black. "
                "Average the channels of a colour image, and scale others: (255 * (x - x.min()) / np.ptp(x)).astype('uint8')."
            )
        height, width = grey.shape
        frame = Frame.of(height, width, size)
        placed.append(frame.place_image(grey))
        frames.append(frame)
    return Framed(np.stack(placed) if placed else np.zeros((0, size, size), np.uint8), tuple(frames))


def _each(images: Images) -> list[np.ndarray]:
    if isinstance(images, np.ndarray) and images.ndim == 2:
        raise UsageError(f"One image of shape {images.shape} was given where several belong: write images[None].")
    return [np.asarray(image) for image in images]
