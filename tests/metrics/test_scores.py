from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from benchmark.errors import FrameMismatch, TrainingError, UsageError
from benchmark.metrics import coco, detection, dice
from benchmark.metrics import scores as scores_module
from benchmark.metrics.box_statistics import BoxView, detection_statistics
from benchmark.metrics.columns import identical
from benchmark.metrics.froc import centre_hits, read_carrying_forward, read_interpolating
from benchmark.metrics.matching import full_pool, lovt_pool
from benchmark.metrics.overlaps import overlaps
from benchmark.metrics.scores import detection_selection, score_detection, score_segmentation, segmentation_selection
from benchmark.metrics.statistics import Statistics, from_columns, pooled_metrics, to_columns, to_json

SEGMENTATION = {
    "image_dice_all",
    "dice_with_background",
    "avg_dice",
    "pooled_dice",
    "pos_dice",
    "image_dice_positives",
    "negatives_empty",
    "pixel_ap",
    "lesion_sensitivity_small",
    "lesion_sensitivity_medium",
    "lesion_sensitivity_large",
    "precision",
    "recall",
    "iou",
}
MGCA = ("mAP_mgca", "mAP_mgca_all")
DETECTION = {
    "mAP",
    "mAP@0.5",
    "mAP@0.75",
    "pos_mAP",
    "froc",
    "AP40_75_full",
    "froc_full",
    *MGCA,
    "coco_AP",
    "coco_AP50",
    "coco_AP75",
    "calibration_error",
    "lost_at_0.2",
}


def test_box_masks_get_every_metric_but_the_surface_distance():
    scores = score_segmentation(*_segmentation(), ["a", "b"], true_masks=False)
    assert set(scores.metrics) | set(scores.undefined) == SEGMENTATION | {"a_dice", "b_dice"}
    assert scores.undefined == {}
    tested = score_segmentation(*_segmentation(), ["a", "b"], true_masks=False, batch_size=5)
    assert set(tested.metrics) - set(scores.metrics) == {"image_dice_batches"}  # only where images came in batches
    assert "nsd" in score_segmentation(*_segmentation(), ["a", "b"], true_masks=True).metrics


def stored(statistics: Statistics) -> Statistics:
    """As they come back from a file."""
    kept = to_columns(statistics)
    return from_columns(json.loads(json.dumps(kept.about, allow_nan=False)), kept.columns)


def test_values_are_those_of_the_families():
    probabilities, masks = _segmentation()
    scores = score_segmentation(probabilities, masks, ["a", "b"], true_masks=True)
    counts = dice.count_overlap(dice.binarise(probabilities), masks)
    assert scores.metrics["b_dice"] == dice.micro_dice(counts)[1]
    assert scores.metrics["avg_dice"] == pytest.approx((scores.metrics["a_dice"] + scores.metrics["b_dice"]) / 2)
    assert segmentation_selection(counts, ["a", "b"]) == {
        name: scores.metrics[name] for name in ("a_dice", "b_dice", "avg_dice", "image_dice_all")
    }


def test_statistics_give_every_pooled_metric_again():
    scores = score_segmentation(*_segmentation(), ["a", "b"], true_masks=True)
    again = {name: m(None) for name, m in pooled_metrics(stored(scores.statistics)).items()}
    assert again == scores.metrics


def test_chunks_of_predictions_score_like_the_whole():
    probabilities, masks = _segmentation(n_images=150)
    whole = score_segmentation(probabilities, masks, ["a", "b"], true_masks=True)
    parts = score_segmentation((probabilities[s : s + 37] for s in range(0, 150, 37)), masks, ["a", "b"], true_masks=True)
    assert identical(parts, whole)


@pytest.mark.parametrize("n_at_once", [1, 7, 1000])
def test_images_looked_at_at_once_change_no_digit(monkeypatch, n_at_once):
    probabilities, masks = _segmentation(n_images=50)
    expected = score_segmentation(probabilities, masks, ["a", "b"], true_masks=True, batch_size=8)
    monkeypatch.setattr(scores_module, "_CHUNK", n_at_once)
    assert identical(score_segmentation(probabilities, masks, ["a", "b"], true_masks=True, batch_size=8), expected)


