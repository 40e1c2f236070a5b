from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label as components

from benchmark.metrics.lesions import Lesions, find_lesions, join, lesion_sensitivity, size_third


@given(seed=st.integers(0, 2**32 - 1))
def test_lesions_equal_those_of_scikit_image(seed):
    rng = np.random.default_rng(seed)
    masks, predicted = rng.random((2, 3, 2, 7, 9)) < rng.choice([0.05, 0.3, 0.6])
    found = find_lesions(predicted, masks, first_image=10)
    expected = []
    for image in range(3):
        for name in range(2):
            pieces = components(masks[image, name], connectivity=2)
            for k in range(1, pieces.max() + 1):
                expected.append((10 + image, name, np.sum(pieces == k), np.sum((pieces == k) & predicted[image, name])))
    assert sorted(zip(found.image, found.label, found.area, found.covered, strict=True)) == sorted(expected)


def test_half_of_the_pixels_is_a_hit_and_less_is_not():
    masks = np.zeros((1, 1, 9, 9), bool)
    masks[0, 0, 0, :4] = masks[0, 0, 5, :4] = True
    predicted = np.zeros_like(masks)
    predicted[0, 0, 0, :2] = predicted[0, 0, 5, 0] = True
    found = find_lesions(predicted, masks)
    assert found.covered.tolist() == [2, 1]
    assert found.hit.tolist() == [True, False]


def test_corners_connect():
    assert find_lesions(np.zeros((1, 1, 4, 4), bool), np.eye(4, dtype=bool)[None, None]).area.tolist() == [4]


def test_sensitivity_is_told_by_size_third_with_the_thirds_of_the_whole_split():
    lesions = _lesions(area=[1, 2, 3, 10, 20, 30, 100, 200, 300], hit=[0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert size_third(lesions).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert lesion_sensitivity(lesions) == {"small": 0.0, "medium": pytest.approx(2 / 3), "large": 1.0}
    weights = np.array([0, 0, 0, 3, 1, 0, 0, 0, 0])
    assert lesion_sensitivity(lesions, weights) == {"small": None, "medium": 0.25, "large": None}


def test_equal_areas_fall_into_one_third_and_no_lesion_into_none():
    assert lesion_sensitivity(_lesions(area=[5, 5, 5], hit=[1, 0, 1])) == {"small": pytest.approx(2 / 3), "medium": None, "large": None}
    nothing = find_lesions(np.ones((2, 1, 3, 3), bool), np.zeros((2, 1, 3, 3), bool))
    assert lesion_sensitivity(nothing) == {"small": None, "medium": None, "large": None}


def test_chunks_join_to_the_split():
    rng = np.random.default_rng(0)
    masks, predicted = rng.random((2, 5, 1, 8, 8)) < 0.3
    whole = find_lesions(predicted, masks)
    parts = join([find_lesions(predicted[:2], masks[:2]), find_lesions(predicted[2:], masks[2:], first_image=2)])
    for name in ("image", "label", "area", "covered"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def _lesions(area, hit):
    area = np.array(area)
    return Lesions(np.arange(len(area)), np.zeros(len(area), int), area, area * np.array(hit))
