"""One declaration a metric: its titles, what it needs, its range, and whether more of it is better."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmark.heads import retrieval
from benchmark.metrics import box_statistics, mask_statistics, spec
from benchmark.metrics.grounding import COLUMNS
from benchmark.metrics.label_statistics import class_fields
from benchmark.metrics.spec import fault_of, range_of, rises

TITLES = {  # of records that exist
    ("mAP", "boxes"): "mAP (LoVT)",
    ("mAP@0.5", "boxes"): "mAP (LoVT) at IoU 0.5",
    ("Mass_mAP", "boxes"): "Mass mAP (LoVT)",
    ("froc", "boxes"): "FROC (LoVT)",
    ("froc_full", "boxes"): "FROC (full)",
    ("AP40_75_full", "boxes"): "AP 40-75 (full)",
    ("coco_AP75", "boxes"): "COCO AP at IoU 0.75",
    ("mAP_mgca", "boxes"): "mAP (MGCA, as released)",
    ("mAP_mgca_all", "boxes"): "mAP (MGCA, all images)",
    ("lost_at_0.2", "boxes"): "boxes lost at confidence 0.2",
    ("calibration_error", "boxes"): "calibration error of the confidence",
    ("avg_dice", "masks"): "mean Dice",
    ("opacity_dice", "masks"): "opacity Dice",
    ("image_dice_all", "masks"): "per-image Dice (empty = 1)",
    ("lesion_sensitivity_small", "masks"): "lesions found, smallest third",
    ("precision", "masks"): "pixel precision",
    ("auroc", "labels"): "AUROC (mean over classes)",
    ("accuracy", "labels"): "accuracy",
    ("Edema_auroc", "labels"): "Edema AUROC",
    ("image_to_text_mrr", "reports"): "MRR, image to text",
    ("image_to_text_hit@5", "reports"): "R@5, image to text",
    ("image_to_text_precision@5", "reports"): "P@5, image to text",
    ("Edema_image_to_text_precision@5", "reports"): "Edema P@5, image to text",
    ("cnr", "phrases"): "CNR × 100",
    ("of_another_version", "masks"): "of_another_version",
}


@pytest.mark.parametrize(("metric", "target"), TITLES)
def test_a_metric_has_one_title(metric: str, target: str):
    assert spec.title_of(metric, target) == TITLES[metric, target]


def test_no_two_metrics_of_a_target_share_a_name_or_a_title():
    for target in ("masks", "boxes", "labels", "reports", "phrases", "labels-to-masks"):
        declared = {(one.name, one.needs): one.title for one in spec.specs_of(target)}
        assert len(declared) == len(spec.specs_of(target))
        titles = {one.name: one.title for one in spec.specs_of(target)}
        assert len(set(titles.values())) == len(titles)


def test_every_field_that_a_metric_needs_is_kept_by_some_statistics():
    kept = {*mask_statistics.FIELDS, *box_statistics.FIELDS, *class_fields(2, True, True, True), spec.VALIDATION_LOSS}
    kept |= {"text_matches", "class_matches", "several_prompt_sets", "found_in_masks", "groups_of_the_release", spec.SEVERAL_CLASSES}
    assert {part for one in spec.specs() for part in one.needs} == kept


def test_a_metric_without_a_value_says_why():
    always = {"{class}_dice", "avg_dice", "pooled_dice", "mAP", "mAP@{iou}", "pos_mAP", "{class}_mAP", "AP40_75_full"}
    assert {one.name for one in spec.specs() if one.compute is not None and not one.undefined} == always


@pytest.mark.parametrize("n_classes", [1, 2])
def test_heads_of_words_score_what_is_declared(n_classes: int):
    classes, keys = ("a", "b")[:n_classes], np.arange(4) % n_classes

    def alike(rows: slice) -> np.ndarray:
        return np.ones((rows.stop - rows.start, 4), np.float32)

    by_text = {*retrieval.score_text_matches(alike, alike, keys), "duplicate_rate"}
    by_class = {*retrieval.score_class_matches(alike, keys, classes, None), "duplicate_rate"}
    assert spec.names_with("reports", classes, {"text_matches"}) == by_text
    assert spec.names_with("reports", classes, {"class_matches"}) == by_class
    of_classes = {f"{name}_cnr" for name in classes} if n_classes > 1 else set()
    assert spec.names_with("phrases", classes, ()) == {*COLUMNS, "n_phrases", *of_classes}


# ------------------------------------------------------------------------------------------------------- what a name says


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [
        ("mAP", 0, 1),
        ("avg_dice", 0, 1),
        ("cnr_dice", 0, 1),
        ("image_to_text_hit@5", 0, 1),
        ("mcc", -1, 1),
        ("edema_mcc", -1, 1),
        ("kappa", -1, 1),
        ("cnr", -math.inf, math.inf),
        ("Atelectasis_cnr", -math.inf, math.inf),
        ("centre_cnr", -math.inf, math.inf),
        ("cnr_abs", 0, math.inf),
        ("n_phrases", 0, math.inf),
        ("negative_loss", -math.inf, math.inf),
    ],
)
def test_a_metric_has_the_range_of_its_kind(metric: str, low: float, high: float):
    assert range_of(metric) == (low, high)


@pytest.mark.parametrize("value", [17, -3, 1.001, -0.001, math.nan, math.inf])
def test_a_share_outside_its_range_is_named(value: float):
    assert fault_of({"froc": 0.5, "mAP": value}).startswith("mAP is ")


def test_rounding_at_the_ends_is_no_fault():
    assert fault_of({"auroc": 1 + 2**-52, "mAP": -1e-17, "mcc": -1 - 2**-52, "cnr": -7.5}) == ""


def test_errors_and_what_says_nothing_of_quality_do_not_rise():
    names = ("brier", "edema_calibration_error", "lost_at_0.2", "duplicate_rate", "n_phrases", "auroc", "mAP", "nsd", "unheard_of")
    assert [name for name in names if not rises(name)] == ["brier", "edema_calibration_error", "lost_at_0.2", "duplicate_rate", "n_phrases"]
