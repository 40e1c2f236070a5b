from __future__ import annotations

import contextlib
import dataclasses
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mean_average_precision import MetricBuilder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.functional.classification import binary_calibration_error

from benchmark.errors import FrameMismatch, UsageError
from benchmark.metrics.box_statistics import BoxView, detection_statistics
from benchmark.metrics.boxes import Boxes, Detections
from benchmark.metrics.coco import coco_ap
from benchmark.metrics.detection import ap40_75_full, lovt_map, objectness_calibration_error, share_lost_at
from benchmark.metrics.matching import LOVT_THRESHOLDS, RECALL_LEVELS, average_precisions, full_pool, lovt_pool, match
from benchmark.metrics.overlaps import overlaps
from benchmark.metrics.scores import score_detection
from tests.perf.plain_scores import pycocotools_ap

seeds = st.integers(0, 2**32 - 1)

MAP_1 = [
    ([(10, 10, 40, 40, 0.9), (100, 100, 50, 60, 0.7), (12, 14, 40, 36, 0.6)], [(12, 8, 40, 44), (100, 100, 50, 60)]),
    ([(30, 30, 20, 20, 0.8)], []),
    ([], [(60, 60, 30, 30)]),
    ([(50, 50, 40, 40, 0.75), (60, 50, 40, 40, 0.3)], [(50, 50, 40, 40), (62, 50, 40, 40)]),
]
MAP_2 = [
    ([(52, 50, 40, 40, 0.9), (54, 50, 40, 40, 0.8)], [(50, 50, 40, 40), (62, 50, 40, 40)]),
    ([(100, 100, 60, 40, 0.85)], [(110, 110, 60, 40)]),
    ([(10, 10, 20, 20, 0.55)], []),
]
MAP_3 = [([(0, 0, 9, 9, 0.9)], [(0, 4, 9, 9)])]
MAP_4 = [([(5, 5, 10, 10, 0.95)], []), ([(20, 20, 30, 30, 0.5)], [(20, 20, 30, 30)]), ([], [])]


# Checked against `mean_average_precision`: images, AP at 0.40 .. 0.75, COCO's AP where given.
@pytest.mark.parametrize(
    ("images", "per_threshold", "coco"),
    [
        pytest.param(MAP_1, [0.636964] * 8, 0.526568, id="mAP-1"),
        pytest.param(MAP_2, [1.0] * 2 + [0.554455] * 4 + [0.336634] * 2, 0.390099, id="mAP-2"),
        pytest.param(MAP_3, [1.0] + [0.0] * 7, None, id="mAP-3"),
        pytest.param(MAP_4, [0.5] * 8, None, id="mAP-4"),
    ],
)
def test_vectors_of_the_reference(split, images, per_threshold, coco):
    found = lovt_map(*split(images))
    np.testing.assert_allclose(found.average_precision[:, 0], per_threshold, atol=5e-7)
    assert found.mean == pytest.approx(np.mean(per_threshold), abs=5e-7)
    assert (found.at(0.5), found.at(0.75)) == pytest.approx((per_threshold[2], per_threshold[7]), abs=5e-7)
    if coco is not None:
        assert coco_ap(*split(images)).ap == pytest.approx(coco, abs=5e-7)


@given(seed=seeds, n_classes=st.sampled_from([1, 1, 2]))
def test_lovt_map_equals_the_package_behind_the_published_numbers(random_split, seed, n_classes):
    detections, truth = random_split(seed, n_images=3, n_classes=n_classes)
    metric = MetricBuilder.build_evaluation_metric("map_2d", async_mode=False, num_classes=n_classes)
    for image in range(truth.n_images):
        d, t = detections.image == image, truth.image == image
        metric.add(
            np.c_[_corners(detections.xywh[d]), detections.label[d], detections.confidence[d]],
            np.c_[_corners(truth.xywh[t]), truth.label[t], np.zeros((t.sum(), 2))],
        )
    expected = metric.value(iou_thresholds=list(LOVT_THRESHOLDS), recall_thresholds=RECALL_LEVELS, mpolicy="soft")
    per_cell = [[expected[t][c]["ap"] for c in range(n_classes)] for t in LOVT_THRESHOLDS]
    found = lovt_map(detections, truth, n_classes=n_classes)
    np.testing.assert_allclose(found.average_precision, per_cell, atol=1e-6)
    assert found.mean == pytest.approx(float(expected["mAP"]), abs=1e-6)


