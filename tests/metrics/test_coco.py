"""COCO's AP from stored hits is pycocotools' own, on the split and on every resample of it."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmark.metrics.box_statistics import detection_statistics
from benchmark.metrics.coco import coco_ap
from benchmark.metrics.overlaps import overlaps
from benchmark.metrics.scores import score_detection
from benchmark.metrics.statistics import pooled_metrics


@given(seed=st.integers(0, 2**32 - 1), tied=st.booleans())
def test_values_are_those_of_pycocotools(random_split, seed, tied):
    detections, truth = random_split(seed, n_classes=2, low=0.001, tied=tied)
    found = coco_ap(detections, truth, n_classes=2)
    expected = _pycocotools(detections, truth, n_classes=2)
    if len(truth.image) == 0:
        assert found.ap is None
    else:
        assert (found.ap, found.ap50, found.ap75) == pytest.approx(expected, abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
def test_every_metric_of_a_resample_is_that_of_the_repeated_images(random_split, repeat_images, seed):
    detections, truth = random_split(seed, n_images=6, n_classes=2, low=0.001)
    copies = np.random.default_rng(seed).integers(0, 3, 6)
    stored = score_detection(detections, truth, ["a", "b"]).statistics
    directly = score_detection(*repeat_images(detections, truth, copies), ["a", "b"])
    for name, metric in pooled_metrics(stored).items():
        value = metric(copies)
        assert (value is None) == (name in directly.undefined), name
        if value is not None:
            assert value == pytest.approx(directly.metrics[name], abs=1e-12), name


def test_only_the_hundred_most_confident_boxes_of_an_image_count(split):
    many = [(200, 200, 5, 5, 0.9)] * 100 + [(0, 0, 9, 9, 0.5)]
    assert coco_ap(*split([(many, [(0, 0, 9, 9)])])).ap == 0.0
    assert coco_ap(*split([(many[1:], [(0, 0, 9, 9)])])).ap == pytest.approx(0.01, abs=1e-6)


def test_statistics_without_hits_have_no_coco_column(random_split):
    assert "coco_AP" not in pooled_metrics(detection_statistics(overlaps(*random_split(0)), ("a",)))


def _pycocotools(detections, truth, n_classes):
    def dataset(boxes, scores=None):
        rows = zip(boxes.image.tolist(), boxes.label.tolist(), boxes.xywh.tolist(), strict=True)
        made = [
            {"id": k, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0} for k, (i, c, b) in enumerate(rows, 1)
        ]
        for row, score in zip(made, scores.tolist() if scores is not None else [], strict=False):
            row["score"] = score
        coco = COCO()
        coco.dataset = {"images": [{"id": i} for i in range(boxes.n_images)], "categories": [{"id": c} for c in range(n_classes)]}
        coco.dataset["annotations"] = made
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(dataset(truth), dataset(detections, detections.confidence), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl, evaluation.params.maxDets = [[0, 1e10]], ["all"], [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]
    classes = (precision > -1).any(axis=(0, 1))
    return tuple(float(p[..., classes].mean()) if classes.any() else None for p in (precision, precision[0], precision[5]))
