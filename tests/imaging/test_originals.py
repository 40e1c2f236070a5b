"""Ground truth in original pixels: what readers say, to the bit, and masks drawn anew at the image's size."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.imaging.geometry import Frame
from benchmark.imaging.originals import Originals


def test_boxes_are_those_of_the_release_to_the_bit() -> None:
    boxes = [np.array([[10.3, 20.7, 5.1, 6.9], [1, 2, 3, 4]]), np.zeros((0, 4)), np.array([[7.0, 8.0, 9.0, 10.0]])]
    truth = Originals([Frame.of(64, 100, 32)] * 3, boxes, [None] * 3).truth([np.array([1, 0]), np.zeros(0, np.int64), np.array([2])])
    assert (truth.frame, truth.n_images) == ("original", 3)
    assert truth.image.tolist() == [0, 0, 2]
    assert truth.label.tolist() == [1, 0, 2]
    assert np.array_equal(truth.xywh, np.concatenate(boxes))


def test_masks_are_asked_for_at_the_images_size_one_image_at_a_time() -> None:
    asked: list[tuple[int, int]] = []

    def draw(shape: tuple[int, int]) -> np.ndarray:
        asked.append(shape)
        return np.ones((2, *shape), bool)

    originals = Originals([Frame.of(5, 9, 32), Frame.of(7, 3, 32)], [np.zeros((0, 4))] * 2, [draw, draw])
    assert originals.masks(1).shape == (2, 7, 3)
    assert asked == [(7, 3)]
    with pytest.raises(ValueError, match="image 0 has no masks"):
        Originals([Frame.of(5, 9, 32)], [np.zeros((0, 4))], [None]).masks(0)
