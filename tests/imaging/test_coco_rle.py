"""Masks in COCO's run-length code: what pycocotools writes is read back, and what it would read without complaint is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from benchmark.errors import UsageError
from benchmark.imaging.coco_rle import decode, encode, extent, runs


def encoded(mask: np.ndarray) -> dict:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


@given(seed=st.integers(0, 2**32 - 1), side=st.sampled_from([1, 2, 7, 64]), share=st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]))
def test_masks_are_read_as_pycocotools_wrote_them(seed, side, share):
    rng = np.random.default_rng(seed)
    mask = rng.random((side, side)) < share
    if seed % 2:  # a box: long runs, and numbers smaller than the one before the last
        mask[:] = False
        mask[rng.integers(side) :, rng.integers(side) :] = True
    assert np.array_equal(decode(encoded(mask), side, "here"), mask)
    assert np.array_equal(coco_mask.decode(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))), mask)


def test_an_image_is_written_class_by_class_as_pycocotools_writes_each():
    masks = np.random.default_rng(1).random((3, 7, 7)) < 0.4
    masks[1] = False
    assert [code.decode() for code in encode(masks)] == [encoded(mask)["counts"] for mask in masks]


def test_plain_lists_of_runs_are_read_down_the_columns():
    mask = decode({"size": [3, 3], "counts": [1, 2, 3, 1, 2]}, 3, "here")
    assert mask.tolist() == [[False, False, True], [True, False, False], [True, False, False]]


FULL = encoded(np.eye(8, dtype=bool))["counts"]


@pytest.mark.parametrize(
    ("segmentation", "sentence"),
    [
        (None, "no COCO run-length code"),
        ([[1, 2, 3, 4, 5, 6]], "no COCO run-length code"),
        ({"counts": FULL}, "no COCO run-length code"),
        ({"size": [9, 8], "counts": FULL}, "9 x 8 pixels, its frame 8 x 8"),
        ({"size": [1, 1], "counts": "01"}, "1 x 1 pixels, its frame 8 x 8"),
        ({"size": [8, 8], "counts": FULL[:-1]}, r"ends at pixel \d+ of 64"),
        ({"size": [8, 8], "counts": FULL + "1"}, "ends at pixel 73 of 64"),
        ({"size": [8, 8], "counts": "P"}, "breaks off within a number"),
        ({"size": [8, 8], "counts": "0" + "o" * 12}, "breaks off within a number"),
        ({"size": [8, 8], "counts": "o" * 12 + "0"}, "breaks off within a number"),
        ({"size": [8, 8], "counts": ""}, "is empty"),
        ({"size": [8, 8], "counts": "0!"}, "the character '!'"),
        ({"size": [8, 8], "counts": [70, -6]}, "negative length"),
        ({"size": [8, 8], "counts": [60, 4.0]}, "no whole number"),
        ({"size": [8, 8], "counts": 64}, "a int; expected text"),
    ],
)
def test_what_is_no_code_of_this_frame_is_refused_with_its_place(segmentation, sentence):
    with pytest.raises(UsageError, match=f"row 3: .*{sentence}"):
        decode(segmentation, 8, "row 3")


def test_a_code_that_ends_early_is_no_other_mask():
    short = FULL[:-3]
    coco_mask.decode({"size": [8, 8], "counts": short.encode()})  # pycocotools says nothing and makes up the rest
    with pytest.raises(UsageError, match="cut off"):
        decode({"size": [8, 8], "counts": short}, 8, "here")


@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.02, 0.3, 1.0]))
def test_the_extent_of_a_code_is_that_of_its_mask(seed, share):
    mask = np.random.default_rng(seed).random((6, 9)) < share
    found = extent(runs(encoded(mask), (6, 9), "here"), 6)
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) if len(rows) else None
    # A run over the foot of a column touches both edges, so its rows are all of them.
    assert found == box
