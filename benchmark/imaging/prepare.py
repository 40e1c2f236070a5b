"""From a sample to what a job sees: decode, the dataset's intensity rule, the padded frame. Pure; the cache stores what comes out.

No normalisation and no channels here: both belong to protocol and backbone, and are applied on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from benchmark.cards import DatasetCard
from benchmark.errors import ImageError
from benchmark.imaging.equalise import equalise
from benchmark.imaging.geometry import Frame
from benchmark.imaging.stretch import stretch

Intensity = Literal["as-stored", "equalised", "stretched"]


RULES: dict[Intensity, Callable[[np.ndarray], np.ndarray]] = {"as-stored": lambda grey: grey, "equalised": equalise, "stretched": stretch}


class Source(Protocol):
    """What preparing and caching need of a sample; `benchmark.readers.base.Sample` has it."""

    @property
    def id(self) -> str: ...
    @property
    def image(self) -> Callable[[], np.ndarray]: ...
    @property
    def masks(self) -> Callable[[tuple[int, int]], np.ndarray] | None: ...
    @property
    def files(self) -> tuple[Path, ...]: ...


def intensity_under(card: DatasetCard, equalise: Literal["as-released", "never"]) -> Intensity:
    """The dataset's pixel rule under a protocol: deep images that are not equalised fit 8 bits only when they are stretched."""
    if equalise == "as-released":
        return card.intensity
    return "as-stored" if card.bits <= 8 else "stretched"


def prepare_image(sample: Source, intensity: Intensity, size: int) -> tuple[np.ndarray, Frame, np.ndarray | None]:
    """The pure function behind the cache: decode, apply the dataset's intensity rule, place in the padded frame.

    Returns:
        (size, size) uint8, the image's frame, and (C, size, size) bool, or None for a sample without masks.

    Raises:
        DataError: the image or its masks cannot be read, or 16-bit pixels meet the rule "as-stored", which is defined on 8 bits only.
    """
    grey = sample.image()
    grey = RULES[intensity](grey)
    if grey.dtype != np.uint8:
        named = ", ".join(map(str, sample.files))
        raise ImageError(f"{named} (id {sample.id}): 16-bit pixels, but the dataset card keeps intensities as stored, which needs 8 bits.")
    height, width = grey.shape
    frame = Frame.of(height, width, size)
    masks = None if sample.masks is None else frame.place_masks(sample.masks((height, width)))
    return frame.place_image(grey), frame, masks
