"""Pre-trained against untrained."""

from __future__ import annotations

import pytest

from benchmark.report.differences import gains
from benchmark.report.rows import rows_of

TRAINED = {"backbone": "mine", "digest": "a" * 64}


def test_runs_with_the_same_seeds_are_compared_pairwise(make):
    (gain,) = gains(rows_of(make.runs([0.10, 0.20, 0.30]) + make.runs([0.15, 0.25, 0.35], **TRAINED)))
    assert gain.paired
    assert gain.difference.value == pytest.approx(0.05)
    assert gain.reading == "higher"
    assert gain.text.startswith("+5.0")


def test_an_interval_across_zero_is_not_a_gain(make):
    (gain,) = gains(rows_of(make.runs([0.10, 0.30, 0.20]) + make.runs([0.15, 0.20, 0.30], **TRAINED)))
    assert gain.reading == "not told apart"


def test_runs_with_other_seeds_are_compared_as_independent(make):
    trained = [make.record(v, run=run + 10, **TRAINED) for run, v in enumerate([0.5, 0.51, 0.52])]
    (gain,) = gains(rows_of(make.runs([0.1, 0.11, 0.12]) + trained))
    assert not gain.paired
    assert gain.reading == "higher"


def test_no_difference_across_architectures_protocols_or_gaps(make):
    random = make.runs([0.1, 0.2])
    assert gains(rows_of(random + make.runs([0.3, 0.4], model="resnet18", **TRAINED))) == []
    assert gains(rows_of(random + make.runs([0.3, 0.4], protocol="corrected", order_seed=1, **TRAINED))) == []
    assert gains(rows_of([*random, make.record(0.3, **TRAINED), make.record(failure="NaN", run=1, **TRAINED)])) == []
