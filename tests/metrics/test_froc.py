from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import FrameMismatch
from benchmark.metrics import froc
from benchmark.metrics.froc import FROC_RATES, CarriedForward, Interpolated, centre_hits, read_carrying_forward, read_interpolating
from benchmark.metrics.matching import full_pool, lovt_pool
from benchmark.metrics.overlaps import overlaps

seeds = st.integers(0, 2**32 - 1)

FROC_1 = [
    ([(10, 10, 20, 20, 0.9), (12, 12, 20, 20, 0.85), (100, 100, 10, 10, 0.8)], [(5, 5, 30, 30)]),
    ([(50, 50, 10, 10, 0.7), (40, 40, 40, 40, 0.6)], [(45, 45, 20, 20), (52, 52, 30, 30)]),
    ([(0, 0, 10, 10, 0.95)], []),
    ([(70, 70, 6, 6, 0.5)], [(60, 60, 40, 40)]),
]
FROC_2 = [([(10, 10, 20, 20, 0.9)], [(5, 5, 30, 30), (100, 100, 20, 20)]), ([], [])]
FROC_3 = [([(0, 0, 4, 4, 0.9), (10, 10, 20, 20, 0.8)], [(12, 12, 16, 16)])]
FROC_4 = [
    ([(10, 10, 20, 20, 0.9), (100, 100, 10, 10, 0.4)], [(5, 5, 30, 30)]),
    ([(0, 0, 10, 10, 0.8)], []),
    ([(50, 50, 10, 10, 0.3)], [(40, 40, 40, 40)]),
    ([], []),
]


# Checked against LoVT's released `FrocMetric`: images, sensitivities as filled up, FROC.
@pytest.mark.parametrize(
    ("images", "sensitivity", "mean"),
    [
        pytest.param(FROC_1, [0] + [0.25] * 6, 0.214286, id="FROC-1"),
        pytest.param(FROC_2, [0.5] * 7, 0.5, id="FROC-2"),
        pytest.param(FROC_3, [0] + [1] * 6, 0.857143, id="FROC-3"),
        pytest.param(FROC_4, [0.5, 0.5] + [1] * 5, 0.857143, id="FROC-4"),
    ],
)
def test_vectors_of_the_reference(split, images, sensitivity, mean):
    found = _cut(*split(images))
    assert found.sensitivity == pytest.approx(sensitivity)
    assert found.mean == pytest.approx(mean, abs=5e-7)


@given(seed=seeds, n_images=st.integers(1, 6), tied=st.booleans())
def test_froc_lovt_equals_a_plain_walk(random_split, seed, n_images, tied):
    detections, truth = random_split(seed, n_images=n_images, tied=tied)
    np.testing.assert_allclose(_cut(detections, truth).sensitivity, _plain_froc(detections, truth), atol=1e-12)


@given(seed=seeds, tied=st.booleans())
def test_froc_full_equals_the_curve_over_all_thresholds(random_split, seed, tied):
    detections, truth = random_split(seed, low=0.001, tied=tied)
    found = _full(detections, truth)
    if len(truth.image) == 0:
        assert found is None
    else:
        np.testing.assert_allclose(found.sensitivity, _plain_full_froc(detections, truth), atol=1e-12)


@given(seed=seeds)
def test_weights_equal_a_list_of_repeated_images(random_split, repeat_images, seed):
    detections, truth = random_split(seed)
    weights = np.random.default_rng(seed).integers(0, 3, truth.n_images)
    if weights.sum() == 0:
        return
    table = overlaps(detections, truth)
    repeated = overlaps(*repeat_images(detections, truth, weights))
    assert read_carrying_forward(centre_hits(lovt_pool(table)), weights) == read_carrying_forward(centre_hits(lovt_pool(repeated)))
    assert read_interpolating(centre_hits(full_pool(table)), weights) == read_interpolating(centre_hits(full_pool(repeated)))


@given(seed=seeds)
def test_order_of_equal_confidences_does_not_matter_for_the_full_family(random_split, seed):
    detections, truth = random_split(seed, tied=True)
    order = np.random.default_rng(seed).permutation(len(detections.image))
    renamed = np.arange(truth.n_images)[::-1]
    moved = dataclasses.replace(
        detections,
        image=renamed[detections.image][order],
        xywh=detections.xywh[order],
        label=detections.label[order],
        confidence=detections.confidence[order],
    )
    assert _full(detections, truth) == _full(moved, dataclasses.replace(truth, image=renamed[truth.image]))


