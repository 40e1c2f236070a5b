"""MGCA's mAP is torchmetrics' own over the images its code hands to it, and over all of them; the difference is what the trap hides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.detection.mean_ap import MeanAveragePrecision

from benchmark.metrics.box_statistics import detection_statistics
from benchmark.metrics.mgca import THRESHOLDS
from benchmark.metrics.overlaps import overlaps
from benchmark.metrics.scores import detection_selection, score_detection
from benchmark.metrics.statistics import from_json, json_for, pooled_metric, pooled_metrics, to_json

RELEASED, ALL_IMAGES = "mAP_mgca", "mAP_mgca_all"

BOX = (10, 10, 40, 40)


def _both(detections, truth, names=("a",)) -> tuple[float | None, float | None]:
    metrics = score_detection(detections, truth, names).metrics
    return metrics.get(RELEASED), metrics.get(ALL_IMAGES)


def _torchmetrics(detections, truth, skip: bool) -> float:
    # COCO's recall levels. torchmetrics' own are the same in single precision: a recall exactly on a level may fall on its other side.
    metric = MeanAveragePrecision(iou_thresholds=THRESHOLDS.tolist(), rec_thresholds=np.linspace(0, 1, 101).tolist())
    predicted, true = [], []
    for i in range(truth.n_images):
        chosen = (detections.image == i) & (detections.confidence >= 0.5)
        of_image = truth.image == i
        if skip and not (chosen.any() and of_image.any()):
            continue
        corners = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (detections.xywh[chosen], truth.xywh[of_image])]
        predicted.append(
            {
                "boxes": torch.from_numpy(corners[0]).float(),
                "scores": torch.from_numpy(detections.confidence[chosen]).float(),
                "labels": torch.from_numpy(detections.label[chosen]),
            }
        )
        true.append({"boxes": torch.from_numpy(corners[1]).float(), "labels": torch.from_numpy(truth.label[of_image])})
    metric.update(predicted, true)
    return float(metric.compute()["map"])


@pytest.mark.parametrize("seed", range(6))
def test_both_columns_are_torchmetrics_own(random_split, seed) -> None:
    detections, truth = random_split(seed)
    released, everywhere = _both(detections, truth, ("a", "b"))
    assert released == pytest.approx(_torchmetrics(detections, truth, skip=True), abs=1e-6)
    assert everywhere == pytest.approx(_torchmetrics(detections, truth, skip=False), abs=1e-6)


def test_missed_images_and_false_alarms_cost_nothing_in_the_released_column(split) -> None:
    hit = ([(*BOX, 0.9)], [BOX])
    missed, alarm = ([], [BOX]), ([(*BOX, 0.95)], [])
    assert _both(*split([hit])) == pytest.approx((1, 1), abs=1e-9)
    released, everywhere = _both(*split([hit, missed]))
    assert released == pytest.approx(1)
    assert everywhere == pytest.approx(51 / 101, abs=1e-6)
    released, everywhere = _both(*split([hit, alarm]))
    assert released == pytest.approx(1)
    assert everywhere == pytest.approx(0.5, abs=1e-6)


def test_objectness_below_one_half_does_not_count(split) -> None:
    assert _both(*split([([(*BOX, 0.49)], [BOX])])) == (0.0, 0.0)
    assert _both(*split([([(*BOX, 0.5)], [BOX])])) == pytest.approx((1, 1))


def test_undefined_without_a_box_and_zero_where_no_image_is_left(split) -> None:
    nothing = score_detection(*split([([(*BOX, 0.9)], [])]), ["a"])
    assert not {RELEASED, ALL_IMAGES} & set(nothing.metrics)
    assert {RELEASED, ALL_IMAGES} <= set(nothing.undefined)
    assert _both(*split([([], [BOX]), ([(*BOX, 0.9)], [])])) == (0.0, 0.0)  # MGCA's code would give -1


def test_plain_iou_and_a_threshold_that_is_reached_counts(split) -> None:
    """A quarter more width: IoU 0.8 without the added pixel; half a width: exactly 0.5, a hit at 0.40, 0.45 and 0.50."""
    released, _ = _both(*split([([(10, 10, 50, 40, 0.9)], [BOX])]))
    assert released == pytest.approx(1)
    released, _ = _both(*split([([(10, 10, 20, 40, 0.9)], [BOX])]))
    assert released == pytest.approx(3 / 8)


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_is_the_repeated_images(random_split, repeat_images, seed) -> None:
    detections, truth = random_split(seed)
    weights = np.random.default_rng(seed).integers(0, 3, truth.n_images)
    statistics = _statistics(detections, truth)
    again = pooled_metrics(_statistics(*repeat_images(detections, truth, weights)))
    for name in (RELEASED, ALL_IMAGES):
        assert pooled_metric(statistics, name)(weights) == pytest.approx(again[name](None), abs=1e-12)


def test_selection_and_stored_statistics_give_the_same_values(random_split) -> None:
    detections, truth = random_split(1)
    selected = detection_selection(detections, truth, ("a", "b"))
    stored = to_json(_statistics(detections, truth))
    for name in (RELEASED, ALL_IMAGES):
        expected = score_detection(detections, truth, ("a", "b")).metrics[name]
        assert selected[name] == expected
        assert pooled_metric(from_json(json_for(stored, name)), name)(None) == expected
    older = {part: value for part, value in stored.items() if part != "mgca"}
    assert not {RELEASED, ALL_IMAGES} & set(pooled_metrics(from_json(older)))


def _statistics(detections, truth):
    from benchmark.metrics.coco import coco_hits
    from benchmark.metrics.mgca import mgca_hits

    hits = (rule(detections, truth, 2) for rule in (coco_hits, mgca_hits))
    return detection_statistics(overlaps(detections, truth), ("a", "b"), *hits)
