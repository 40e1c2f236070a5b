from __future__ import annotations

import numpy as np
import pytest

from benchmark.metrics.anchors import all_positive, dice_anchors
from benchmark.metrics.dice import count_overlap, micro_dice


def quarters() -> np.ndarray:
    """Two images of 8 x 8: class 0 fills the upper left quarter of the first, class 1 one pixel of the second."""
    masks = np.zeros((2, 2, 8, 8), bool)
    masks[0, 0, :4, :4] = True
    masks[1, 1, 7, 7] = True
    return masks


def test_all_positive_is_twice_the_share_over_one_plus_the_share():
    # 16 and 1 of 128 pixels: 2 * 16 / (16 + 128) and 2 / 129.
    np.testing.assert_allclose(all_positive(quarters()), [32 / 144, 2 / 129])
    masks = quarters()
    np.testing.assert_allclose(all_positive(masks), micro_dice(count_overlap(np.ones_like(masks), masks)))


def test_masks_looked_at_at_once_change_no_digit():
    masks = np.random.default_rng(0).random((9, 3, 8, 8)) < 0.1
    assert all_positive(masks, chunk=2).tolist() == all_positive(masks).tolist()


def test_anchors_carry_the_names_of_the_metrics_they_stand_beside():
    anchors = dice_anchors(quarters(), ("opacity", "nodule"), grid=8)
    assert anchors["all positive"] == pytest.approx({"opacity_dice": 2 / 9, "nodule_dice": 2 / 129, "avg_dice": (2 / 9 + 2 / 129) / 2})
    # A grid as fine as the pixels knows every mask.
    assert anchors["grid oracle 8 x 8"] == {"opacity_dice": 1.0, "nodule_dice": 1.0, "avg_dice": 1.0}


def test_one_cell_for_the_whole_frame_is_no_better_than_all_positive():
    # The map is constant over an image, so the best it can do is to call whole images: 2 * 16 / (16 + 64) on the image with the quarter.
    anchors = dice_anchors(quarters(), ("opacity", "nodule"), grid=1)
    assert anchors["grid oracle 1 x 1"] == pytest.approx({"opacity_dice": 0.4, "nodule_dice": 2 / 65, "avg_dice": (0.4 + 2 / 65) / 2})


def test_a_head_without_a_deciding_grid_has_no_oracle():
    assert list(dice_anchors(quarters(), ("opacity", "nodule"), grid=None)) == ["all positive"]


def test_a_split_without_the_finding_scores_zero():
    anchors = dice_anchors(np.zeros((3, 1, 8, 8), bool), ("opacity",), grid=4)
    assert {value for scores in anchors.values() for value in scores.values()} == {0.0}
