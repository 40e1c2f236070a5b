"""Promises of a classifier's maps: cut where validation says, empty where the probability is low, and both ways of counting that."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.errors import TrainingError, UsageError
from benchmark.metrics import class_maps
from benchmark.metrics.class_maps import COLUMNS, CUTOFFS, THRESHOLDS, Cut

RAMP = np.tile(np.linspace(-3, 7, 11, dtype=np.float32), (4, 1))  # stretched: 0, 0.1, ... 1 from left to right
NOWHERE = np.full(len(THRESHOLDS), np.nan)


def right_of(column: int) -> np.ndarray:
    inside = np.zeros(RAMP.shape, bool)
    inside[:, column:] = True
    return inside


def test_a_map_is_stretched_within_its_image_before_it_is_cut() -> None:
    found = class_maps.overlaps(RAMP, right_of(8))
    assert found.tolist() == pytest.approx([3 / 8, 3 / 7, 3 / 6, 3 / 5, 3 / 4, 1, 2 / 3])
    assert np.array_equal(class_maps.overlaps(5 * RAMP - 2, right_of(8)), found)


def test_the_threshold_is_the_best_mean_over_images_that_have_the_finding() -> None:
    overlap = np.stack([class_maps.overlaps(RAMP, right_of(6)), NOWHERE, class_maps.overlaps(RAMP, right_of(6))])
    assert class_maps.chosen(overlap, np.array([0.9, 0.05, 0.8])) == Cut(0.5, 0.1)


def test_the_first_of_equal_thresholds_and_cutoffs_wins() -> None:
    assert class_maps.chosen(np.ones((2, len(THRESHOLDS))), np.array([0.9, 0.95])) == Cut(THRESHOLDS[0], CUTOFFS[0])


def test_the_cutoff_weighs_what_is_found_where_nothing_is_against_what_is_missed() -> None:
    positive, negative = np.ones((1, len(THRESHOLDS))), NOWHERE[None]
    overlap = np.concatenate([positive, negative, negative])
    assert class_maps.chosen(overlap, np.array([0.9, 0.45, 0.25])).cutoff == 0.5
    missed = class_maps.chosen(np.concatenate([positive, positive, negative]), np.array([0.9, 0.1, 0.3]))
    assert missed.cutoff == 0.0  # 2 of 3; above 0.1 it is 1 of 3, above 0.3 1 of 2


def test_a_finding_that_no_validation_image_has_gets_no_cut() -> None:
    assert class_maps.chosen(np.stack([NOWHERE, NOWHERE]), np.array([0.2, 0.7])) is None


def test_an_empty_prediction_scores_0_and_the_authors_slice_leaves_it_out() -> None:
    shown, empty = (dict(zip(COLUMNS, class_maps.located(RAMP, right_of(8), Cut(0.7, 0.5), p), strict=True)) for p in (0.6, 0.5))
    assert (shown["mask_iou"], shown["mask_iou_official"], shown["mask_iou_full"]) == (1, 1, 1)
    assert (empty["mask_iou"], empty["mask_iou_full"]) == (0, 0)
    assert np.isnan(empty["mask_iou_official"])
    assert shown["pointing"] == empty["pointing"] == 1  # the game looks at the map


def test_a_map_of_one_level_finds_nothing() -> None:
    flat = np.full(RAMP.shape, 2.0, np.float32)
    found = dict(zip(COLUMNS, class_maps.located(flat, right_of(8), Cut(0.2, 0.0), 1.0), strict=True))
    assert found["mask_iou"] == 0
    assert np.isnan(found["mask_iou_official"])
    assert found["pointing"] == pytest.approx(3 / 11)
    assert class_maps.not_there(flat, Cut(0.2, 0.0), 1.0) is None


def test_what_is_found_where_nothing_is_counts_0_in_the_full_set_alone() -> None:
    found = dict(zip(COLUMNS, class_maps.not_there(RAMP, Cut(0.2, 0.3), 0.4), strict=True))
    assert found.pop("mask_iou_full") == 0
    assert np.isnan(list(found.values())).all()
    assert class_maps.not_there(RAMP, Cut(0.2, 0.3), 0.3) is None


@pytest.mark.parametrize(("shape", "expected"), [((4, 6), 1.0), ((3, 5), 1.0), ((4, 2), 0.5)])
def test_the_middle_of_even_sides_is_shared_by_its_pixels(shape: tuple[int, int], expected: float) -> None:
    inside = np.zeros(shape, bool)
    inside[:, 1:4] = True
    values = np.arange(inside.size, dtype=np.float32).reshape(shape)
    assert class_maps.located(values, inside, Cut(0.5, 0.0), 1.0)[COLUMNS.index("centre_pointing")] == expected


def test_maps_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(UsageError, match="a mask that is not empty"):
        class_maps.overlaps(RAMP, np.zeros(RAMP.shape, bool))
    with pytest.raises(TrainingError, match="not finite"):
        class_maps.stretched(np.array([[1, np.nan]]))
