"""Promises of the run-length code, against a decoder written the slow way from the release's description."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmark.errors import DataError
from benchmark.phantom.siim import relative_run_lengths
from benchmark.readers.kit.rle import decode_relative

masks = arrays.arrays(bool, st.tuples(st.integers(1, 13), st.integers(1, 17)))


def slow_decode(text: str, height: int, width: int) -> np.ndarray:
    """One pixel at a time, walking down the columns."""
    mask = np.zeros((height, width), dtype=bool)
    numbers = [] if text.strip() == "-1" else [int(t) for t in text.split()]
    row = column = 0
    for k, number in enumerate(numbers):
        for _ in range(number):
            mask[row, column] = k % 2 == 1
            row += 1
            if row == height:
                row, column = 0, column + 1
    return mask


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_decoding_agrees_with_walking_down_the_columns(height, width, data):
    numbers, left = [], height * width
    while left and len(numbers) < 12:
        numbers.append(data.draw(st.integers(0, left)))
        left -= numbers[-1]
    numbers = numbers[: len(numbers) // 2 * 2]
    text = " ".join(map(str, numbers)) or "-1"
    assert np.array_equal(decode_relative(text, height, width), slow_decode(text, height, width))


@given(masks)
def test_the_phantom_generators_own_encoder_is_read_back(mask):
    if mask.any():
        assert np.array_equal(decode_relative(relative_run_lengths(mask), *mask.shape), mask)


def test_an_asymmetric_mask_would_show_a_missing_transpose():
    # Three pixels down the second column of a 4 x 5 image: pixel numbers 4, 5, 6.
    expected = np.zeros((4, 5), dtype=bool)
    expected[0:3, 1] = True
    decoded = decode_relative("4 3", 4, 5)
    assert np.array_equal(decoded, expected)
    assert not np.array_equal(decode_relative("4 3", 4, 4), decode_relative("4 3", 4, 4).T)
    assert relative_run_lengths(expected) == "4 3"


def test_gaps_count_from_the_end_of_the_previous_run_and_from_pixel_zero():
    decoded = decode_relative("0 2 3 1", 10, 1)[:, 0]
    assert decoded.tolist() == [True, True, False, False, False, True, False, False, False, False]


def test_the_documented_example_lies_where_the_reference_says():
    # docs/sources.md, SIIM-ACR: "412345 3 1014 9 1008 15 1001 21" on 1024 x 1024.
    decoded = decode_relative("412345 3 1014 9 1008 15 1001 21", 1024, 1024)
    rows, columns = np.nonzero(decoded)
    assert decoded.sum() == 3 + 9 + 15 + 21
    assert (columns.min(), columns.max()) == (412345 // 1024, 412345 // 1024 + 3)
    assert rows[columns == columns.min()].tolist() == [412345 % 1024 + k for k in range(3)]


@pytest.mark.parametrize("text", ["-1", " -1", "-1 "])
def test_minus_one_is_an_empty_mask_with_or_without_blanks(text):
    assert not decode_relative(text, 6, 7).any()


def test_a_leading_blank_changes_nothing():
    assert np.array_equal(decode_relative(" 4 3 ", 5, 5), decode_relative("4 3", 5, 5))


def test_runs_may_end_at_the_last_pixel_but_not_beyond():
    assert decode_relative("0 20", 4, 5).all()
    with pytest.raises(DataError, match=r"ends at pixel 21, but the image has 20"):
        decode_relative("0 21", 4, 5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("4 3 2", "3 numbers, an odd count"),
        ("4 x", "number 2 of the run-length code is 'x', not a whole number"),
        ("4.0 3", "number 1 of the run-length code is '4.0', not a whole number"),
        ("1_0 3", "not a whole number"),
        ("4 -3", "number 2 of the run-length code is -3; gaps and runs are never negative"),
        ("-1 -1", "never negative"),
        ("99999999999999999999999 1", "but the image has 25"),
        ("   ", "the run-length code is empty"),
        ("", "the run-length code is empty"),
    ],
)
def test_a_malformed_code_names_its_row(text, sentence):
    with pytest.raises(DataError) as caught:
        decode_relative(text, 5, 5, where="siim: train-rle.csv line 7 (1.2.3)")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("siim: train-rle.csv line 7 (1.2.3): ")