def test_a_box_that_overflowed_is_a_false_positive_as_released(split) -> None:
    """docs/protocols/lovt.md, quirk 23: the metric goes on, and another box on the truth still scores 1."""
    truth, wide = (20, 20, 30, 30), (-np.inf, 20, np.inf, 30)
    below, above = ([([(*truth, 0.9), (*wide, score)], [truth])] for score in (0.5, 0.95))
    assert lovt_map(*split(below)).mean == 1.0
    assert lovt_map(*split(above)).mean == pytest.approx(0.5)
    assert coco_ap(*split(below)).ap == pytest.approx(1.0)
    found = score_detection(*split(above), ("opacity",))
    assert found.metrics["froc"] == pytest.approx(6 / 7)  # its centre is in no box: the first of seven rates is reached before the hit
    assert found.metrics["mAP"] == pytest.approx(0.5)
    with np.errstate(invalid="ignore"):
        metric = MetricBuilder.build_evaluation_metric("map_2d", async_mode=False, num_classes=1)
        metric.add(
            np.array([[20, 20, 50, 50, 0, 0.9], [-np.inf, 20, -np.inf + np.inf, 50, 0, 0.95]]), np.array([[20, 20, 50, 50, 0, 0, 0.0]])
        )
    expected = metric.value(iou_thresholds=list(LOVT_THRESHOLDS), recall_thresholds=RECALL_LEVELS, mpolicy="soft")
    assert lovt_map(*split(above)).mean == pytest.approx(float(expected["mAP"]), abs=1e-6)


@given(seed=seeds)
def test_lovt_map_equals_pycocotools_where_the_definitions_coincide(random_split, seed):
    """COCO's matcher on boxes one pixel larger, thresholds a hair higher (its >= against our >) and no limit per image."""
    detections, truth = random_split(seed, n_classes=2)
    expected = _pycocotools_as_lovt(detections, truth, n_classes=2)
    found = lovt_map(detections, truth, n_classes=2).average_precision
    for label in range(2):
        if np.any(truth.label == label):
            np.testing.assert_allclose(found[:, label], expected[:, label], atol=1e-9)
        else:
            assert np.all(found[:, label] == 0)


@given(seed=seeds)
def test_lovt_map_equals_a_plain_walk_also_with_ties_and_ious_on_a_threshold(random_split, seed):
    detections, truth = random_split(seed, n_classes=2, tied=True)
    found = lovt_map(detections, truth, n_classes=2).average_precision
    expected = [[_plain_ap(detections, truth, t, label, lowest=0.2) for label in range(2)] for t in LOVT_THRESHOLDS]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(seed=seeds)
def test_order_of_images_and_boxes_does_not_matter_without_ties(random_split, seed):
    detections, truth = random_split(seed)
    rng = np.random.default_rng(seed)
    renamed = rng.permutation(truth.n_images)

    def shuffled(boxes):
        order = rng.permutation(len(boxes.image))
        arrays = {"image": renamed[boxes.image][order], "xywh": boxes.xywh[order], "label": boxes.label[order]}
        if hasattr(boxes, "confidence"):
            arrays["confidence"] = boxes.confidence[order]
        return dataclasses.replace(boxes, **arrays)

    np.testing.assert_array_equal(
        lovt_map(detections, truth).average_precision, lovt_map(shuffled(detections), shuffled(truth)).average_precision
    )


@given(seed=seeds)
def test_weights_equal_a_list_of_repeated_images(random_split, repeat_images, seed):
    detections, truth = random_split(seed)
    weights = np.random.default_rng(seed).integers(0, 4, truth.n_images)
    repeated = repeat_images(detections, truth, weights)
    weighted = average_precisions(match(lovt_pool(overlaps(detections, truth))), weights)
    np.testing.assert_allclose(weighted, lovt_map(*repeated).average_precision, atol=1e-12)


def test_recall_of_seven_twentieths_does_not_reach_level_35(split):
    # 35 * 0.01 is 0.35000000000000003 in double precision: 35 levels are reached, as the package counts, not 36.
    boxes = [(20 * k, 0, 10, 10) for k in range(20)]
    assert lovt_map(*split([([(*box, 0.9) for box in boxes[:7]], boxes)])).mean == pytest.approx(35 / 101)


def test_of_boxes_with_equal_iou_the_later_one_is_taken(split):
    # The first detection lies half-way between both boxes; the second fits only the earlier one, which must still be free.
    left, right, between = (0, 0, 40, 40), (8, 0, 40, 40), (4, 0, 40, 40)
    assert lovt_map(*split([([(*between, 0.9), (*left, 0.8)], [left, right])])).at(0.75) == pytest.approx(1.0)
    assert lovt_map(*split([([(*between, 0.9), (*left, 0.8)], [right, left])])).at(0.75) == pytest.approx(51 / 101)


