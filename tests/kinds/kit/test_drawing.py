"""Pictures show truth and prediction where they are, told apart without colour."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.kinds.detection import draw_detection
from benchmark.kinds.kit import drawing
from benchmark.kinds.kit.drawing import PREDICTION, SIDE, TRUTH, draw_similarity
from benchmark.kinds.segmentation import draw_segmentation

BLACK = np.zeros((224, 224), np.uint8)


def _pixels(picture, colour) -> np.ndarray:
    return (np.asarray(picture)[:SIDE] == colour).all(axis=2)


def test_truth_is_a_solid_box_at_its_place():
    picture = draw_detection(BLACK, np.array([[50, 60, 40, 30]]), np.zeros((0, 4)), np.zeros(0))
    drawn = _pixels(picture, TRUTH)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert np.abs([rows[0] - 120, rows[-1] - 180, columns[0] - 100, columns[-1] - 180]).max() <= 2
    assert drawn[119:122, 100:180].any(axis=0).all()


def test_prediction_is_dashed_and_carries_its_confidence():
    bare = draw_detection(BLACK, np.zeros((0, 4)), np.array([[50, 60, 80, 90]]), np.array([0.83]))
    other = draw_detection(BLACK, np.zeros((0, 4)), np.array([[50, 60, 80, 90]]), np.array([0.21]))
    drawn = _pixels(bare, PREDICTION)
    bottom = drawn[299:302, 100:260].any(axis=0)
    assert 0.4 < bottom.mean() < 0.85
    assert (np.asarray(bare) != np.asarray(other)).any()


def test_boxes_below_the_threshold_are_counted_not_drawn():
    weak = draw_detection(BLACK, np.zeros((0, 4)), np.array([[50, 60, 80, 90]]), np.array([0.1]))
    assert not _pixels(weak, PREDICTION).any()
    none = draw_detection(BLACK, np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0))
    assert (np.asarray(weak)[SIDE:] != np.asarray(none)[SIDE:]).any()


def test_a_box_far_larger_than_the_picture_is_drawn_like_one_that_just_leaves_it():
    nothing = np.zeros((0, 4))
    drawn = [draw_detection(BLACK, nothing, np.array([[10.0, 10, side, 20]]), np.array([0.9])) for side in (2000, 1e30)]
    assert np.array_equal(*(np.asarray(picture) for picture in drawn))


def test_mask_outlines_follow_the_masks_edge():
    mask = np.zeros((1, 224, 224), bool)
    mask[0, 40:80, 100:150] = True
    picture = draw_segmentation(BLACK, mask, np.zeros_like(mask))
    drawn = _pixels(picture, TRUTH)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert np.abs([rows[0] - 80, rows[-1] - 160, columns[0] - 200, columns[-1] - 300]).max() <= 3


def said(monkeypatch) -> list[tuple[str, tuple[int, int, int]]]:
    """Words written beside outlines, with their colour, as they are drawn from now on."""
    written: list[tuple[str, tuple[int, int, int]]] = []
    drawn = drawing.tag
    monkeypatch.setattr(drawing, "tag", lambda pen, at, text, colour: (written.append((text, colour)), drawn(pen, at, text, colour)))
    return written


def test_outlines_of_several_classes_name_them_true_and_predicted(monkeypatch):
    written = said(monkeypatch)
    masks = np.zeros((2, 224, 224), bool)
    masks[0, 20:60, 20:60] = masks[1, 100:160, 100:160] = True
    draw_segmentation(BLACK, masks, masks, class_names=("lungs", "heart"))
    assert written == [(name, colour) for colour in (TRUTH, PREDICTION) for name in ("lungs", "heart")]


def test_boxes_of_several_classes_name_them_true_and_predicted(monkeypatch):
    written = said(monkeypatch)
    boxes, labels = np.array([[20.0, 20, 40, 40], [100, 100, 60, 60]]), np.array([1, 0])
    named = {"class_names": ("Mass", "Nodule"), "truth_labels": labels, "predicted_labels": labels}
    draw_detection(BLACK, boxes, boxes, np.array([0.9, 0.5]), **named)
    assert sorted(written) == sorted([("Nodule", TRUTH), ("Mass", TRUTH), ("Nodule 0.90", PREDICTION), ("Mass 0.50", PREDICTION)])
    written.clear()
    draw_detection(BLACK, boxes, boxes, np.array([0.9, 0.5]), class_names=("Mass", "Nodule"))  # an older file has no labels
    assert {text for text, _ in written} == {"0.90", "0.50"}


def test_a_mask_that_fills_the_frame_still_has_an_outline():
    full = np.ones((1, 224, 224), bool)
    assert _pixels(draw_segmentation(BLACK, full, ~full), TRUTH).any()


def test_empty_prediction_leaves_the_image_as_it_is():
    grey = np.full((64, 64), 90, np.uint8)
    empty = np.zeros((2, 64, 64), bool)
    picture = np.asarray(draw_segmentation(grey, empty, empty))[:SIDE]
    assert (picture == 90).all()


@pytest.mark.parametrize("image", [np.zeros((10, 12), np.uint8), np.zeros((10, 10), np.float32)])
def test_wrong_images_are_refused(image):
    with pytest.raises(ValueError, match="square grey uint8"):
        draw_detection(image, np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0))


def test_a_similarity_map_is_strongest_where_it_is_highest_and_lies_over_the_whole_frame():
    image, similarity = np.zeros((56, 56), np.uint8), np.zeros((4, 4), np.float32)
    similarity[0, 3] = 0.4
    picture = np.asarray(draw_similarity(image, np.array([[42.0, 0, 14, 14]]), similarity)).astype(int)
    yellow = picture[:SIDE].sum(axis=2)
    quarters = [yellow[y : y + 224, x : x + 224].mean() for y in (0, 224) for x in (0, 224)]
    assert np.argmax(quarters) == 1
    assert yellow[300:, :150].max() == 0


def test_a_constant_similarity_is_drawn_without_a_peak():
    picture = np.asarray(draw_similarity(np.zeros((56, 56), np.uint8), np.zeros((0, 4)), np.full((2, 2), 0.3, np.float32)))
    assert picture[:SIDE].max() == 0


def test_as_many_confidences_as_boxes_are_needed():
    with pytest.raises(ValueError, match="2 predicted boxes but 1 confidences"):
        draw_detection(np.zeros((8, 8), np.uint8), [], [[0, 0, 1, 1], [1, 1, 2, 2]], [0.5])
