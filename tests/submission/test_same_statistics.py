"""Stored statistics are those of the predictions image by image: sums alone do not tell, and honest rounding is no fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmark.kinds.kit.stored import ByImage
from benchmark.metrics import dice, pixels
from benchmark.metrics import statistics as of_split
from benchmark.metrics.box_statistics import DetectionStatistics
from benchmark.metrics.boxes import Boxes, Detections
from benchmark.metrics.columns import Lists
from benchmark.metrics.label_statistics import ClassificationStatistics
from benchmark.metrics.lesions import find_lesions
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.scores import score_detection
from benchmark.metrics.statistics import Statistics, pooled_metrics
from benchmark.metrics.surface import surface_distances
from benchmark.submission.same_statistics import differing_metrics, fault_of_images
from benchmark.submission.verified import differing

N = 6
IDS, PATIENTS = tuple(f"i{k}" for k in range(N)), (*(f"P{k // 2}" for k in range(N - 1)), None)


def masks() -> SegmentationStatistics:
    random = np.random.default_rng(1)
    true = random.random((N, 1, 8, 8)) < 0.3
    probabilities = random.random(true.shape).astype(np.float32)
    predicted = dice.binarise(probabilities)
    counted = (find_lesions(predicted, true), surface_distances(predicted, true), pixels.count_pixels(probabilities, true))
    return SegmentationStatistics(("a",), dice.count_overlap(predicted, true), *counted, 64, dice.sizes_of_batches(N, 4))


def boxes() -> DetectionStatistics:
    random, image = np.random.default_rng(2), np.repeat(np.arange(N), 2)
    truth = Boxes(image, random.uniform(1, 20, (2 * N, 4)), np.zeros(2 * N, np.int64), N, "padded-32")
    confidence = np.round(random.uniform(0.3, 1, 2 * N), 1)  # equal ones in several images
    found = Detections(image, truth.xywh + random.uniform(-0.5, 0.5, truth.xywh.shape), truth.label, N, truth.frame, confidence)
    return score_detection(found, truth, ("a",)).statistics


def labels() -> ClassificationStatistics:
    random = np.random.default_rng(3)
    return ClassificationStatistics(("a", "b"), random.random((N, 2)), random.integers(-1, 2, (N, 2)).astype(np.int8), False)


KINDS = pytest.mark.parametrize("made", [masks, boxes, labels])


def of(statistics: Statistics) -> ByImage:
    return ByImage(IDS, PATIENTS, statistics)


def turned(found: ByImage) -> ByImage:
    """The same images, the last one first."""
    order = np.arange(N)[::-1]
    columns = of_split.to_columns(found.statistics)
    kept = {name: one.taken(order) if isinstance(one, Lists) else one[order] for name, one in columns.columns.items()}
    return ByImage(found.ids[::-1], found.patients[::-1], of_split.from_columns(columns.about, kept))


@KINDS
def test_the_same_statistics_are_the_same_in_any_order_of_images(made: Callable[[], Statistics]) -> None:
    assert fault_of_images(of(made()), of(made())) == ""
    assert fault_of_images(turned(of(made())), of(made())) == ""


def test_counts_that_were_moved_between_images_are_found_although_their_sums_and_the_truth_stay() -> None:
    given = masks()
    move = np.zeros((N, 1), np.int64)
    move[[0, 1], 0] = 1, -1
    counts = replace(given.counts, tp=given.counts.tp + move, fn=given.counts.fn - move)
    moved = replace(given, counts=counts)
    assert pooled_metrics(moved)["a_dice"](None) == pooled_metrics(given)["a_dice"](None)
    assert (
        fault_of_images(of(moved), of(given)) == "its statistics say something else of 2 of 6 test images than its predictions do (tp, fn)"
    )


def test_a_closer_box_and_one_more_of_another_image_are_found() -> None:
    given = boxes()
    table = given.table
    closer = replace(given, table=replace(table, pair_iou=np.minimum(table.pair_iou * 1.001, 1)))
    assert "(pair_iou)" in fault_of_images(of(closer), of(given))
    fewer = np.arange(table.n_detections) > 0
    cut = replace(given, table=table.select(fewer), coco=given.coco[fewer], mgca=given.mgca[fewer])
    assert "something else of 1 of 6 test images" in fault_of_images(of(cut), of(given))


def test_scores_in_single_precision_are_those_of_the_statistics_and_others_are_not() -> None:
    given = labels()
    stored = replace(given, scores=given.scores.astype(np.float32).astype(np.float64), thresholds=None)
    assert fault_of_images(of(replace(given, thresholds=(0.3, 0.4))), of(stored)) == ""
    exchanged = replace(given, scores=given.scores[[1, 0, *range(2, N)]])
    assert fault_of_images(of(exchanged), of(stored)).endswith("of 2 of 6 test images than its predictions do (score)")
    other = replace(given, truth=np.where(given.truth == 1, 0, given.truth).astype(np.int8))
    assert "(truth)" in fault_of_images(of(other), of(stored))


def test_scores_that_tie_only_in_single_precision_refuse_nobody_and_give_nobody_a_metric() -> None:
    """As zero-shot scores do, which lie close together: stored in double precision, and in single precision as predictions."""
    random = np.random.default_rng(4)
    truth = random.integers(0, 2, (2000, 1)).astype(np.int8)
    scores = 0.5 + 1e-3 * (random.standard_normal(truth.shape) + truth)
    close = ClassificationStatistics(("a",), scores, truth, False)
    single = replace(close, scores=scores.astype(np.float32).astype(np.float64))
    said, again = ({"auroc": pooled_metrics(each)["auroc"](None)} for each in (close, single))
    assert differing(said, again) == ["auroc"]
    stored = ByImage(tuple(map(str, range(2000))), (None,) * 2000, close)
    assert differing_metrics(said, again, stored) == []
    assert differing_metrics({"auroc": again["auroc"] + 0.002}, again, stored) == ["auroc"]
    for known in (None, replace(stored, statistics=single)):
        assert differing_metrics(said, again, known) == ["auroc"]


def test_what_masks_without_probabilities_do_not_give_is_not_compared() -> None:
    given = masks()
    again = replace(given, pixels=None, batch_sizes=None, frame_pixels=None)
    assert fault_of_images(of(given), of(again)) == ""
    assert fault_of_images(of(given), of(replace(given, pixels=replace(given.pixels, seen=given.pixels.seen + 1)))) == ""
    assert fault_of_images(of(replace(given, surfaces=None)), of(again)) == ""


@KINDS
def test_other_patients_and_other_images_are_named_by_their_number(made: Callable[[], Statistics]) -> None:
    given, again = of(made()), of(made())
    for patients, n_others in (((None,) * N, 5), ((*PATIENTS[:-1], "P9"), 1), (PATIENTS[::-1], 4)):
        found = fault_of_images(replace(given, patients=patients), again)
        assert found == f"its statistics give {n_others} of 6 test images another patient than the release does"
    for ids in (("x", *IDS[1:]), (IDS[1], *IDS[1:])):
        assert fault_of_images(replace(given, ids=ids), again) == "its statistics are of other images than its predictions"


def test_statistics_of_another_kind_or_of_other_classes_are_no_statistics_of_the_predictions() -> None:
    said = "its statistics are of another kind, frame or classes than its predictions"
    assert fault_of_images(of(labels()), of(masks())) == said
    assert fault_of_images(of(replace(labels(), class_names=("b", "a"))), of(labels())) == said
    assert fault_of_images(of(boxes()), of(replace(boxes(), table=replace(boxes().table, frame="original")))) == said


def test_boxes_in_an_order_that_no_file_keeps_are_a_clause() -> None:
    given = boxes()
    table = given.table
    unsorted = replace(given, table=replace(table, pair_detection=table.pair_detection[::-1], pair_truth=table.pair_truth[::-1]))
    assert fault_of_images(of(unsorted), of(given)).startswith("its statistics cannot be held to its predictions: ")
