from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from benchmark.metrics.columns import Lists
from benchmark.metrics.pixels import (
    N_BINS,
    average_precision,
    count_image,
    count_pixels,
    from_columns,
    from_json,
    join,
    pixel_ap,
    probability_bins,
    to_columns,
    to_json,
)


@given(seed=st.integers(0, 2**32 - 1), sharpness=st.sampled_from([0.5, 3, 12]))
def test_average_precision_equals_scikit_learn_on_binned_probabilities(seed, sharpness):
    probabilities, masks = _logistic(seed, sharpness, shape=(2, 1, 8, 8))
    if masks.any():
        expected = average_precision_score(masks.ravel(), probability_bins(probabilities).ravel())
        assert _average_precision(probabilities, masks) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("sharpness", [0.5, 3, 12])
def test_binning_moves_a_split_of_pixels_by_less_than_a_hundredth(sharpness):
    probabilities, masks = _logistic(0, sharpness, shape=(20, 1, 100, 100))
    exact = average_precision_score(masks.ravel(), probabilities.ravel())
    assert _average_precision(probabilities, masks) == pytest.approx(exact, abs=1e-2)


def test_bins_rise_with_the_probability_and_resolve_both_ends():
    rising = np.array([0, 2.0**-24, 2.0**-23.5, 0.01, 0.25, 0.27, 0.5, 0.52, 0.75, 1 - 2.0**-10, 1 - 2.0**-13], np.float32)
    bins = probability_bins(rising)
    assert np.all(np.diff(bins)[1:] > 0)
    assert bins[1] == bins[0] == 0
    assert probability_bins(np.array([-0.0, 1e-30, 1], np.float32)).tolist() == [0, 0, N_BINS - 1]


def test_an_image_counted_band_by_band_has_the_counts_of_a_batch():
    probabilities, masks = _logistic(3, 3, shape=(1, 2, 300, 500))  # bands of 65,536 pixels: three, the last one short
    counts, expected = count_image(iter(probabilities[0]), masks[0]), count_pixels(probabilities, masks)
    assert np.array_equal(counts.seen, expected.seen)
    assert np.array_equal(counts.true, expected.true)
    assert counts.seen.dtype == expected.seen.dtype


def test_one_pixel_in_a_square_stands_for_all_of_it():
    coarse, masks = _logistic(3, 3, shape=(1, 1, 20, 30))
    fine, fine_masks = (np.repeat(np.repeat(values, 5, axis=2), 5, axis=3) for values in (coarse, masks))
    counts, expected = count_image(iter(fine[0]), fine_masks[0], apart=5), count_pixels(fine, fine_masks)
    assert np.array_equal(counts.seen, expected.seen)
    assert np.array_equal(counts.true, expected.true)
    assert counts.seen.dtype == expected.seen.dtype


def test_chunks_add_up_and_classes_are_kept_apart():
    probabilities, masks = _logistic(1, 3, shape=(6, 2, 10, 10))
    masks[:, 1] = False
    parts = [count_pixels(probabilities[start:stop], masks[start:stop]) for start, stop in ((0, 2), (2, 5), (5, 6))]
    values = average_precision(join(parts))
    assert values[0] == _average_precision(probabilities[:, :1], masks[:, :1])
    assert np.isnan(values[1])
    assert pixel_ap(join(parts)) == values[0]


def test_no_images_have_no_pixels_and_no_value():
    """A resample may leave every image out, and a part of a split may have none."""
    counts = count_pixels(*(part[:0] for part in _logistic(0, 3, shape=(2, 2, 6, 6))))
    assert (counts.seen.shape, pixel_ap(counts)) == ((0, 2, N_BINS), None)
    assert all(np.array_equal(a, b) for a, b in zip(vars(from_columns(to_columns(counts), 2)).values(), vars(counts).values(), strict=True))


@example(seed=113000192)  # leaves every image out
@given(seed=st.integers(0, 2**32 - 1))
def test_a_resample_from_the_bins_is_the_metric_of_the_repeated_images(seed):
    probabilities, masks = _logistic(seed, 3, shape=(5, 2, 6, 6))
    copies = np.random.default_rng(seed).integers(0, 4, 5)
    stored = from_json(json.loads(json.dumps(to_json(count_pixels(probabilities, masks)))))
    repeated = (np.repeat(a, copies, axis=0) for a in (probabilities, masks))
    assert pixel_ap(stored, copies) == pixel_ap(count_pixels(*repeated))


@pytest.mark.parametrize("change", [{"shape": [1, 1, 3]}, {"shape": [2, 2, N_BINS]}, {"seen": "AAAA"}, {"true": "?"}])
def test_damaged_counts_are_an_error(change):
    stored = to_json(count_pixels(*_logistic(0, 3, shape=(2, 1, 6, 6))))
    with pytest.raises(ValueError, match=r"."):
        from_json(stored | change)


def test_lists_of_pixels_that_do_not_belong_together_are_refused():
    counts = count_pixels(*_logistic(0, 3, shape=(3, 1, 6, 6)))
    lists = to_columns(counts)
    assert np.array_equal(from_columns(lists, 1).true, counts.true)
    cut = lists["pixel_true"]
    with pytest.raises(ValueError, match="lists of different length"):
        from_columns({**lists, "pixel_true": Lists(cut.counts - np.array([0, 0, 1]), cut.values[:-1])}, 1)


def test_constant_map_scores_the_share_of_positive_pixels():
    masks = np.zeros((1, 1, 10, 10), bool)
    masks[..., :3] = True
    assert _average_precision(np.full(masks.shape, 0.7, np.float32), masks) == pytest.approx(0.3)


def _average_precision(probabilities, masks):
    return average_precision(count_pixels(probabilities, masks))[0]


def _logistic(seed, sharpness, shape):
    rng = np.random.default_rng(seed)
    masks = rng.random(shape) < 0.1
    logits = sharpness * (rng.normal(size=shape) + 1.5 * masks - 1)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), masks
