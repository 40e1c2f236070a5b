"""Arrays enter the frame as a dataset's images do; anything but grey pictures is refused by its place, shape and type."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.errors import UsageError
from benchmark.front.pictures import framed
from benchmark.imaging.equalise import equalise
from benchmark.imaging.geometry import Frame


def test_they_are_placed_as_a_datasets_are():
    image = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    found = framed([image, image.T], 32)
    np.testing.assert_array_equal(found.pixels[0], Frame.of(40, 60, 32).place_image(image))
    assert [(frame.height, frame.width) for frame in found.frames] == [(40, 60), (60, 40)]
    np.testing.assert_array_equal(framed(image[None], 32, "equalised").pixels[0], Frame.of(40, 60, 32).place_image(equalise(image)))


def test_sixteen_bits_are_taken_where_they_are_equalised_alone():
    deep = np.random.default_rng(0).integers(0, 4096, (1, 20, 20)).astype(np.uint16)
    assert framed(deep, 32, "equalised").pixels.dtype == np.uint8
    with pytest.raises(UsageError, match=r"Image 0 has shape \(20, 20\) and type uint16"):
        framed(deep, 32)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), r"Image 0 has shape \(8, 8, 3\)"),
        (np.zeros((8, 8), np.uint8), r"write images\[None\]"),
        ([np.zeros((8, 8), np.uint8), np.zeros((8, 8))], "Image 1 .* float64"),
        ([np.zeros((0, 8), np.uint8)], r"shape \(0, 8\)"),
    ],
)
def test_what_is_no_grey_picture_is_named(given, said: str):
    with pytest.raises(UsageError, match=said):
        framed(given, 32)