@given(seed=seeds, n_images=st.sampled_from([1, 6, 40]), tied=st.booleans(), at_once=st.sampled_from([1, 2**19]))
def test_many_resamples_at_once_give_the_values_of_one_at_a_time(random_split, seed, n_images, tied, at_once):
    table = overlaps(*random_split(seed, n_images=n_images, low=0.001, tied=tied))
    weights = np.random.default_rng(seed).integers(0, 4, (7, n_images)).astype(np.uint8)
    weights[0] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(froc, "_AT_ONCE", at_once)
        # Of so few images that a false positive reaches two rates at once, and of enough that it does not.
        for metric in (CarriedForward(centre_hits(lovt_pool(table))), Interpolated(centre_hits(full_pool(table)))):
            one_by_one = [metric(row) for row in weights]
            np.testing.assert_array_equal(metric.many(weights), np.array(one_by_one, float))  # None is NaN


def test_second_hit_on_same_box_is_not_a_false_positive(split):
    hits = centre_hits(overlaps(*split([([(10, 10, 20, 20, 0.9), (12, 12, 20, 20, 0.8)], [(5, 5, 30, 30)])])))
    assert hits.new_hits.tolist() == [1, 0]
    assert hits.false_positive.tolist() == [False, False]


def test_one_detection_hits_every_box_around_its_centre_edges_included(split):
    hits = centre_hits(overlaps(*split([([(10, 10, 10, 10, 0.9)], [(15, 15, 30, 30), (5, 5, 10, 10), (16, 0, 30, 30)])])))
    assert hits.new_hits.tolist() == [2]


def test_late_hits_are_lost_by_carry_forward_and_counted_by_the_full_family(split):
    # All four boxes of FROC-1 are found in the end.
    pair = split(FROC_1)
    assert _cut(*pair).sensitivity[-1] == 0.25
    assert _full(*pair).sensitivity[-1] == 1.0


def test_low_confidences_count_only_in_the_full_family(split):
    pair = split([([(10, 10, 10, 10, 0.1)], [(5, 5, 30, 30)])])
    assert _cut(*pair).mean == 0.0
    assert _full(*pair).mean == 1.0


def test_without_boxes_lovt_gives_one_and_the_full_family_nothing(split):
    pair = split([([], []), ([], [])])
    assert _cut(*pair).mean == 1.0
    assert _full(*pair) is None


def test_a_split_without_images_is_read_as_one_without_boxes(split):
    pair = split([])
    assert _cut(*pair).mean == 1.0
    assert _full(*pair) is None


def test_different_frames_are_refused(split):
    detections, truth = split(FROC_1)
    with pytest.raises(FrameMismatch):
        _cut(detections, dataclasses.replace(truth, frame="original"))


def _cut(detections, truth):
    return read_carrying_forward(centre_hits(lovt_pool(overlaps(detections, truth))))


def _full(detections, truth):
    return read_interpolating(centre_hits(full_pool(overlaps(detections, truth))))


def _contains(box, detection):
    x, y = detection[0] + detection[2] / 2, detection[1] + detection[3] / 2
    return box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]


def _plain_froc(detections, truth):
    """LoVT's rule, one detection after the other."""
    rows = sorted((-c, int(i), k) for k, (i, c) in enumerate(zip(detections.image, detections.confidence, strict=True)) if c >= 0.2)
    hit, n_false, rates, recorded = set(), 0, list(FROC_RATES), []
    n_truth = len(truth.image)
    for _, image, k in rows:
        inside = [j for j in range(n_truth) if truth.image[j] == image and _contains(truth.xywh[j], detections.xywh[k])]
        hit.update(inside)
        n_false += not inside
        if rates and n_false / truth.n_images >= rates[0]:
            recorded.append(len(hit) / max(n_truth, 1))
            rates.pop(0)
    last = recorded[-1] if recorded else (len(hit) / n_truth if n_truth else 1.0)
    return recorded + [last] * len(rates)


def _plain_full_froc(detections, truth):
    """Every threshold by itself: boxes hit and false positives among the detections at or above it."""
    best: dict[float, float] = {0.0: 0.0}
    for threshold in set(detections.confidence.tolist()):
        hit, n_false = set(), 0
        for k in np.flatnonzero(detections.confidence >= threshold):
            same = [j for j in range(len(truth.image)) if truth.image[j] == detections.image[k]]
            inside = [j for j in same if _contains(truth.xywh[j], detections.xywh[k])]
            hit.update(inside)
            n_false += not inside
        rate = n_false / truth.n_images
        best[rate] = max(best.get(rate, 0.0), len(hit) / len(truth.image))
    rates = sorted(best)
    return [np.interp(rate, rates, [best[r] for r in rates]) for rate in FROC_RATES]
