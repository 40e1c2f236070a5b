"""What is too little to be tested, and the sentence that says so."""

from __future__ import annotations

import pytest

from benchmark.statistics.testable import has_low_power, why_untested


@pytest.mark.parametrize(
    ("n_runs", "n_patients", "n_with_finding", "told"),
    [
        (5, 30, 15, ""),
        (3, 30, None, ""),
        (None, 30, 15, ""),
        (2, 30, 15, "2 runs, a test needs 3"),
        (1, 30, 15, "1 run, a test needs 3"),
        (5, 29, 15, "29 test patients, a test needs 30"),
        (5, 30, 14, "14 test patients with the finding, a test needs 15"),
        (5, None, 15, "no statistics per image"),
    ],
)
def test_what_is_too_little_says_so(n_runs, n_patients, n_with_finding, told) -> None:
    found = why_untested(n_runs, n_patients, n_with_finding)
    assert told in found
    assert bool(found) == bool(told)


def test_three_and_four_runs_have_low_power() -> None:
    assert [has_low_power(n) for n in (3, 4, 5, None)] == [True, True, False, False]
