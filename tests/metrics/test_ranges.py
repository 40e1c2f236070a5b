"""What a metric's name alone says: the values it can have, and whether more of it is better."""

from __future__ import annotations

import math

import pytest

from benchmark.metrics.ranges import falls_with_quality, fault_of, range_of


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [
        ("mAP", 0, 1),
        ("avg_dice", 0, 1),
        ("cnr_dice", 0, 1),
        ("image_to_text_hit@5", 0, 1),
        ("mcc", -1, 1),
        ("edema_mcc", -1, 1),
        ("kappa", -1, 1),
        ("cnr", -math.inf, math.inf),
        ("Atelectasis_cnr", -math.inf, math.inf),
        ("centre_cnr", -math.inf, math.inf),
        ("cnr_abs", 0, math.inf),
        ("n_phrases", 0, math.inf),
        ("negative_loss", -math.inf, math.inf),
    ],
)
def test_a_metric_has_the_range_of_its_kind(metric: str, low: float, high: float):
    assert range_of(metric) == (low, high)


@pytest.mark.parametrize("value", [17, -3, 1.001, -0.001, math.nan, math.inf])
def test_a_share_outside_its_range_is_named(value: float):
    assert fault_of({"froc": 0.5, "mAP": value}).startswith("mAP is ")


def test_rounding_at_the_ends_is_no_fault():
    assert fault_of({"auroc": 1 + 2**-52, "mAP": -1e-17, "mcc": -1 - 2**-52, "cnr": -7.5}) == ""


def test_errors_and_what_says_nothing_of_quality_fall():
    assert [name for name in ("brier", "edema_calibration_error", "lost_at_0.2", "auroc", "mAP", "nsd") if falls_with_quality(name)] == [
        "brier",
        "edema_calibration_error",
        "lost_at_0.2",
    ]
