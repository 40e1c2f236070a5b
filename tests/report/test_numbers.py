"""Intervals and digits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.report import numbers


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (0.16378, 0.0128, "16.4 ± 1.3"),
        (0.0845, 0.0085, "8.5 ± 0.9"),
        (0.4917, 0.0465, "49 ± 5"),
        (0.5155, 0.0, "51.5 ± 0.0"),
        (0.46329, 0.00023, "46.33 ± 0.02"),
        (0.5, 0.2, "50 ± 20"),
        (0.4, 0.00951, "40.0 ± 1.0"),
        (0.1, None, "10.0"),
        (-0.0004, None, "0.0"),
    ],
)
def test_digits_follow_the_uncertainty(value, half_width, text):
    assert numbers.percent(value, half_width) == text


def test_differences_always_carry_a_sign():
    assert numbers.signed_points(2.13, 0.8) == "+2.1 ± 0.8"
    assert numbers.signed_points(-2.13, 0.8) == "-2.1 ± 0.8"


def test_t_interval_of_five_values_by_hand():
    # mean 3, s = sqrt(2.5), t(0.975, 4) = 2.7764
    assert numbers.t_half_width([1, 2, 3, 4, 5]) == pytest.approx(2.7764451 * math.sqrt(2.5 / 5), rel=1e-6)
    assert numbers.t_half_width([1.0]) is None


@given(st.lists(st.floats(1e-12, 1e12) | st.floats(-1e12, -1e-12) | st.just(0.0), max_size=20), st.integers(3, 6))
def test_significant_digits_are_those_that_are_printed(values, digits):
    found = numbers.significant(values, digits)
    assert all(isinstance(value, float) for value in found)
    # A tie may fall to either side: the last digit is one of a picture.
    assert found == pytest.approx([float(f"{value:.{digits}g}") for value in values], rel=1.01 * 10.0 ** (1 - digits))
    assert [len(repr(value)) <= max(len(repr(float(f"{value:.{digits}g}"))), digits + 7) for value in found] == [True] * len(found)


def test_significant_digits_of_what_is_not_known_are_a_gap():
    assert numbers.significant([[0.123456, -math.inf], [math.inf, math.nan]], 3) == [[0.123, None], [None, None]]
    assert numbers.significant(np.array([123456.7, -0.00098765, 9.99996, 0.0]), 5) == [123460.0, -0.00098765, 10.0, 0.0]
    assert numbers.significant([], 5) == []
