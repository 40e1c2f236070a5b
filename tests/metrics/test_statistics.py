from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmark.errors import UsageError
from benchmark.metrics import dice, lesions, pixels, surface
from benchmark.metrics.box_statistics import detection_statistics
from benchmark.metrics.label_statistics import ClassificationStatistics, MeanStatistics, undefined_classes
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.overlaps import overlaps
from benchmark.metrics.statistics import from_json, pooled_metric, pooled_metrics, reduced_to, to_json, values_alone


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


def test_detections_no_pool_reads_are_not_stored(split):
    rows = [(0, 0, 9, 9, 0.15 - 0.0001 * k) for k in range(130)]
    kept = detection_statistics(overlaps(*split([(rows, []), ([(0, 0, 9, 9, 0.0001), (0, 0, 9, 9, 0.3)], [])])), ("a",))
    assert kept.table.n_detections == 101
    many = [(0, 0, 9, 9, 0.9 - 0.001 * k) for k in range(130)]
    assert detection_statistics(overlaps(*split([(many, [])])), ("a",)).table.n_detections == 130


def test_unknown_metric_names_those_that_exist(detection):
    with pytest.raises(UsageError, match="froc_full"):
        pooled_metric(detection, "pixel_ap")


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


@pytest.fixture
def means():
    image = np.array([0, 0, 2, 3, 3, 3])
    return MeanStatistics(("r", "s"), image, np.array([[0.1, np.nan], [1 / 3, 1], [0, 0], [1, 0.7], [0.2, 0], [0.5, 1]]), 5)


def test_means_of_queries_are_the_same_to_the_last_bit_after_json(means):
    restored = from_json(json.loads(json.dumps(to_json(means), allow_nan=False)))
    assert (restored.names, restored.n_images) == (means.names, means.n_images)
    assert np.array_equal(restored.image, means.image)
    assert np.array_equal(restored.values, means.values, equal_nan=True)


@pytest.mark.parametrize("damage", [lambda s: s["image"].pop(), lambda s: s["image"].__setitem__(0, 5), lambda s: s.update(n_images=3)])
def test_means_whose_rows_and_images_disagree_are_refused(means, damage):
    stored = to_json(means)
    damage(stored)
    with pytest.raises(UsageError, match="not sufficient statistics"):
        from_json(stored)


def test_a_metric_of_scores_or_queries_reads_all_there_is(means, labelled):
    assert reduced_to(labelled, "auroc") is labelled
    assert means.only({"values"}) is means


@pytest.fixture
def labelled():
    scores = np.random.default_rng(0).random((6, 2))
    return ClassificationStatistics(("a", "b"), scores, np.array([[0, 1]] * 3 + [[1, 1]] * 3, np.int8), False, (0.5, 0.5))


def test_a_class_that_every_image_shows_has_no_negative(labelled):
    assert undefined_classes(labelled.truth, labelled.class_names) == {"b": "no image of the split is negative"}
    assert undefined_classes(1 - labelled.truth, labelled.class_names) == {"b": "no image of the split is positive"}


@pytest.mark.parametrize("damage", [{"truth": [[0, 1]] * 5}, {"scores": [[0.5]] * 6}])
def test_scores_that_do_not_fit_their_labels_are_refused(labelled, damage):
    with pytest.raises(UsageError, match="not sufficient statistics"):
        from_json(to_json(labelled) | damage)


def test_pixels_of_other_images_than_the_counts_are_refused():
    drawn = np.random.default_rng(0).random((12, 2, 8, 8)).astype(np.float32)
    kept = replace(_segmentation(3), pixels=pixels.count_pixels(drawn, drawn > 0.7))
    assert pooled_metric(from_json(to_json(kept)), "pixel_ap")(None) == pooled_metric(kept, "pixel_ap")(None)
    with pytest.raises(UsageError, match="not sufficient statistics"):
        from_json(to_json(replace(kept, pixels=pixels.count_pixels(drawn[:9], drawn[:9] > 0.7))))


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


@pytest.mark.parametrize("kind", ["segmentation", "detection", "labelled"])
def test_a_single_image_scores_as_a_split_of_it_alone_in_chunks_of_any_size(request, kind, monkeypatch):
    kept, images = request.getfixturevalue(kind), [5, 0, 3, 3, 1]
    monkeypatch.setattr("benchmark.metrics.statistics._ALONE_AT_ONCE", 2)
    for name, metric in pooled_metrics(kept).items():
        alone = [metric((np.arange(kept.n_images) == image).astype(np.int64)) for image in images]
        expected = [np.nan if value is None else value for value in alone]
        np.testing.assert_allclose(values_alone(metric, images, kept.n_images), expected, rtol=0, atol=1e-12, err_msg=name)
