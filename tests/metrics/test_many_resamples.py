"""Many resamples at once are many resamples one at a time: for every metric that answers them at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.metrics.box_statistics import DetectionStatistics, detection_statistics
from benchmark.metrics.coco import coco_hits
from benchmark.metrics.dice import DiceCounts, DicePool
from benchmark.metrics.label_statistics import ClassificationStatistics, MeanStatistics
from benchmark.metrics.many_resamples import mean_average_precisions
from benchmark.metrics.matching import average_precisions, lovt_pool, match
from benchmark.metrics.mgca import mgca_hits
from benchmark.metrics.overlaps import overlaps
from benchmark.metrics.statistics import Statistics, pooled_metric, values_in


@given(seed=st.integers(0, 2**32 - 1), n_classes=st.integers(1, 3), tied=st.booleans())
def test_many_resamples_at_once_give_the_values_of_one_at_a_time(random_split, seed, n_classes, tied):
    detections, truth = random_split(seed, n_images=6, n_classes=n_classes, tied=tied)
    matched = match(lovt_pool(overlaps(detections, truth)), n_classes=n_classes)
    weights = np.random.default_rng(seed).integers(0, 3, (7, 6))
    weights[0] = 0
    expected = [average_precisions(matched, row).mean(axis=1).mean() for row in weights]
    np.testing.assert_allclose(mean_average_precisions(matched, weights), expected, rtol=0, atol=1e-12)


def test_more_resamples_than_one_table_holds_are_all_there(random_split):
    matched = match(lovt_pool(overlaps(*random_split(3, n_images=6))))
    weights = np.random.default_rng(0).integers(0, 3, (205, 6))
    assert mean_average_precisions(matched, weights) == pytest.approx([average_precisions(matched, row).mean() for row in weights])
    assert mean_average_precisions(matched, weights[:0]).shape == (0,)


@pytest.mark.parametrize("label", [None, 0, 1])
def test_dice_of_many_resamples_is_dice_of_each(label):
    rng = np.random.default_rng(1)
    pool = DicePool(DiceCounts(*(rng.integers(0, 50, (9, 2)) for _ in range(3))), label)
    weights = rng.integers(0, 3, (20, 9))
    assert pool.many(weights) == pytest.approx([pool(row) for row in weights], rel=1e-12)


def require_equal(statistics: Statistics, weights: np.ndarray, *names: str) -> None:
    """Raises AssertionError for a metric that does not answer at once, or answers otherwise than one at a time."""
    for name in names:
        metric = pooled_metric(statistics, name)
        assert getattr(metric, "many", None) is not None, name
        alone = [metric(row.astype(np.int64)) for row in weights]
        expected = np.array([np.nan if value is None else value for value in alone])
        np.testing.assert_allclose(values_in(metric, weights), expected, rtol=0, atol=1e-12, err_msg=name)


def weights_of(rng: np.random.Generator, n_images: int, n_resamples: int = 7) -> np.ndarray:
    """Copies of each image as resamples have them; the first resample is empty."""
    weights = rng.poisson(1, (n_resamples, n_images)).astype(np.uint8)
    weights[0] = 0
    return weights


@given(seed=st.integers(0, 2**32 - 1), n_classes=st.integers(1, 3), exclusive=st.booleans(), levels=st.integers(1, 9))
def test_class_scores_with_ties_unknown_labels_and_lost_classes(seed, n_classes, exclusive, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (9, n_classes)) / levels
    truth = np.eye(n_classes, dtype=np.int8)[rng.integers(0, n_classes, 9)] if exclusive else rng.integers(-1, 2, (9, n_classes))
    names = tuple("abc"[:n_classes])
    statistics = ClassificationStatistics(names, scores, truth.astype(np.int8), exclusive, tuple(rng.choice([0.4, np.nan], n_classes)))
    of_decisions = [] if exclusive else ["f1", "mcc", "accuracy"]
    require_equal(statistics, weights_of(rng, 9), "auroc", "ap", "f1_validated", *of_decisions)


def test_areas_under_roc_are_the_same_to_the_bit():
    rng = np.random.default_rng(5)
    scores, truth = rng.integers(0, 60, (240, 11)) / 60, rng.integers(-1, 2, (240, 11)).astype(np.int8)
    metric = pooled_metric(ClassificationStatistics(tuple("abcdefghijk"), scores, truth, False), "auroc")
    weights = weights_of(rng, 240, 205)
    assert values_in(metric, weights)[1:].tolist() == [metric(row) for row in weights[1:]]


def statistics_of(split, n_classes: int = 1) -> DetectionStatistics:
    hits = coco_hits(*split, n_classes), mgca_hits(*split, n_classes)
    return detection_statistics(overlaps(*split), tuple("abc"[:n_classes]), *hits)


@given(seed=st.integers(0, 2**32 - 1), n_classes=st.integers(1, 3), tied=st.booleans())
def test_average_precisions_of_coco_and_mgca(random_split, seed, n_classes, tied):
    split = random_split(seed, n_images=6, n_classes=n_classes, tied=tied, low=0.001)
    weights = weights_of(np.random.default_rng(seed), 6, 4)
    require_equal(statistics_of(split, n_classes), weights, "coco_AP", "coco_AP50", "mAP_mgca", "mAP_mgca_all")


def test_boxes_of_a_split_without_any_are_undefined_in_every_resample(split):
    statistics = statistics_of(split([([(0, 0, 9, 9, 0.9)], []), ([], [])]))
    require_equal(statistics, np.ones((3, 2), np.uint8), "coco_AP", "mAP_mgca", "mAP_mgca_all")


def test_means_of_queries_belong_to_their_images():
    rng = np.random.default_rng(2)
    values = np.where(rng.random((40, 2)) < 0.3, np.nan, rng.random((40, 2)))
    statistics = MeanStatistics(("r", "s"), np.sort(rng.integers(0, 12, 40)), values, 12)
    require_equal(statistics, weights_of(rng, 12, 205), "r", "s")