def test_detections_under_the_cut_do_not_exist_for_lovt(split):
    images = [([(0, 0, 9, 9, 0.2), (50, 50, 9, 9, 0.1999)], [(0, 0, 9, 9), (50, 50, 9, 9)])]
    assert lovt_map(*split(images)).mean == pytest.approx(51 / 101)
    assert ap40_75_full(BoxView(detection_statistics(overlaps(*split(images)), ("a",))))() == pytest.approx(1.0)


def test_full_pool_keeps_the_hundred_most_confident_of_an_image(split):
    rows = [(0, 0, 9, 9, 0.9 - 0.001 * k) for k in range(130)]
    table = overlaps(*split([(rows[::-1], []), ([(0, 0, 9, 9, 0.01), (0, 0, 9, 9, 0.0009)], [])]))
    pool = full_pool(table)
    assert np.bincount(pool.image).tolist() == [100, 1]
    assert pool.confidence[pool.image == 0].min() == pytest.approx(0.801)
    assert lovt_pool(table).n_detections == 130


def test_positive_map_leaves_out_images_without_a_box(split):
    found = lovt_map(*split(MAP_4))
    assert found.mean == pytest.approx(0.5)
    assert found.pos_mean == pytest.approx(1.0)


def test_a_class_without_truth_counts_as_zero(split):
    found = lovt_map(*split([([(0, 0, 9, 9, 0.9, 0), (0, 0, 9, 9, 0.8, 1)], [(0, 0, 9, 9, 0)])]), n_classes=2)
    assert found.per_class.tolist() == [1.0, 0.0]
    assert found.mean == 0.5


@pytest.mark.parametrize("images", [[([], [])], [([], [(0, 0, 5, 5)])], [([(0, 0, 5, 5, 0.9)], [])]])
def test_empty_sides_score_zero(split, images):
    assert lovt_map(*split(images)).mean == 0.0


def test_unknown_labels_and_thresholds_are_refused(split):
    pair = split([([(0, 0, 5, 5, 0.9, 3)], [])])
    with pytest.raises(UsageError, match="class 3"):
        lovt_map(*pair, n_classes=2)
    with pytest.raises(UsageError, match=r"0\.8"):
        lovt_map(*pair, n_classes=4).at(0.8)


def test_coco_ap_prints_nothing_and_refuses_other_frames(split, capfd):
    detections, truth = split(MAP_1)
    assert coco_ap(detections, truth).ap50 == pytest.approx(0.636964, abs=5e-7)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(FrameMismatch):
        coco_ap(detections, dataclasses.replace(truth, frame="original"))


@pytest.mark.parametrize("chunk", range(6))
def test_coco_ap_equals_pycocotools_up_to_the_last_bit_of_the_mean(random_split, chunk):
    """300 random splits: one class and three, few and many detections an image, ties of confidence and IoU in half of them."""
    for seed in range(50 * chunk, 50 * chunk + 50):
        n_classes = 1 if seed % 3 else 3
        detections, truth = random_split(seed, n_images=3 + seed % 5, n_classes=n_classes, low=0.0, tied=bool(seed % 2))
        if not len(truth.image):
            continue
        found, expected = coco_ap(detections, truth, n_classes), pycocotools_ap(detections, truth, n_classes)
        assert vars(found) == pytest.approx(vars(expected), rel=1e-14, abs=0), seed


def test_coco_ap_is_undefined_without_truth_and_zero_without_detections(split):
    assert coco_ap(*split([([(0, 0, 5, 5, 0.9)], [])])).ap is None
    assert coco_ap(*split([([], [(0, 0, 5, 5)])])).ap == 0.0


def test_calibration_error_is_the_gap_between_confidence_and_hits(split):
    # Bin [0.9, 1]: confidences 0.9 and 1.0, one hit, the second box a duplicate: |0.95 - 0.5|; bin [0.3, 0.4): |0.3 - 0| for a miss.
    table = overlaps(*split([([(0, 0, 9, 9, 1.0), (0, 0, 9, 9, 0.9), (50, 50, 9, 9, 0.3)], [(0, 0, 9, 9)])]))
    assert objectness_calibration_error(table)(None) == pytest.approx((2 * 0.45 + 0.3) / 3)
    assert objectness_calibration_error(overlaps(*split([([], [(0, 0, 9, 9)])])))(None) is None


