"""Promises of grounding: the definitions by hand, brute force over pixels, and an answer for every degenerate map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu
from torchmetrics.functional.classification import binary_jaccard_index

from benchmark.errors import TrainingError, UsageError
from benchmark.metrics import grounding as grd
from benchmark.metrics.scores import score_rows
from benchmark.metrics.statistics import pooled_metrics


def test_values_agree_with_pixel_by_pixel_counting_on_random_maps() -> None:
    for seed in range(300):
        random = np.random.default_rng(seed)
        shape = tuple(random.integers(4, 12, 2))
        similarity = np.round(random.normal(0.2, 0.3, shape), 1 if seed % 2 else 6)
        boxes = [[x, y, *random.uniform(1, 4, 2)] for x, y in random.uniform(0, 3, (random.integers(1, 3), 2))]
        inside = grd.union_of_boxes(np.array(boxes), shape)
        if not inside.any() or inside.all():
            continue
        found = grd.ground(similarity, inside)
        pixels = [(i, j) for i in range(shape[0]) for j in range(shape[1])]
        ins, out = ([similarity[p] for p in pixels if inside[p] == which] for which in (True, False))
        assert found.cnr == pytest.approx((np.mean(ins) - np.mean(out)) / (np.var(ins) + np.var(out)) ** 0.5)
        assert found.cnr_abs == abs(found.cnr)
        ious = [
            float(binary_jaccard_index(torch.from_numpy(similarity > t).int(), torch.from_numpy(inside).int()))
            for t in (0.1, 0.2, 0.3, 0.4, 0.5)
        ]
        assert found.iou == pytest.approx(ious, abs=1e-6)
        assert found.miou == pytest.approx(np.mean(ious), abs=1e-6)
        highest = [inside[p] for p in pixels if similarity[p] == similarity.max()]
        assert found.pointing == pytest.approx(np.mean(highest))


def test_the_truth_is_the_union_of_boxes_cut_at_the_image() -> None:
    union = grd.union_of_boxes(np.array([[1, 0, 2, 2], [2, 1, 9, 1.4]]), (3, 5))
    assert union.astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize("box", [(-10, 1, 5, 1), (1, -10, 2, 5), (-9, -9, 3, 3), (7, 1, 3, 1), (1, 5, 2, 2)])
def test_a_box_wholly_beside_the_image_covers_no_pixel_of_it(box) -> None:
    assert not grd.union_of_boxes(np.array([box]), (3, 5)).any()
    one = grd.union_of_boxes(np.array([[1, 0, 2, 2]]), (3, 5))
    assert np.array_equal(grd.union_of_boxes(np.array([box, (1, 0, 2, 2)]), (3, 5)), one)


def test_a_constant_map_scores_zero_contrast_and_counts() -> None:
    inside = grd.union_of_boxes(np.array([[0, 0, 2, 2]]), (4, 4))
    found = grd.ground(np.full((4, 4), 0.05), inside)
    assert (found.cnr, found.cnr_abs, found.miou, found.pointing) == (0.0, 0.0, 0.0, 0.25)


def test_a_map_that_is_high_where_nothing_is_has_a_negative_contrast() -> None:
    inside = grd.union_of_boxes(np.array([[0, 0, 2, 4]]), (4, 4))
    similarity = np.tile([0.1, 0.2, 0.6, 0.9], (4, 1))
    found = grd.ground(similarity, inside)
    assert found.cnr < 0 < found.cnr_abs
    assert found.pointing == 0


def test_boxes_over_the_whole_image_have_no_contrast_to_measure() -> None:
    assert np.isnan(grd.ground(np.arange(4.0).reshape(2, 2), np.ones((2, 2), bool)).cnr)


def test_thresholds_apply_to_the_raw_cosine_not_to_a_rescaled_map() -> None:
    inside = grd.union_of_boxes(np.array([[0, 0, 2, 2]]), (4, 4))
    similarity = np.where(inside, 0.25, 0.05)
    assert grd.ground(similarity, inside).iou == (1.0, 1.0, 0.0, 0.0, 0.0)
    assert grd.ground(similarity, inside).miou == pytest.approx(0.4)


def test_the_centre_prior_points_at_the_middle() -> None:
    prior = grd.centre_prior((5, 9))
    assert np.unravel_index(prior.argmax(), prior.shape) == (2, 4)
    assert prior.max() == 1.0
    assert np.allclose(prior, prior[::-1, ::-1])


def test_boxes_outside_the_image_and_broken_maps_are_refused() -> None:
    with pytest.raises(UsageError, match="No pixel of the image lies in a box"):
        grd.ground(np.zeros((4, 4)), grd.union_of_boxes(np.array([[90, 90, 5, 5]]), (4, 4)))
    with pytest.raises(TrainingError, match="not finite"):
        grd.ground(np.array([[np.inf, 0.0]]), np.array([[True, False]]))
    with pytest.raises(UsageError, match="cannot be compared"):
        grd.ground(np.zeros((2, 2)), np.ones((3, 3), bool))


def test_rows_of_phrases_pool_over_images_that_are_drawn_again() -> None:
    values = np.array([[1.0, np.nan], [3.0, 2.0], [5.0, np.nan]])
    found = score_rows(["cnr", "miou"], values, np.array([0, 0, 1]), n_images=2)
    assert found.metrics == {"cnr": 3.0, "miou": 2.0}
    metrics = pooled_metrics(found.statistics)
    assert metrics["cnr"](np.array([0, 2])) == 5.0
    assert metrics["miou"](np.array([0, 2])) is None


def test_a_map_of_one_level_finds_nothing_and_only_the_released_count_leaves_it_out():
    inside = np.zeros((4, 6), bool)
    inside[1:3, 1:4] = True
    assert grd.mask_overlap(np.full((4, 6), 0.3), inside)[0] == 0
    assert np.isnan(grd.mask_overlap(np.full((4, 6), 0.3), inside)[1])
    assert grd.mask_overlap(np.where(inside, 0.1, -0.5), inside) == (1, 1)


def test_otsus_threshold_is_that_of_scikit_image():
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0, 0.1, 500), rng.normal(0.7, 0.2, 300)])
    step = np.ptp(values) / 256
    assert abs(grd.otsu(values) - threshold_otsu(values, nbins=256)) <= step
    assert grd.otsu(np.ones(4)) is None


def test_a_map_too_flat_for_so_many_bins_still_has_a_threshold_or_is_of_one_level():
    inside = np.zeros((4, 6), bool)
    inside[1:3, 1:4] = True
    low = np.float32(0.3)
    nearly = np.where(inside, np.nextafter(low, np.float32(1)), low)
    assert nearly.dtype == np.float32
    assert grd.mask_overlap(nearly, inside) == (1, 1)
    assert grd.otsu(np.where(inside, np.nextafter(0.3, 1), 0.3)) is None  # rounding of a flat map in float64
