"""Promises of `benchmark.imaging.prepare`: equalise before padding, one frame for image and masks, no silent loss of bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.errors import ImageError
from benchmark.imaging.equalise import equalise
from benchmark.imaging.geometry import Frame
from benchmark.imaging.prepare import prepare_image

GREY = np.random.RandomState(0).randint(40, 200, (60, 91)).astype(np.uint8)
MASKS = np.random.RandomState(1).rand(2, 60, 91) > 0.7


@dataclass(frozen=True)
class Toy:
    image: Any = lambda: GREY
    masks: Any = None
    id: str = "case-7"
    files: tuple[Path, ...] = (Path("folder/case-7.png"),)


def test_stored_pixels_are_padded_and_resized() -> None:
    image, frame, masks = prepare_image(Toy(), "as-stored", 32)
    assert frame == Frame.of(60, 91, 32)
    assert (image == frame.place_image(GREY)).all()
    assert masks is None


def test_equalisation_comes_before_padding() -> None:
    """Padding first would put a peak of zeros into the histogram and darken nothing else evenly."""
    image, frame, _ = prepare_image(Toy(), "equalised", 32)
    assert (image == frame.place_image(equalise(GREY))).all()
    padded = np.pad(GREY, ((frame.pad_top, frame.pad_top), (frame.pad_left, frame.pad_left)))
    assert (image != Frame.of(*padded.shape, 32).place_image(equalise(padded))).any()


def test_masks_are_asked_for_at_the_images_size_and_share_its_frame() -> None:
    asked: list[tuple[int, int]] = []

    def masks(shape: tuple[int, int]) -> np.ndarray:
        asked.append(shape)
        return MASKS

    _, frame, placed = prepare_image(Toy(masks=masks), "as-stored", 32)
    assert asked == [(60, 91)]
    assert (placed == frame.place_masks(MASKS)).all()


def test_sixteen_bits_need_an_intensity_rule_that_is_defined_on_them() -> None:
    deep = Toy(image=lambda: GREY.astype(np.uint16) * 256)
    assert prepare_image(deep, "equalised", 32)[0].dtype == np.uint8
    with pytest.raises(ImageError, match=r"case-7\.png \(id case-7\): 16-bit"):
        prepare_image(deep, "as-stored", 32)
