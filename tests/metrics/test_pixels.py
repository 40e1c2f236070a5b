from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from benchmark.metrics.pixels import PixelHistogram, probability_bins

few = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@few
@given(seed=st.integers(0, 2**32 - 1), sharpness=st.sampled_from([0.5, 3, 12]))
def test_average_precision_equals_scikit_learn_on_binned_probabilities(seed, sharpness):
    probabilities, masks = _logistic(seed, sharpness, shape=(2, 1, 8, 8))
    if masks.any():
        expected = average_precision_score(masks.ravel(), probability_bins(probabilities).ravel())
        assert _average_precision(probabilities, masks) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("sharpness", [0.5, 3, 12])
def test_binning_moves_a_split_of_pixels_by_less_than_one_in_ten_thousand(sharpness):
    probabilities, masks = _logistic(0, sharpness, shape=(20, 1, 100, 100))
    exact = average_precision_score(masks.ravel(), probabilities.ravel())
    assert _average_precision(probabilities, masks) == pytest.approx(exact, abs=1e-4)


def test_bins_rise_with_the_probability_and_resolve_both_ends():
    ends = np.array([0, 1e-12, 1e-7, 1.01e-7, 0.25, 0.25005, 0.5, 0.74995, 0.75, 1 - 2e-6, 1 - 1e-6, 1], np.float32)
    bins = probability_bins(ends)
    assert np.all(np.diff(bins) > 0)
    assert bins[0] == 0
    assert probability_bins(np.array([-0.0, 1e-30], np.float32)).tolist() == [0, 0]
    assert bins[-1] == 2 * (bins[6] - 1) + 1


def test_chunks_add_up_and_classes_are_kept_apart():
    probabilities, masks = _logistic(1, 3, shape=(6, 2, 10, 10))
    masks[:, 1] = False
    chunked = PixelHistogram(2)
    for start in (0, 2, 5):
        stop = {0: 2, 2: 5, 5: 6}[start]
        chunked.add(probabilities[start:stop], masks[start:stop])
    values = chunked.average_precision()
    assert values[0] == _average_precision(probabilities[:, :1], masks[:, :1])
    assert np.isnan(values[1])


def test_constant_map_scores_the_share_of_positive_pixels():
    masks = np.zeros((1, 1, 10, 10), bool)
    masks[..., :3] = True
    assert _average_precision(np.full(masks.shape, 0.7, np.float32), masks) == pytest.approx(0.3)


def _average_precision(probabilities, masks):
    histogram = PixelHistogram(1)
    histogram.add(probabilities, masks)
    return histogram.average_precision()[0]


def _logistic(seed, sharpness, shape):
    rng = np.random.default_rng(seed)
    masks = rng.random(shape) < 0.1
    logits = sharpness * (rng.normal(size=shape) + 1.5 * masks - 1)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), masks
