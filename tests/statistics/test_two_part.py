"""The two-part p against known values, against draws and against the convolution that it stands for, far into its tails."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from benchmark.statistics.families import holm
from benchmark.statistics.two_part import satterthwaite, satterthwaite_of_many, two_part_half_width, two_part_p

# difference, V_seed, its degrees of freedom, V_patient, its degrees of freedom; p; Holm's p over all five.
KNOWN = [
    (2, 0, 4, 1, 199, 0.046860, 0.093720),
    (3.5, 0.5, 4, 0.5, 199, 0.011195, 0.044780),
    (2.5, 1, 4, 0, 199, 0.066767, 0.093720),
    (9, 4, 4, 1, 59, 0.011913, 0.044780),
    (4, 0.1, 2, 0.9, 199, 0.007782, 0.038909),
]

# The same columns. By mpmath 1.3 with 40 digits, as the convolution of the density of one t and the tail of the other.
EXTREME = [
    (12, 0.5, 17, 0.5, 500, 7.13704962378e-12),
    (9, 0.3, 20, 0.7, 3999, 2.95787869082e-12),
    (40, 1, 4, 1, 199, 2.34878310525e-6),
    (300, 1, 4, 1e-8, 199, 7.40685874258e-10),
    (8, 1e-8, 4, 1, 199, 1.00614812651e-13),
    (25, 2, 2, 0.001, 29, 0.00318473770076),
    (3, 1e6, 4, 1e-6, 59, 0.997750004219),
    (5000, 1e6, 4, 1e6, 59, 0.01089751701),
]


def test_known_values_and_after_holm() -> None:
    d, v_seed, f_seed, v_patient, f_patient, p, adjusted = np.array(KNOWN).T
    found = two_part_p(-d, (v_seed, f_seed), (v_patient, f_patient))
    np.testing.assert_allclose(found, p, rtol=0, atol=5e-7)
    np.testing.assert_allclose(holm(found.tolist()), adjusted, rtol=0, atol=1e-6)


def test_p_far_below_one_and_variances_of_any_ratio_keep_their_digits() -> None:
    d, v_first, f_first, v_second, f_second, p = np.array(EXTREME).T
    np.testing.assert_allclose(two_part_p(d, (v_first, f_first), (v_second, f_second)), p, rtol=1e-8)
    np.testing.assert_allclose(two_part_p(d, (v_second, f_second), (v_first, f_first)), p, rtol=1e-8)


@pytest.mark.parametrize("f_first", [2, 4, 8.5, 20])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("size", [0.5, 2.0, 4.0])
def test_it_is_the_convolution_of_two_student_t(f_first: float, share: float, size: float) -> None:
    first, second = (share, f_first), (1 - share, 99)

    def beyond(u: float) -> float:
        return stats.t.sf((size - np.sqrt(share) * u) / np.sqrt(1 - share), 99) * stats.t.pdf(u, f_first)

    whole = 2 * sum(integrate.quad(beyond, *piece, epsabs=1e-13, limit=200)[0] for piece in ((-np.inf, 0), (0, np.inf)))
    assert two_part_p(size, first, second) == pytest.approx(whole, rel=1e-7)


def test_it_is_that_of_draws() -> None:
    rng = np.random.default_rng(0)
    error = np.sqrt(2.0) * rng.standard_t(3, 400_000) + 0.5 * rng.standard_t(40, 400_000)
    sizes = np.array([0.0, 1.0, 4.0, 12.0])
    drawn = np.mean(np.abs(error)[:, None] >= sizes, axis=0)
    np.testing.assert_allclose(two_part_p(sizes, (2.0, 3), (0.25, 40)), drawn, atol=0.003)


def test_a_part_that_vanishes_leaves_the_plain_t() -> None:
    assert two_part_p(1e-9, (1e-20, 4), (1.0, 40)) == pytest.approx(1.0)
    for p in (two_part_p(3.0, (1e-20, 4), (1.0, 40)), two_part_p(3.0, (0.0, np.inf), (1.0, 40))):
        assert p == pytest.approx(2 * stats.t.sf(3.0, 40), rel=1e-9)
    for p in (two_part_p(3.0, (1.0, 4), (1e-20, 40)), two_part_p(3.0, (1.0, 4), (0.0, 40))):
        assert p == pytest.approx(2 * stats.t.sf(3.0, 4), rel=1e-9)
    assert two_part_p([0.0, 1.0], (0.0, np.inf), (0.0, 40)).tolist() == [1.0, 0.0]
    assert two_part_half_width((0.0, np.inf), (1.0, 40)) == pytest.approx(stats.t.ppf(0.975, 40), rel=1e-9)
    assert two_part_half_width((1.0, 4), (0.0, np.inf)) == pytest.approx(stats.t.ppf(0.975, 4), rel=1e-9)
    assert two_part_half_width((0.0, np.inf), (0.0, 40)) == 0


def test_variances_known_for_certain_are_those_of_normal_variables() -> None:
    assert two_part_p(2.5, (0.5, np.inf), (0.5, np.inf)) == pytest.approx(2 * stats.norm.sf(2.5), rel=1e-5)


def test_one_t_of_both_parts_rejects_too_often_where_holm_reads_it() -> None:
    """The reason for two parts: at an equal share of both, p at 0.1 % is larger than one t says."""
    total, freedom = satterthwaite([(0.5, 4), (0.5, 199)])
    at = np.sqrt(total) * stats.t.isf(0.0005, freedom)
    assert two_part_p(at, (0.5, 4), (0.5, 199)) > 0.0015


@given(
    f_first=st.floats(2, 30),
    f_second=st.floats(20, 5000),
    log_ratio=st.floats(-8, 8),
    log_size=st.floats(-1, 1.5),
)
def test_p_falls_lies_between_its_bounds_and_turns_back_into_the_half_width(f_first, f_second, log_ratio, log_size) -> None:
    first, second = (10.0**log_ratio, f_first), (1.0, f_second)
    size = 10.0**log_size * np.sqrt(1 + first[0])
    p, farther = two_part_p([size, 1.01 * size], first, second)
    alone = [2 * stats.t.sf(size / np.sqrt(variance), freedom) for variance, freedom in (first, second)]
    assert max(alone) / 2 <= p * (1 + 1e-8)
    assert farther <= p <= 1
    half = two_part_half_width(first, second)
    assert two_part_p(half, first, second) == pytest.approx(0.05, rel=1e-7)
    assert two_part_p(two_part_half_width(first, second, level=0.005), first, second) == pytest.approx(0.005, rel=1e-7)


def test_many_at_once_are_each_alone_and_what_is_unknown_stays_so() -> None:
    sizes, variances = np.array([[0.0, 1.0, np.nan], [3.0, 5.0, 8.0]]), np.array([1.0, np.nan, 0.0])
    found = two_part_p(sizes, (variances, 4), (0.5, [[59], [199]]))
    assert found.shape == (2, 3)
    assert np.isnan(found).tolist() == [[False, True, True], [False, True, False]]
    assert found[1, 0] == two_part_p(3.0, (1.0, 4), (0.5, 199))
    assert found[1, 2] == two_part_p(8.0, (0.0, 4), (0.5, 199))
    halves = two_part_half_width((variances, 4), (0.5, 199))
    assert np.isnan(halves).tolist() == [False, True, False]
    assert halves[0] == pytest.approx(float(two_part_half_width((1.0, 4), (0.5, 199))))
    assert two_part_p([], ([], 4), ([], 59)).shape == two_part_half_width(([], 4), ([], 59)).shape == (0,)


def test_satterthwaite_sums_many_as_it_sums_one() -> None:
    total, freedom = satterthwaite_of_many([(np.array([1.0, 0.0, 2.0]), 4), (np.array([3.0, 0.0, 0.0]), 9)])
    assert total.tolist() == [4.0, 0.0, 2.0]
    assert freedom.tolist() == [16 / (1 / 4 + 1), np.inf, 4.0]
    assert satterthwaite([(1.0, 4), (3.0, 9)]) == (4.0, 16 / (1 / 4 + 1))
    assert satterthwaite([(0.0, 4)]) == satterthwaite([]) == (0, float("inf"))