@given(seed=seeds)
def test_calibration_error_equals_torchmetrics(random_split, seed):
    table = overlaps(*random_split(seed, low=0.001))
    found = objectness_calibration_error(table)(None)
    if table.n_detections == 0:
        assert found is None
        return
    hit = match(full_pool(table), (0.5,)).hit[0]
    expected = binary_calibration_error(torch.from_numpy(table.confidence), torch.from_numpy(hit).int(), n_bins=10, norm="l1")
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_calibrated_confidences_have_a_small_calibration_error():
    rng = np.random.default_rng(0)
    n = 20000
    confidence = rng.uniform(0.001, 1, n)
    hit = rng.random(n) < confidence
    image = np.arange(n)
    truth = Boxes(image, np.tile([10.0, 10, 20, 20], (n, 1)), np.zeros(n, int), n, "f")
    boxes = np.where(hit[:, None], [10.0, 10, 20, 20], [100.0, 100, 20, 20])
    honest = Detections(image, boxes, np.zeros(n, int), n, "f", confidence)
    boastful = dataclasses.replace(honest, confidence=np.sqrt(confidence))
    assert objectness_calibration_error(overlaps(honest, truth))(None) < 0.02
    assert objectness_calibration_error(overlaps(boastful, truth))(None) > 0.1


def test_boxes_found_only_under_the_cut_are_lost(split):
    images = [([(0, 0, 9, 9, 0.9), (50, 50, 9, 9, 0.1), (0, 0, 9, 9, 0.15)], [(0, 0, 9, 9), (50, 50, 9, 9), (90, 90, 9, 9)])]
    table = overlaps(*split(images))
    assert share_lost_at(table)(None) == pytest.approx(1 / 3)
    assert share_lost_at(table, confidence=0.05)(None) == 0.0
    assert share_lost_at(overlaps(*split([([(0, 0, 5, 5, 0.9)], [])])))(None) is None


@given(seed=seeds)
def test_lost_boxes_are_the_difference_between_two_recalls(random_split, seed):
    detections, truth = random_split(seed, low=0.001)
    table = overlaps(detections, truth)
    if table.n_truth:
        found = [np.count_nonzero(match(pool, (0.4,)).hit) for pool in (full_pool(table), lovt_pool(table))]
        assert share_lost_at(table)(None) == pytest.approx((found[0] - found[1]) / table.n_truth)


def _corners(xywh):
    return np.c_[xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]


def _plain_iou(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) + 1
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((a[2] + 1) * (a[3] + 1) + (b[2] + 1) * (b[3] + 1) - width * height)


def _plain_ap(detections, truth, threshold, label, lowest):
    """One detection after the other."""
    rows = [
        (-c, int(i), k)
        for k, (i, c, name) in enumerate(zip(detections.image, detections.confidence, detections.label, strict=True))
        if c >= lowest and name == label
    ]
    taken, hits, curve = set(), 0, []
    n_truth = int(np.sum(truth.label == label))
    for seen, (_, image, k) in enumerate(sorted(rows), start=1):
        options = [
            (_plain_iou(detections.xywh[k], truth.xywh[j]), j)
            for j in range(len(truth.image))
            if truth.image[j] == image and truth.label[j] == label
        ]
        for iou, j in sorted(options, reverse=True):
            if iou <= threshold:
                break
            if j not in taken:
                taken.add(j)
                hits += 1
                break
        curve.append((hits / max(n_truth, 1), hits / seen))
    return sum(max((p for r, p in curve if r >= level), default=0.0) for level in np.arange(0, 1.01, 0.01)) / 101


def _pycocotools_as_lovt(detections, truth, n_classes):
    def dataset(boxes, extra):
        rows = zip(boxes.image.tolist(), boxes.label.tolist(), np.add(boxes.xywh, [0, 0, 1, 1]).tolist(), extra, strict=True)
        return {
            "images": [{"id": i} for i in range(truth.n_images)],
            "categories": [{"id": c} for c in range(n_classes)],
            "annotations": [
                {"id": k, "image_id": i, "category_id": c, "bbox": b, "area": 1, "iscrowd": 0, **more}
                for k, (i, c, b, more) in enumerate(rows, start=1)
            ],
        }

    reference, found = COCO(), COCO()
    reference.dataset = dataset(truth, [{}] * len(truth.image))
    found.dataset = dataset(detections, [{"score": c} for c in detections.confidence.tolist()])
    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        found.createIndex()
        evaluation = COCOeval(reference, found, "bbox")
        evaluation.params.iouThrs = np.nextafter(np.array(LOVT_THRESHOLDS), 1)
        evaluation.params.recThrs = RECALL_LEVELS
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [10**6]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., 0, 0].mean(axis=1)
