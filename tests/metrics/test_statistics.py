from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from benchmark.errors import UsageError
from benchmark.metrics import dice, lesions, surface
from benchmark.metrics.box_statistics import detection_statistics
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.overlaps import overlaps
from benchmark.metrics.statistics import from_json, pooled_metric, pooled_metrics, stack_statistics, to_json


@pytest.fixture
def segmentation():
    return _segmentation(0)


@pytest.fixture
def detection(random_split):
    return detection_statistics(overlaps(*random_split(0, n_images=12, n_classes=2, low=0.001)), ("a", "b"))


@pytest.mark.parametrize("kind", ["segmentation", "detection"])
def test_every_pooled_metric_is_the_same_to_the_last_bit_after_json(request, kind):
    statistics = request.getfixturevalue(kind)
    restored = from_json(json.loads(json.dumps(to_json(statistics), allow_nan=False)))
    before, after = ({name: m(None) for name, m in pooled_metrics(s).items()} for s in (statistics, restored))
    assert before == after
    assert len(before) >= 8
    assert None not in before.values()


@pytest.mark.parametrize("kind", ["segmentation", "detection"])
def test_weights_of_one_are_the_split_itself(request, kind):
    statistics = request.getfixturevalue(kind)
    for metric in pooled_metrics(statistics).values():
        assert metric(np.ones(statistics.n_images, int)) == metric(None)


@pytest.mark.parametrize("kind", ["segmentation", "detection"])
def test_stacked_methods_come_apart_again_by_weights(request, kind, random_split):
    first = request.getfixturevalue(kind)
    if kind == "segmentation":
        second = _segmentation(1)
    else:
        second = detection_statistics(overlaps(*random_split(9, n_images=12, n_classes=2, low=0.001)), ("a", "b"))
    both = pooled_metrics(stack_statistics(first, second))
    on, off = np.ones(12, int), np.zeros(12, int)
    for name, metric in both.items():
        assert metric(np.r_[on, off]) == pytest.approx(pooled_metric(first, name)(None), abs=1e-12)
        assert metric(np.r_[off, on]) == pytest.approx(pooled_metric(second, name)(None), abs=1e-12)


def test_detections_no_pool_reads_are_not_stored(split):
    rows = [(0, 0, 9, 9, 0.15 - 0.0001 * k) for k in range(130)]
    kept = detection_statistics(overlaps(*split([(rows, []), ([(0, 0, 9, 9, 0.0001), (0, 0, 9, 9, 0.3)], [])])), ("a",))
    assert kept.table.n_detections == 101
    many = [(0, 0, 9, 9, 0.9 - 0.001 * k) for k in range(130)]
    assert detection_statistics(overlaps(*split([(many, [])])), ("a",)).table.n_detections == 130


def test_unknown_metric_names_those_that_exist(detection):
    with pytest.raises(UsageError, match="froc_full"):
        pooled_metric(detection, "pixel_ap")


def test_methods_over_other_images_or_classes_are_not_compared(segmentation, detection):
    with pytest.raises(UsageError, match="Cannot compare"):
        stack_statistics(segmentation, detection)
    with pytest.raises(UsageError, match="Cannot compare"):
        stack_statistics(segmentation, _segmentation(0, n_images=5))


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s.pop("pairs"),
        lambda s: s.update(kind="other"),
        lambda s: s["detections"]["confidence"].reverse(),
        lambda s: s["detections"]["image"].append(0),
        lambda s: s["pairs"]["truth"].__setitem__(0, 10**6),
        lambda s: s["truth"]["image"].__setitem__(0, -1),
        lambda s: s["pairs"]["iou"].__setitem__(0, "many"),
    ],
)
def test_damaged_statistics_are_refused(detection, damage):
    stored = copy.deepcopy(to_json(detection))
    damage(stored)
    with pytest.raises(UsageError, match="not sufficient statistics"):
        from_json(stored)


def _segmentation(seed, n_images=12):
    rng = np.random.default_rng(seed)
    masks = np.random.default_rng(99).random((n_images, 2, 8, 8)) < 0.25
    predicted = rng.random(masks.shape) < 0.4
    masks[::3] = False
    predicted[3] = False
    outlines = surface.surface_distances(predicted, masks)
    counts = dice.count_overlap(predicted, masks)
    batches = dice.sizes_of_batches(n_images, 5)
    return SegmentationStatistics(("a", "b"), counts, lesions.find_lesions(predicted, masks), outlines, None, 64, batches)


def test_records_from_before_the_families_of_dice_define_what_they_defined():
    stored = to_json(_segmentation(3))
    older = {name: value for name, value in stored.items() if name not in ("frame_pixels", "batch_sizes")}
    now, before = pooled_metrics(from_json(stored)), pooled_metrics(from_json(older))
    assert set(now) - set(before) == {"image_dice_batches", "dice_with_background"}
    assert all(now[name](None) == metric(None) for name, metric in before.items())


@pytest.mark.parametrize("damage", [{"frame_pixels": 0}, {"frame_pixels": "64"}, {"batch_sizes": [5] * 3}, {"batch_sizes": [0] * 12}])
def test_numbers_of_batches_and_pixels_that_fit_nothing_are_refused(damage):
    with pytest.raises(UsageError, match="not sufficient statistics"):
        from_json(to_json(_segmentation(3)) | damage)
