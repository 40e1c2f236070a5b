from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

from benchmark.errors import FrameMismatch, TrainingError, UsageError
from benchmark.metrics import overlaps as module
from benchmark.metrics.overlaps import falling, overlaps, rank_within_image


def test_iou_adds_one_pixel_to_every_side(split):
    # checked against `mean_average_precision`, the scorer LoVT calls
    found = overlaps(
        *split(
            [
                ([(52, 50, 40, 40, 0.9), (54, 50, 40, 40, 0.8)], [(50, 50, 40, 40), (62, 50, 40, 40)]),
                ([(100, 100, 60, 40, 0.7)], [(110, 110, 60, 40)]),
                ([(0, 0, 9, 9, 0.6)], [(0, 4, 9, 9)]),
            ]
        )
    )
    np.testing.assert_allclose(found.pair_iou, [0.9070, 0.6078, 0.8222, 0.6735, 0.4621, 0.428571], atol=5e-5)


def test_only_boxes_of_one_image_and_class_are_paired(split):
    same = (10, 10, 20, 20)
    found = overlaps(*split([([(*same, 0.9, 1)], [(*same, 0), (*same, 1)]), ([], [(*same, 1)])]))
    assert found.pair_truth.tolist() == [1]
    assert found.pair_iou.tolist() == [1.0]


def test_equal_confidences_keep_image_order_then_head_order(split):
    # Image 1 is listed before image 0; within an image the list's order stands.
    detections, truth = split([([(0, 0, 5, 5, 0.5), (1, 0, 5, 5, 0.5), (2, 0, 5, 5, 0.7)], [(1, 0, 5, 5)]), ([(3, 0, 5, 5, 0.5)], [])])
    shuffled = np.array([3, 0, 1, 2])
    moved = dataclasses.replace(
        detections,
        image=detections.image[shuffled],
        xywh=detections.xywh[shuffled],
        label=detections.label[shuffled],
        confidence=detections.confidence[shuffled],
    )
    for given in (detections, moved):
        found = overlaps(given, truth)
        assert found.confidence.tolist() == [0.7, 0.5, 0.5, 0.5]
        assert found.image.tolist() == [0, 0, 0, 1]
        np.testing.assert_allclose(found.pair_iou, [5 / 7, 5 / 7, 1.0])


def test_rank_counts_earlier_detections_of_the_same_image():
    assert rank_within_image(np.array([4, 1, 4, 4, 1, 0])).tolist() == [0, 0, 1, 2, 1, 0]


def test_selection_keeps_pairs_of_chosen_detections(random_split):
    whole = overlaps(*random_split(3, n_images=20))
    chosen = whole.confidence >= 0.6
    part = whole.select(chosen)
    kept = chosen[whole.pair_detection]
    assert 0 < part.n_detections < whole.n_detections
    np.testing.assert_array_equal(part.image[part.pair_detection], whole.image[whole.pair_detection[kept]])
    np.testing.assert_array_equal(part.pair_iou, whole.pair_iou[kept])


def test_different_frames_or_image_counts_are_refused(split):
    detections, truth = split([([(0, 0, 5, 5, 0.5)], [(0, 0, 5, 5)])])
    with pytest.raises(FrameMismatch, match="'original'"):
        overlaps(detections, dataclasses.replace(truth, frame="original"))
    with pytest.raises(FrameMismatch, match="2"):
        overlaps(detections, dataclasses.replace(truth, n_images=2))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"confidence": np.array([np.nan])}, TrainingError, "1 values that are not finite"),
        ({"image": np.array([7])}, UsageError, "image 7"),
        ({"label": np.array([-1])}, UsageError, "class of -1"),
        ({"confidence": np.array([0.5, 0.4])}, UsageError, "different length"),
        ({"xywh": np.array([[5.0, 5, -3, 5]])}, UsageError, "side of -3"),
        ({"confidence": np.array([2.5])}, UsageError, "are these logits"),
        ({"xywh": np.zeros((1, 5))}, UsageError, r"shape \(1, 4\)"),
    ],
)
def test_broken_detections_are_named(split, change, error, says):
    detections, truth = split([([(0, 0, 5, 5, 0.5)], [(0, 0, 5, 5)])])
    with pytest.raises(error, match=says):
        overlaps(dataclasses.replace(detections, **change), truth)


@pytest.mark.parametrize("box", [(-np.inf, 4, np.inf, 5), (3, -np.inf, 5, np.inf), (np.nan, 4, np.nan, 5)])
def test_a_detection_that_overflowed_stays_and_touches_nothing(split, box):
    detections, truth = split([([(0, 0, 5, 5, 0.5), (*box, 0.7)], [(0, 0, 5, 5)])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = overlaps(detections, truth)
    assert table.confidence.tolist() == [0.7, 0.5]
    assert table.pair_detection.tolist() == [1]


def test_a_true_box_that_is_not_finite_is_refused(split):
    detections, truth = split([([(0, 0, 5, 5, 0.5)], [(0, 0, 5, 5)])])
    with pytest.raises(TrainingError, match="1 values that are not finite"):
        overlaps(detections, dataclasses.replace(truth, xywh=np.array([[0, 0, np.inf, 5]])))


def test_a_negative_side_is_named_beside_one_that_is_no_number(split):
    detections, truth = split([([(0, 0, 5, 5, 0.5), (0, 0, 5, 5, 0.4)], [(0, 0, 5, 5)])])
    with pytest.raises(UsageError, match="side of -3"):
        overlaps(dataclasses.replace(detections, xywh=np.array([[0, 0, np.nan, 5], [0, 0, -3, 5]])), truth)


@pytest.mark.parametrize("n_at_once", [1, 7, 10**6])
def test_pairs_computed_at_once_change_no_digit(random_split, monkeypatch, n_at_once):
    given = random_split(3, n_images=20, n_classes=2)
    given[0].xywh[::9, 2] = np.inf
    expected = overlaps(*given)
    assert expected.pair_iou.size > 20
    monkeypatch.setattr(module, "_PAIRS", n_at_once)
    found = overlaps(*given)
    for name, values in vars(expected).items():
        assert np.array_equal(getattr(found, name), values), name


def test_images_in_any_order_are_sorted_by_confidence_then_image_then_place(random_split):
    given, _ = random_split(3, n_images=20)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        confidence = rng.integers(1, 4, len(given.image)) / 4  # many ties
        image = rng.integers(0, 5, len(given.image))
        for images in (image, np.sort(image)):
            one = dataclasses.replace(given, image=images, confidence=confidence)
            expected = sorted(range(len(images)), key=lambda k: (-confidence[k], images[k], k))
            assert falling(one).tolist() == expected


@pytest.mark.parametrize("first", [0, 2**16 - 2, 2**40])
def test_ranks_do_not_depend_on_how_large_the_numbers_of_images_are(first):
    image = np.array([1, 0, 1, 2, 0, 1, 2]) + first
    assert rank_within_image(image).tolist() == [0, 0, 1, 0, 1, 2, 1]
    assert rank_within_image(image[:0]).tolist() == []
