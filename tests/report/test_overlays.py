"""Overlays show truth and prediction where they are, told apart without colour, and not at all where the data agreement forbids it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.report import overlays

BLACK = np.zeros((224, 224), np.uint8)


def _pixels(picture, colour) -> np.ndarray:
    return (np.asarray(picture)[: overlays.SIDE] == colour).all(axis=2)


def test_truth_is_a_solid_box_at_its_place():
    picture = overlays.draw_detection(BLACK, np.array([[50, 60, 40, 30]]), np.zeros((0, 4)), np.zeros(0))
    drawn = _pixels(picture, overlays.TRUTH)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert np.abs([rows[0] - 120, rows[-1] - 180, columns[0] - 100, columns[-1] - 180]).max() <= 2
    assert drawn[119:122, 100:180].any(axis=0).all()


def test_prediction_is_dashed_and_carries_its_confidence():
    bare = overlays.draw_detection(BLACK, np.zeros((0, 4)), np.array([[50, 60, 80, 90]]), np.array([0.83]))
    other = overlays.draw_detection(BLACK, np.zeros((0, 4)), np.array([[50, 60, 80, 90]]), np.array([0.21]))
    drawn = _pixels(bare, overlays.PREDICTION)
    bottom = drawn[299:302, 100:260].any(axis=0)
    assert 0.4 < bottom.mean() < 0.85
    assert (np.asarray(bare) != np.asarray(other)).any()


def test_boxes_below_the_threshold_are_counted_not_drawn():
    weak = overlays.draw_detection(BLACK, np.zeros((0, 4)), np.array([[50, 60, 80, 90]]), np.array([0.1]))
    assert not _pixels(weak, overlays.PREDICTION).any()
    none = overlays.draw_detection(BLACK, np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0))
    assert (np.asarray(weak)[overlays.SIDE :] != np.asarray(none)[overlays.SIDE :]).any()


def test_a_box_far_larger_than_the_picture_is_drawn_like_one_that_just_leaves_it():
    nothing = np.zeros((0, 4))
    drawn = [overlays.draw_detection(BLACK, nothing, np.array([[10.0, 10, side, 20]]), np.array([0.9])) for side in (2000, 1e30)]
    assert np.array_equal(*(np.asarray(picture) for picture in drawn))


def test_mask_outlines_follow_the_masks_edge():
    mask = np.zeros((1, 224, 224), bool)
    mask[0, 40:80, 100:150] = True
    picture = overlays.draw_segmentation(BLACK, mask, np.zeros_like(mask))
    drawn = _pixels(picture, overlays.TRUTH)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert np.abs([rows[0] - 80, rows[-1] - 160, columns[0] - 200, columns[-1] - 300]).max() <= 3


def said(monkeypatch) -> list[tuple[str, tuple[int, int, int]]]:
    """Words written beside outlines, with their colour, as they are drawn from now on."""
    written: list[tuple[str, tuple[int, int, int]]] = []
    drawn = overlays._tag
    monkeypatch.setattr(overlays, "_tag", lambda pen, at, text, colour: (written.append((text, colour)), drawn(pen, at, text, colour)))
    return written


def test_outlines_of_several_classes_name_them_true_and_predicted(monkeypatch):
    written = said(monkeypatch)
    masks = np.zeros((2, 224, 224), bool)
    masks[0, 20:60, 20:60] = masks[1, 100:160, 100:160] = True
    overlays.draw_segmentation(BLACK, masks, masks, class_names=("lungs", "heart"))
    assert written == [(name, colour) for colour in (overlays.TRUTH, overlays.PREDICTION) for name in ("lungs", "heart")]


def test_boxes_of_several_classes_name_them_true_and_predicted(monkeypatch):
    written = said(monkeypatch)
    boxes, labels = np.array([[20.0, 20, 40, 40], [100, 100, 60, 60]]), np.array([1, 0])
    named = {"class_names": ("Mass", "Nodule"), "truth_labels": labels, "predicted_labels": labels}
    overlays.draw_detection(BLACK, boxes, boxes, np.array([0.9, 0.5]), **named)
    assert sorted(written) == sorted(
        [("Nodule", overlays.TRUTH), ("Mass", overlays.TRUTH), ("Nodule 0.90", overlays.PREDICTION), ("Mass 0.50", overlays.PREDICTION)]
    )
    written.clear()
    overlays.draw_detection(BLACK, boxes, boxes, np.array([0.9, 0.5]), class_names=("Mass", "Nodule"))  # an older file has no labels
    assert {text for text, _ in written} == {"0.90", "0.50"}


def test_a_mask_that_fills_the_frame_still_has_an_outline():
    full = np.ones((1, 224, 224), bool)
    assert _pixels(overlays.draw_segmentation(BLACK, full, ~full), overlays.TRUTH).any()


def test_empty_prediction_leaves_the_image_as_it_is():
    grey = np.full((64, 64), 90, np.uint8)
    empty = np.zeros((2, 64, 64), bool)
    picture = np.asarray(overlays.draw_segmentation(grey, empty, empty))[: overlays.SIDE]
    assert (picture == 90).all()


def test_datasets_without_redistribution_are_refused_with_a_reason(make):
    assert overlays.refusal(make.record(0.1)) == ""
    assert "rsna" in overlays.refusal(make.record(0.1, redistribution="none"))


@pytest.mark.parametrize("image", [np.zeros((10, 12), np.uint8), np.zeros((10, 10), np.float32)])
def test_wrong_images_are_refused(image):
    with pytest.raises(ValueError, match="square grey uint8"):
        overlays.draw_detection(image, np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0))


def test_a_similarity_map_is_strongest_where_it_is_highest_and_lies_over_the_whole_frame():
    image, similarity = np.zeros((56, 56), np.uint8), np.zeros((4, 4), np.float32)
    similarity[0, 3] = 0.4
    picture = np.asarray(overlays.draw_similarity(image, np.array([[42.0, 0, 14, 14]]), similarity)).astype(int)
    yellow = picture[: overlays.SIDE].sum(axis=2)
    quarters = [yellow[y : y + 224, x : x + 224].mean() for y in (0, 224) for x in (0, 224)]
    assert np.argmax(quarters) == 1
    assert yellow[300:, :150].max() == 0


def test_a_constant_similarity_is_drawn_without_a_peak():
    picture = np.asarray(overlays.draw_similarity(np.zeros((56, 56), np.uint8), np.zeros((0, 4)), np.full((2, 2), 0.3, np.float32)))
    assert picture[: overlays.SIDE].max() == 0
