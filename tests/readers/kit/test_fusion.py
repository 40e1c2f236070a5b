"""Promises of the rule that makes one box of several readers' boxes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmark.readers.kit.fusion import AGREE, fuse


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def test_overlapping_boxes_of_different_readers_become_their_mean():
    fused = fuse(boxes((0, 0, 10, 20), (2, 0, 12, 20), (1, 3, 11, 23)), ["R1", "R2", "R3"])
    assert fused.tolist() == [[1, 1, 11, 21]]


def test_two_boxes_of_one_reader_stay_two_even_where_they_overlap():
    fused = fuse(boxes((0, 0, 10, 10), (1, 0, 11, 10)), ["R1", "R1"])
    assert fused.tolist() == [[0, 0, 10, 10], [1, 0, 11, 10]]


def test_a_box_one_reader_alone_drew_stays():
    fused = fuse(boxes((0, 0, 10, 10), (0, 0, 10, 10), (50, 50, 60, 60)), ["R1", "R2", "R3"])
    assert fused.tolist() == [[0, 0, 10, 10], [50, 50, 60, 60]]


@pytest.mark.parametrize(("shift", "n_left"), [(3.0, 1), (10 / 3, 2), (4.0, 2)])
def test_boxes_join_above_the_limit_and_not_at_it(shift, n_left):
    """Two squares of side 10, one moved by s, overlap by (10 - s) / (10 + s): exactly one half at s = 10 / 3."""
    assert AGREE == 0.5
    assert len(fuse(boxes((0, 0, 10, 10), (shift, 0, 10 + shift, 10)), ["R1", "R2"])) == n_left


def test_a_box_joins_the_group_it_overlaps_most():
    fused = fuse(boxes((0, 0, 10, 10), (0, 0, 20, 10), (0, 0, 18, 10)), ["R1", "R1", "R2"])
    assert fused.tolist() == [[0, 0, 10, 10], [0, 0, 19, 10]]


def test_width_and_height_are_not_exchanged():
    fused = fuse(boxes((0, 0, 40, 10), (0, 0, 10, 40)), ["R1", "R2"])
    assert fused.tolist() == [[0, 0, 10, 40], [0, 0, 40, 10]]


def test_the_order_of_rows_changes_nothing():
    rows = [((0, 0, 10, 10), "R1"), ((2, 0, 12, 10), "R2"), ((4, 0, 14, 10), "R3"), ((5, 1, 15, 11), "R2"), ((60, 5, 80, 9), "R3")]
    found = {fuse(boxes(*(b for b, _ in order)), [r for _, r in order]).tobytes() for order in itertools.permutations(rows)}
    assert len(found) == 1


def test_no_boxes_give_no_boxes():
    assert fuse(np.zeros((0, 4)), []).shape == (0, 4)
