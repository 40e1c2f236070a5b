"""One word for a difference, by one rule."""

from __future__ import annotations

import pytest

from benchmark.statistics.verdict import is_equivalent, reproduction_verdict, verdict


@pytest.mark.parametrize(
    ("value", "adjusted_p", "word"),
    [
        (2.0, 0.05, "higher"),
        (-2.0, 0.001, "lower"),
        (2.0, 0.0501, "not told apart"),
        (0.0, 1.0, "not told apart"),
        (9.0, None, "not tested"),
    ],
)
def test_the_adjusted_p_decides_and_the_interval_does_not(value, adjusted_p, word) -> None:
    assert verdict(value, adjusted_p) == word
    assert verdict(value, adjusted_p, 0.1) == verdict(value, adjusted_p, 100.0) == word


WITHIN = {"margin": 2.0, "covers_patients": True}


def test_a_difference_surely_within_the_margin_is_none() -> None:
    assert verdict(0.5, 0.8, 1.5, **WITHIN) == "equivalent"
    assert verdict(-0.5, 0.8, 1.5, **WITHIN) == "equivalent"
    assert verdict(0.5, 0.001, 0.2, **WITHIN) == "equivalent"
    assert verdict(0.5, None, 1.0, **WITHIN) == "equivalent"
    assert verdict(0.5, 0.8, 1.51, **WITHIN) == "not told apart"
    assert verdict(5.0, 0.001, 1.0, **WITHIN) == "higher"


@pytest.mark.parametrize("lacks", [{"covers_patients": False}, {"lower_bound": True}, {"margin": None}])
def test_an_interval_that_is_too_narrow_proves_no_equivalence(lacks) -> None:
    assert verdict(0.0, 0.9, 0.5, **WITHIN | lacks) == "not told apart"


def test_without_an_interval_nothing_is_equivalent() -> None:
    assert not is_equivalent(0.0, None, 2.0, covers_patients=True, lower_bound=False)


@pytest.mark.parametrize(
    ("value", "half_width", "expected"),
    [
        (0.0, 1.9, "equivalent"),
        (1.5, 0.5, "equivalent"),
        (1.5, 0.6, "undecided"),
        (2.5, 0.4, "different"),
        (-2.5, 0.4, "different"),
        (2.5, 0.6, "undecided"),
        (0.0, None, "undecided"),
    ],
)
def test_a_reproduction_compares_the_interval_with_the_margin(value, half_width, expected) -> None:
    assert reproduction_verdict(value, half_width, 2.0, covers_patients=True, lower_bound=False) == expected
    for lacks in ({"covers_patients": False, "lower_bound": False}, {"covers_patients": True, "lower_bound": True}):
        found = reproduction_verdict(value, half_width, 2.0, **lacks)
        assert found == ("undecided" if expected == "equivalent" else expected)
