"""Statistics go into columns, image by image, and come back to the last bit, in the order that every metric reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import UsageError
from benchmark.metrics import dice, lesions, pixels, surface
from benchmark.metrics.box_statistics import DetectionStatistics, detection_statistics
from benchmark.metrics.coco import coco_hits
from benchmark.metrics.columns import Columns, Lists, exact, identical, narrow
from benchmark.metrics.label_statistics import ClassificationStatistics, MeanStatistics
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.mgca import mgca_hits
from benchmark.metrics.overlaps import overlaps
from benchmark.metrics.statistics import Statistics, columns_for, from_columns, reduced_to, to_columns

seeds = st.integers(0, 2**32 - 1)


def again(kept: Columns, *only: str) -> Statistics:
    """What a file of the columns gives, or of some of them."""
    columns = {name: column for name, column in kept.columns.items() if not only or name in only}
    return from_columns(json.loads(json.dumps(kept.about, allow_nan=False)), columns)


def boxes(random_split, seed: int, *, tied: bool, n_classes: int = 2) -> DetectionStatistics:
    split = random_split(seed, n_images=7, n_classes=n_classes, low=0.001, tied=tied)
    hits = (rule(*split, n_classes) for rule in (coco_hits, mgca_hits))
    return detection_statistics(overlaps(*split), [f"c{k}" for k in range(n_classes)], *hits)


def masks(seed: int, *, with_pixels: bool = True) -> SegmentationStatistics:
    random = np.random.default_rng(seed)
    true = random.random((6, 2, 8, 8)) < 0.2
    true[::3] = False
    probabilities = random.random(true.shape).astype(np.float32)
    predicted = dice.binarise(probabilities)
    counted = pixels.count_pixels(probabilities, true) if with_pixels else None
    found, outlines = lesions.find_lesions(predicted, true), surface.surface_distances(predicted, true)
    return SegmentationStatistics(
        ("a", "b"), dice.count_overlap(predicted, true), found, outlines, counted, 64, dice.sizes_of_batches(6, 4)
    )


@given(seed=seeds, tied=st.booleans())
def test_detections_come_back_in_their_order_over_all_images_ties_included(random_split, seed, tied):
    kept = boxes(random_split, seed, tied=tied)
    assert identical(again(to_columns(kept)), kept)


def test_equal_confidences_keep_the_order_of_images_then_that_of_the_head(split):
    rows = [[(0, 0, 9, 9, 0.5, 1), (0, 0, 9, 9, 0.5, 0)], [(0, 0, 9, 9, 0.9, 0), (0, 0, 9, 9, 0.5, 1)], [(0, 0, 9, 9, 0.5, 0)]]
    kept = again(to_columns(detection_statistics(overlaps(*split([(each, []) for each in rows])), ("a", "b"))))
    assert list(zip(kept.table.image.tolist(), kept.table.label.tolist(), strict=True)) == [(1, 0), (0, 1), (0, 0), (1, 1), (2, 0)]


@given(seed=seeds, with_pixels=st.booleans())
def test_masks_come_back(seed, with_pixels):
    kept = masks(seed, with_pixels=with_pixels)
    assert identical(again(to_columns(kept)), kept)


@given(seed=seeds, single=st.booleans(), thresholds=st.booleans())
def test_class_scores_come_back_with_thresholds_that_nobody_chose(seed, single, thresholds):
    random = np.random.default_rng(seed)
    scores = random.random((5, 3)).astype(np.float32).astype(np.float64) if single else random.random((5, 3))
    chosen = (0.1, float("nan"), 1 / 3) if thresholds else None
    kept = ClassificationStatistics(("a", "b", "c"), scores, random.integers(-1, 2, (5, 3)).astype(np.int8), False, chosen)
    columns = to_columns(kept)
    assert columns.columns["score"].values.dtype == (np.float32 if single else np.float64)
    assert identical(again(columns), kept)


@given(seed=seeds)
def test_means_come_back_with_images_that_nobody_asked_of(seed):
    random = np.random.default_rng(seed)
    image = np.sort(random.integers(0, 6, 9))
    values = np.where(random.random((9, 2)) < 0.3, np.nan, random.normal(size=(9, 2)))
    kept = MeanStatistics(("r", "s"), image, values, 6)
    assert identical(again(to_columns(kept)), kept)


def test_what_columns_by_image_would_not_keep_is_refused(random_split):
    with pytest.raises(UsageError, match="queries or phrases do not stand in the order of their images"):
        to_columns(MeanStatistics(("r",), np.array([1, 0]), np.zeros((2, 1)), 2))
    kept = masks(0)
    turned = lesions.Lesions(kept.lesions.image[::-1], kept.lesions.label, kept.lesions.area, kept.lesions.covered)
    with pytest.raises(UsageError, match="lesions do not stand"):
        to_columns(SegmentationStatistics(kept.class_names, kept.counts, turned, None))
    table = boxes(random_split, 3, tied=False).table
    elsewhere = (table.truth_image[table.pair_truth] + 1) % table.n_images
    other = np.array([int(np.flatnonzero(table.truth_image == image)[0]) if image in table.truth_image else 0 for image in elsewhere])
    assert len(other)
    for change, why in (
        (
            {"pair_truth": np.sort(other), "pair_detection": np.sort(table.pair_detection)},
            "a pair of a detection and a true box of two images",
        ),
        ({"confidence": table.confidence[::-1]}, "detections are not sorted"),
        ({"truth_image": table.truth_image[::-1]}, "true boxes do not stand"),
        ({"pair_detection": table.pair_detection[::-1]}, "pairs are not sorted"),
    ):
        with pytest.raises(UsageError, match=why):
            to_columns(DetectionStatistics(("a", "b"), type(table)(**vars(table) | change)))


@pytest.mark.parametrize(("metric", "unread"), [("mAP", {"coco", "mgca"}), ("coco_AP", {"mgca"}), ("mAP_mgca", {"coco"})])
def test_of_boxes_a_metric_reads_no_hits_that_it_does_not_need(random_split, metric, unread):
    kept = boxes(random_split, 5, tied=False)
    columns = to_columns(kept)
    read = columns_for(columns.about, list(columns.columns), metric)
    assert set(columns.columns) - set(read) == unread
    assert identical(reduced_to(again(columns, *read), metric), reduced_to(kept, metric))


def test_of_masks_a_metric_reads_no_more_than_it_needs():
    kept = masks(1)
    columns = to_columns(kept)
    read = columns_for(columns.about, list(columns.columns), "pixel_ap")
    assert set(read) == {"tp", "fp", "fn", *pixels.COLUMNS}
    assert identical(reduced_to(again(columns, *read), "pixel_ap"), reduced_to(kept, "pixel_ap"))
    assert set(columns_for(columns.about, list(columns.columns), "nobody's")) == set(columns.columns)


def shifted(columns: dict, name: str, by: int) -> None:
    columns[name] = Lists(columns[name].counts, columns[name].values + by)


@pytest.mark.parametrize(
    "damage",
    [
        lambda about, columns: about.pop("frame"),
        lambda about, columns: about.update(kind="other"),
        lambda about, columns: columns.pop("pair_iou"),
        lambda about, columns: columns.update(label=Lists(columns["label"].counts[::-1] + 1, columns["label"].values)),
        lambda about, columns: shifted(columns, "pair_truth", 10**6),
        lambda about, columns: columns.update(
            pair_detection=Lists(columns["pair_detection"].counts, columns["pair_detection"].values - 99)
        ),
        lambda about, columns: shifted(columns, "coco", 10**6),
    ],
)
def test_damaged_columns_are_refused(random_split, damage):
    kept = to_columns(boxes(random_split, 5, tied=False))
    about, columns = dict(kept.about), dict(kept.columns)
    damage(about, columns)
    with pytest.raises(UsageError, match="not sufficient statistics"):
        from_columns(about, columns)


def test_lists_of_other_lengths_than_belong_there_are_refused():
    with pytest.raises(ValueError, match="a list of 3 values where 2 belong"):
        Lists(np.array([2, 3]), np.zeros(5)).rows(2)
    labels = ClassificationStatistics(("a", "b"), np.zeros((3, 2)), np.zeros((3, 2), np.int8), False, None)
    kept = to_columns(labels)
    with pytest.raises(UsageError, match="one value an image where one for each class belongs"):
        from_columns(kept.about, {**kept.columns, "truth": np.zeros(3, np.int8)})
    with pytest.raises(UsageError):
        from_columns(kept.about, {**kept.columns, "truth": Lists(np.full(4, 2), np.zeros(8, np.int8))})
    means = to_columns(MeanStatistics(("r", "s"), np.arange(3), np.zeros((3, 2)), 3))
    with pytest.raises(UsageError, match="values that do not fit the names"):
        from_columns(means.about, {"value": Lists(np.array([2, 2, 1]), np.zeros(5))})
    outlines = to_columns(masks(0))
    for name in ("lesion_area", "surface_nsd"):
        counts = np.roll(outlines.columns[name].counts, 1)
        assert (counts != outlines.columns[name].counts).any()
        with pytest.raises(UsageError, match="lists of different length"):
            from_columns(outlines.about, {**outlines.columns, name: Lists(counts, outlines.columns[name].values)})


def test_values_of_two_types_are_not_the_same():
    assert identical(1, 1)
    assert not identical(1, 1.0)
    assert not identical(1, True)


def test_pixels_outside_the_bins_are_refused():
    kept = to_columns(masks(1))
    cells = kept.columns["pixel_cell"]
    with pytest.raises(UsageError, match="a pixel outside"):
        from_columns(kept.about, {**kept.columns, "pixel_cell": Lists(cells.counts, cells.values + 2 * pixels.N_BINS)})


@given(values=st.lists(st.floats(width=32) | st.floats(), max_size=8))
def test_numbers_are_kept_in_single_precision_only_where_that_loses_no_bit(values):
    double = np.array(values, np.float64)
    kept = exact(double)
    assert kept.astype(np.float64).tobytes() == double.tobytes()


def test_infinities_and_zeros_with_a_sign_are_single_precision_and_a_third_is_not():
    assert exact(np.array([np.inf, -np.inf, -0.0, 0.5])).dtype == np.float32
    assert exact(np.array([0.5, 1 / 3])).dtype == exact(np.array([1e300])).dtype == np.float64


def test_whole_numbers_take_32_bits_where_they_fit():
    assert [narrow(np.array(v)).dtype for v in ([], [-(2**31), 2**31 - 1], [2**31])] == [np.int32, np.int32, np.int64]


def test_a_single_bit_makes_two_statistics_different(random_split):
    kept = boxes(random_split, 5, tied=False)
    moved = kept.table.pair_iou.copy()
    moved[0] = np.nextafter(moved[0], 2)
    other = DetectionStatistics(kept.class_names, type(kept.table)(**vars(kept.table) | {"pair_iou": moved}), kept.coco, kept.mgca)
    assert identical(kept, kept)
    assert not identical(kept, other)


def test_the_page_of_the_format_names_every_column(random_split):
    page = (Path(__file__).parents[2] / "docs" / "results-format.md").read_text(encoding="utf-8")
    labels = ClassificationStatistics(("a",), np.zeros((1, 1)), np.zeros((1, 1), np.int8), False)
    means = MeanStatistics(("r",), np.zeros(1, np.int64), np.zeros((1, 1)), 1)
    kept = [to_columns(each) for each in (boxes(random_split, 5, tied=False), masks(0), labels, means)]
    assert [name for each in kept for name in each.columns if f"`{name}`" not in page] == []
