from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.metrics.surface import join, mean_nsd, normalised_surface_distance, surface_distances


@given(seed=st.integers(0, 2**32 - 1), tolerance=st.sampled_from([0.0, 1.0, 1.5, 3.0]))
def test_surface_distance_equals_all_pairs_of_outline_pixels(seed, tolerance):
    rng = np.random.default_rng(seed)
    predicted, mask = rng.random((2, 8, 9)) < rng.choice([0.1, 0.5, 0.9])
    assert normalised_surface_distance(predicted, mask, tolerance) == pytest.approx(_all_pairs(predicted, mask, tolerance))


def test_shift_within_the_tolerance_is_perfect_and_beyond_it_is_not():
    mask = np.zeros((40, 40), bool)
    mask[10:20, 10:20] = True
    assert normalised_surface_distance(np.roll(mask, 2, axis=1), mask) == 1.0
    assert 0.3 < normalised_surface_distance(np.roll(mask, 5, axis=1), mask) < 0.8
    assert normalised_surface_distance(np.roll(mask, 15, axis=1), mask) == 0.0


def test_mask_at_the_edge_of_the_image_has_an_outline_there():
    full = np.ones((6, 6), bool)
    inner = np.zeros((6, 6), bool)
    inner[2:4, 2:4] = True
    # 20 outline pixels outside, 4 inside; at tolerance 0 nothing coincides.
    assert normalised_surface_distance(inner, full, tolerance_px=0) == 0.0
    assert normalised_surface_distance(full, full, tolerance_px=0) == 1.0


def test_two_empty_masks_agree():
    nothing, something = np.zeros((2, 6, 6), bool)
    something[2:4, 2:4] = True
    assert normalised_surface_distance(nothing, nothing) == 1.0
    assert normalised_surface_distance(nothing, something) == normalised_surface_distance(something, nothing) == 0.0


def test_missed_mask_scores_zero_and_images_without_mask_are_left_out():
    masks = np.zeros((3, 1, 10, 10), bool)
    masks[1, 0, 2:5, 2:5] = masks[2, 0, 2:5, 2:5] = True
    predicted = np.zeros_like(masks)
    predicted[0, 0, 0, 0] = True
    predicted[2] = masks[2]
    found = surface_distances(predicted, masks, first_image=5)
    assert found.image.tolist() == [6, 7]
    assert found.nsd.tolist() == [0.0, 1.0]
    assert mean_nsd(found) == 0.5
    assert mean_nsd(found, np.array([9, 9, 9, 9, 9, 9, 1, 3])) == 0.75
    assert mean_nsd(surface_distances(predicted[:1], masks[:1])) is None
    assert join([found, found]).nsd.tolist() == [0.0, 1.0, 0.0, 1.0]


def _all_pairs(predicted, mask, tolerance):
    def outline(m):
        padded = np.pad(m, 1)
        inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(m & ~inside)

    a, b = outline(predicted), outline(mask)
    if len(a) == 0 and len(b) == 0:
        return 1.0
    if len(a) == 0 or len(b) == 0:
        return 0.0
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)
    return (np.sum(distance.min(axis=1) <= tolerance) + np.sum(distance.min(axis=0) <= tolerance)) / (len(a) + len(b))
