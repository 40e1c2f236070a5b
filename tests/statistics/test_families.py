"""Holm's correction, and that a test is corrected for its own family and for no other."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from benchmark.errors import UsageError
from benchmark.statistics.families import holm, holm_all_pairs, holm_by_family, holm_per_row


def test_holm_is_step_down() -> None:
    # Worked example: sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_tests_that_are_counted_and_not_shown_have_the_p_value_one() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p, n_more=3) == pytest.approx(holm([*p, 1.0, 1.0, 1.0])[:4])
    table = np.array([[1.0, 0.02, 0.2], [0.02, 1.0, 0.03], [0.2, 0.03, 1.0]])
    whole = np.ones((5, 5))
    whole[:3, :3] = table
    for rule in (holm_all_pairs, holm_per_row):
        np.testing.assert_allclose(rule(table, n_gone=2), rule(whole)[:3, :3])


def test_holm_rejects_what_the_sequential_procedure_rejects() -> None:
    """By definition: the smallest p against level / m, the next against level / (m - 1), until one fails."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.random(6) ** 3
        order = np.argsort(p)
        for level in (0.01, 0.05, 0.2):
            rejected = np.zeros(6, bool)
            for step, i in enumerate(order):
                if p[i] > level / (6 - step):
                    break
                rejected[i] = True
            assert (np.array(holm(p.tolist())) <= level).tolist() == rejected.tolist()


def test_adjusted_p_is_statsmodels() -> None:
    rng = np.random.default_rng(2)
    for n in (1, 2, 19, 200):
        p = rng.uniform(size=n) ** 3
        reject, adjusted, *_ = multipletests(p, alpha=0.05, method="holm")
        np.testing.assert_allclose(holm(p.tolist()), adjusted, rtol=1e-12)
        assert (np.array(holm(p.tolist())) <= 0.05).tolist() == reject.tolist()


def test_holm_forgets_the_order() -> None:
    p = [0.001, 0.02, 0.02, 0.7]
    expected = dict(zip(p, holm(p), strict=True))
    for turned in permutations(p):
        assert holm(list(turned)) == [expected[each] for each in turned]


def test_a_row_is_corrected_over_its_tasks_on_one_track_and_what_was_not_tested_is_no_test() -> None:
    def of(row: str, track: str, task: str, reference: str = "imagenet") -> tuple[str, ...]:
        return (row, reference, track, task)

    found = holm_by_family(
        {
            of("a", "linear", "t1"): 0.01,
            of("a", "linear", "t2"): 0.04,
            of("a", "linear", "t3"): None,
            of("a", "fine-tuned", "t1"): 0.03,
            of("b", "linear", "t1"): 0.03,
            of("b", "linear", "t1", "dinov2"): 0.02,
        },
        lambda test: test[:3],
    )
    assert list(found.values()) == [pytest.approx(0.02), pytest.approx(0.04), None, 0.03, 0.03, 0.02]


def test_all_pairs_are_one_family_and_each_row_is_one_of_its_own() -> None:
    p = np.full((3, 3), np.nan)
    for (i, j), each in {(0, 1): 0.01, (0, 2): 0.03, (1, 2): 0.02}.items():
        p[i, j] = p[j, i] = each
    np.testing.assert_allclose(holm_all_pairs(p), [[1, 0.03, 0.04], [0.03, 1, 0.04], [0.04, 0.04, 1]])
    np.testing.assert_allclose(holm_per_row(p), [[1, 0.02, 0.03], [0.02, 1, 0.02], [0.04, 0.04, 1]])


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (np.full((2, 3), 0.5), "shape \\(2, 3\\)"),
        (np.full((2, 2), np.nan), "every pair needs one p-value"),
        (np.array([[1, 0.1], [0.2, 1]]), "same in both orders"),
    ],
)
def test_a_table_that_is_none_is_refused(table: np.ndarray, told: str) -> None:
    for correct in (holm_all_pairs, holm_per_row):
        with pytest.raises(UsageError, match=told):
            correct(table)
