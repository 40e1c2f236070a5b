"""Segmentation: masks written and read again are the same masks, and a file with a row that makes no sense names it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.errors import FrameMismatch, UsageError
from benchmark.kinds.segmentation import MASKS_FILE, encode, read_masks


def test_masks_come_back_exactly_all_or_a_few(segmentation, write):
    job, part = segmentation
    masks = np.random.default_rng(1).random((len(part), 1, 64, 64)) > 0.7
    masks[0], masks[1] = False, True
    folder = write(job, part, encode(masks))
    found, ids, frame = read_masks(folder / MASKS_FILE)
    assert (ids, frame) == (part.ids, "padded-64")
    assert np.array_equal(found, masks)
    few, _, _ = read_masks(folder / MASKS_FILE, [3, 0])
    assert np.array_equal(few, masks[[3, 0]])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"annotations__segmentation": {"size": [1, 1], "counts": [0, 1]}},
            r"annotation 2 \(b\): the mask is 1 x 1 pixels, its frame 4 x 4",
        ),
        ({"annotations__segmentation": {"size": [4, 4], "counts": [0, 15]}}, r"annotation 2 \(b\): .* ends at pixel 15 of 16"),
        ({"annotations__segmentation": None}, r"annotation 2 \(b\): no COCO run-length code"),
    ],
)
def test_a_damaged_mask_names_its_row(by_hand, changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        read_masks(by_hand(**changes))


def test_a_second_mask_of_an_image_and_class_names_both_rows(by_hand):
    path = by_hand(annotations__image_id=7, annotations__category_id=2)
    with pytest.raises(UsageError, match=r"annotation 2 \(a\): a second mask of category 2, first in annotation 1"):
        read_masks(path)


@pytest.mark.parametrize("frame", ["original", "padded-", "padded-0", 224])
def test_masks_need_a_square_frame(by_hand, frame):
    with pytest.raises(FrameMismatch, match="padded-224"):
        read_masks(by_hand(frame=frame))
