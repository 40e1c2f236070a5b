"""Boxes in other units than the frame's pixels are told; what a detector that does not clip gives is not."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmark.metrics.box_units import wrong_units
from benchmark.metrics.boxes import Detections


def boxes(*rows, confidence: float = 0.9) -> Detections:
    xywh = np.array(rows, np.float64).reshape(-1, 4)
    n = len(xywh)
    return Detections(np.zeros(n, np.int64), xywh, np.zeros(n, np.int64), 1, "padded-224", np.full(n, confidence))


@pytest.mark.parametrize(
    "found",
    [
        boxes(),
        boxes((0, 0, 224, 224)),
        boxes((120, 60, 50, 80), (20, 60, 50, 80)),
        boxes((-300, 40, 700, 90)),  # edges outside, centre inside: YOLOv3 does not clip
        boxes((-5e29, 0, 1e30, 10)),  # an exponential that nearly overflowed
        boxes((100, 100, 0, 0)),
        boxes((np.nan, np.nan, np.inf, 10), (20, 60, 50, 80)),  # a size that overflowed
        boxes(*[(10, 10, 20, 20)] * 5, *[(k, 30, 20, 20) for k in range(100)]),  # few repeats among many
    ],
    ids=["none", "whole-frame", "usual", "edges-outside", "huge", "empty", "overflowed", "few-repeats"],
)
def test_what_detectors_give_is_accepted(found: Detections) -> None:
    assert wrong_units(found, 224) is None


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (boxes((120, 60, 170, 140), (20, 60, 70, 140)), "corners"),
        (boxes((600, 300, 200, 300), (100, 300, 200, 300)), "original pixels"),
        (boxes((0.5, 0.3, 0.2, 0.3)), "shares of the frame"),
        (boxes((230, 60, 20, 20)), "outside the frame"),
        (boxes((10, 60, -20, 20)), "negative"),
        (boxes((10, 60, 20, 20), confidence=90.0), r"outside \[0, 1\]"),
        (boxes(*[(10, 10, 20, 20)] * 40), "39 of 40 boxes repeat"),
    ],
    ids=["corners", "original-pixels", "shares", "centre-outside", "negative", "per-cent", "repeated"],
)
def test_other_units_are_named(found: Detections, why: str) -> None:
    assert re.search(why, wrong_units(found, 224) or "")