def test_undefined_metrics_are_left_out_with_a_reason_and_nothing_is_nan():
    masks = np.zeros((3, 1, 8, 8), bool)
    scores = score_segmentation(np.zeros(masks.shape, np.float32), masks, ["a"], true_masks=True)
    empty = {"a_dice": 0.0, "avg_dice": 0.0, "pooled_dice": 0.0, "negatives_empty": 1.0}
    assert scores.metrics == empty | {"image_dice_all": 1.0, "dice_with_background": 1.0}
    assert set(scores.undefined) == SEGMENTATION - set(scores.metrics) | {"nsd"}
    assert all(scores.undefined.values())
    json.dumps({**vars(scores), "statistics": to_json(scores.statistics)}, allow_nan=False)


def test_predictions_that_do_not_fit_the_masks_are_refused():
    probabilities, masks = _segmentation()
    with pytest.raises(UsageError, match="11 images, masks 12"):
        score_segmentation(probabilities[:11], masks, ["a", "b"], true_masks=False)
    with pytest.raises(UsageError, match="do not fit"):
        score_segmentation(probabilities[:, :1], masks, ["a", "b"], true_masks=False)
    with pytest.raises(UsageError, match="with 1 classes"):
        score_segmentation(probabilities, masks, ["a"], true_masks=False)
    with pytest.raises(TrainingError):
        score_segmentation(np.full_like(probabilities, np.nan), masks, ["a", "b"], true_masks=False)


def test_detection_scores_are_those_of_the_families(random_split):
    pair = random_split(5, n_images=30, low=0.001)
    scores = score_detection(*pair, ["a"])
    assert set(scores.metrics) == DETECTION
    assert scores.undefined == {}
    lovt, plain, table = detection.lovt_map(*pair), coco.coco_ap(*pair), overlaps(*pair)
    expected = {
        "mAP": lovt.mean,
        "mAP@0.5": lovt.at(0.5),
        "mAP@0.75": lovt.at(0.75),
        "pos_mAP": lovt.pos_mean,
        "froc": read_carrying_forward(centre_hits(lovt_pool(table))).mean,
        "AP40_75_full": detection.ap40_75_full(BoxView(detection_statistics(table, ["a"])))(),
        "froc_full": read_interpolating(centre_hits(full_pool(table))).mean,
        "coco_AP": plain.ap,
        "coco_AP50": plain.ap50,
        "coco_AP75": plain.ap75,
        "calibration_error": detection.objectness_calibration_error(table)(None),
        "lost_at_0.2": detection.share_lost_at(table)(None),
        **{name: scores.metrics[name] for name in MGCA},  # against torchmetrics in test_mgca
    }
    assert scores.metrics == expected
    assert expected["lost_at_0.2"] > 0
    assert expected["AP40_75_full"] > expected["mAP"]
    cheap = detection_selection(*pair, ["a"])
    assert cheap == {name: expected[name] for name in ("mAP", "mAP@0.5", "mAP@0.75", "froc", "froc_full", *MGCA)}
    again = {name: m(None) for name, m in pooled_metrics(stored(scores.statistics)).items()}
    assert again == scores.metrics


def test_several_classes_are_scored_one_by_one_too(random_split):
    pair = random_split(6, n_images=30, n_classes=2)
    scores = score_detection(*pair, ["a", "b"])
    np.testing.assert_allclose([scores.metrics["a_mAP"], scores.metrics["b_mAP"]], detection.lovt_map(*pair, n_classes=2).per_class)


def test_split_without_boxes_has_zero_map_and_no_froc(split):
    pair = split([([(0, 0, 9, 9, 0.9)], []), ([], [])])
    scores = score_detection(*pair, ["a"])
    assert scores.metrics == {"mAP": 0.0, "mAP@0.5": 0.0, "mAP@0.75": 0.0, "pos_mAP": 0.0, "AP40_75_full": 0.0, "calibration_error": 0.9}
    assert set(scores.undefined) == DETECTION - set(scores.metrics)
    assert "froc" not in detection_selection(*pair, ["a"])


def test_other_frames_are_refused(split):
    detections, truth = split([([(0, 0, 9, 9, 0.9)], [(0, 0, 9, 9)])])
    elsewhere = dataclasses.replace(truth, frame="original")
    for call in (score_detection, detection_selection):
        with pytest.raises(FrameMismatch):
            call(detections, elsewhere, ["a"])


def _segmentation(n_images=12):
    rng = np.random.default_rng(0)
    masks = rng.random((n_images, 2, 8, 8)) < 0.15
    masks[::3] = False
    probabilities = np.clip(rng.random(masks.shape) * 0.6 + 0.3 * masks, 0, 1).astype(np.float32)
    probabilities[0] = 0.1
    return probabilities, masks
