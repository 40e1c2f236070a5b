"""Object-CXR's shapes: one text field, two readings of its geometry."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.readers.kit.shapes import ShapeKind, parse_annotation, released_boxes, released_masks, true_boxes, true_masks

HEIGHT, WIDTH = 40, 60
RECTANGLE, ELLIPSE, POLYGON = "0 5 10 25 16", "1 30 4 50 14", "2 10 20 40 20 10 35"


def test_three_kinds_share_one_field():
    shapes = parse_annotation("0 700 1200 940 1390;1 1000 450 1150 600;2 120 310 180 300 190 420 130 430")
    assert [s.kind for s in shapes] == [ShapeKind.RECTANGLE, ShapeKind.ELLIPSE, ShapeKind.POLYGON]
    assert [s.xyxy for s in shapes] == [(700, 1200, 940, 1390), (1000, 450, 1150, 600), (120, 300, 190, 430)]


def test_an_empty_field_is_an_image_without_objects():
    assert parse_annotation("") == ()
    assert true_boxes(()).shape == (0, 4)
    assert not true_masks((), (4, 5)).any()


def test_true_boxes_keep_width_and_height_apart():
    assert true_boxes(parse_annotation(f"{RECTANGLE};{POLYGON}")).tolist() == [[5, 10, 20, 6], [10, 20, 30, 15]]


def test_released_boxes_carry_height_where_width_is_read():
    assert released_boxes(parse_annotation(f"{RECTANGLE};{POLYGON}")).tolist() == [[5, 10, 6, 20], [10, 20, 15, 30]]


def test_rectangles_are_filled_alike_in_both_readings():
    shapes = parse_annotation(RECTANGLE)
    expected = np.zeros((1, HEIGHT, WIDTH), dtype=bool)
    expected[0, 10:16, 5:25] = True
    assert np.array_equal(true_masks(shapes, (HEIGHT, WIDTH)), expected)
    assert np.array_equal(released_masks(shapes, (HEIGHT, WIDTH)), expected)


@pytest.mark.parametrize(("x1", "y1", "x2", "y2"), [(30, 4, 50, 14), (3, 5, 24, 38), (10, 10, 11, 11), (7, 7, 20, 13)])
def test_true_ellipse_is_inscribed_in_its_box(x1, y1, x2, y2):
    mask = true_masks(parse_annotation(f"1 {x1} {y1} {x2} {y2}"), (HEIGHT, WIDTH))[0]
    # The defining inequality at pixel centres, written out independently.
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside = ((columns - (x1 + x2) / 2) / ((x2 - x1) / 2)) ** 2 + ((rows - (y1 + y2) / 2) / ((y2 - y1) / 2)) ** 2 < 1
    assert np.array_equal(mask, inside)
    filled_rows, filled_columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert (filled_columns[0], filled_columns[-1], filled_rows[0], filled_rows[-1]) == (x1, x2 - 1, y1, y2 - 1)


def test_true_ellipse_is_not_its_rectangle_and_the_released_one_is():
    shapes = parse_annotation(ELLIPSE)
    box = np.zeros((HEIGHT, WIDTH), dtype=bool)
    box[4:14, 30:50] = True
    true = true_masks(shapes, (HEIGHT, WIDTH))[0]
    assert (true <= box).all()
    assert 0.75 < true.sum() / box.sum() < 0.82  # pi / 4
    assert np.array_equal(released_masks(shapes, (HEIGHT, WIDTH))[0], box)


def test_released_polygon_is_the_true_one_with_x_and_y_exchanged():
    upright = parse_annotation("2 10 20 40 20 40 35 10 35")
    true, released = true_masks(upright, (60, 60))[0], released_masks(upright, (60, 60))[0]
    assert np.array_equal(released, true.T)
    assert true[20:36, 10:41].all()
    assert true.sum() == 16 * 31

    slanted = parse_annotation(POLYGON)
    true, released = true_masks(slanted, (60, 60))[0], released_masks(slanted, (60, 60))[0]
    assert true[20, 39]
    assert true[34, 10]
    assert not true[34, 39]
    # OpenCV rounds slanted edges differently across and along; only pixels of the longest edge may differ.
    assert (released ^ true.T).sum() <= 30 < (released ^ true).sum()


def test_released_polygon_is_cut_by_the_image_it_does_not_fit():
    wide = parse_annotation("2 45 2 58 2 58 12")  # x above the image's height: rows that do not exist once exchanged
    assert true_masks(wide, (HEIGHT, WIDTH)).any()
    assert not released_masks(wide, (HEIGHT, WIDTH)).any()


def test_objects_that_start_outside_are_cut_and_vanish_in_the_released_reading():
    shapes = parse_annotation("0 5 -3 20 6")
    true = true_masks(shapes, (HEIGHT, WIDTH))[0]
    assert true.sum() == 15 * 6
    assert true[:6, 5:20].all()
    assert not released_masks(shapes, (HEIGHT, WIDTH)).any()


def test_several_objects_are_one_union():
    shapes = parse_annotation("0 5 5 15 15;0 10 10 20 20")
    assert true_masks(shapes, (HEIGHT, WIDTH)).sum() == 100 + 100 - 25
