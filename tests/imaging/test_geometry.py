"""Promises of `benchmark.imaging.geometry`: LoVT's padding to the pixel, and boxes that land where the pixels do."""

from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from benchmark.imaging.geometry import Frame

sides = st.integers(1, 3000)
frames = st.builds(Frame.of, sides, sides, st.integers(8, 512))
boxes = st.tuples(*[st.floats(0, 2000, allow_nan=False)] * 4)


@pytest.mark.parametrize(
    ("height", "width", "pads", "padded"),
    [
        (1024, 1024, (0, 0), (1024, 1024)),
        (2330, 2846, (0, 258), (2846, 2846)),
        (885, 1036, (0, 75), (1035, 1036)),  # odd difference: one pixel short of square
        (7, 4, (1, 0), (7, 6)),
        (1, 2, (0, 0), (1, 2)),
    ],
)
def test_padding_is_symmetric_and_rounds_down(height: int, width: int, pads: tuple[int, int], padded: tuple[int, int]) -> None:
    frame = Frame.of(height, width, 224)
    assert (frame.pad_left, frame.pad_top) == pads
    assert (frame.padded_height, frame.padded_width) == padded
    assert (frame.scale_y, frame.scale_x) == (224 / padded[0], 224 / padded[1])


def test_boxes_are_moved_then_scaled_by_each_axis_alone() -> None:
    frame = Frame.of(885, 1036, 224)
    x, y, w, h = 100.0, 50.0, 300.0, 40.0
    expected = [x * 224 / 1036, (y + 75) * 224 / 1035, w * 224 / 1036, h * 224 / 1035]
    assert frame.to_frame(np.array([[x, y, w, h]]))[0] == pytest.approx(expected, rel=1e-12)


def test_the_frame_is_named_after_its_size() -> None:
    assert Frame.of(10, 20, 416).name == "padded-416"


@given(frames, st.lists(boxes, max_size=4))
def test_there_and_back_gives_the_same_boxes(frame: Frame, listed: list[tuple[float, ...]]) -> None:
    there = frame.to_frame(np.array(listed))
    assert there.shape == (len(listed), 4)
    assert frame.to_original(there) == pytest.approx(np.array(listed).reshape(-1, 4), abs=1e-6)


@given(frames)
def test_the_whole_image_stays_inside_the_frame(frame: Frame) -> None:
    x, y, w, h = frame.to_frame(np.array([[0, 0, frame.width, frame.height]]))[0]
    assert min(x, y) >= 0
    assert max(x + w, y + h) <= frame.size + 1e-9
    assert max(w, h) == pytest.approx(frame.size)


@given(st.data())
def test_boxes_land_where_their_pixels_land(data: st.DataObject) -> None:
    """A swap of width and height, of rows and columns, or of the two pads moves one of the two and not the other."""
    height, width = data.draw(st.integers(20, 150)), data.draw(st.integers(20, 150))
    frame = Frame.of(height, width, data.draw(st.integers(64, 160)))
    left, top = data.draw(st.integers(0, width - 8)), data.draw(st.integers(0, height - 8))
    w, h = data.draw(st.integers(8, width - left)), data.draw(st.integers(8, height - top))
    mask = np.zeros((1, height, width), dtype=bool)
    mask[0, top : top + h, left : left + w] = True
    rows, columns = np.nonzero(frame.place_masks(mask)[0])
    box = frame.to_frame(np.array([[left, top, w, h]]))[0]
    found = np.array([columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1])
    assert abs(found - box).max() <= 1.01


def test_swapped_width_and_height_are_caught_by_that_promise() -> None:
    frame = Frame.of(100, 140, 224)
    mask = np.zeros((1, 100, 140), dtype=bool)
    mask[0, 10:20, 30:90] = True
    rows, columns = np.nonzero(frame.place_masks(mask)[0])
    swapped = frame.to_frame(np.array([[30, 10, 10, 60]]))[0]
    assert abs(np.ptp(columns) + 1 - swapped[2]) > 50
    assert abs(np.ptp(rows) + 1 - swapped[3]) > 50


@pytest.mark.parametrize(("height", "width"), [(300, 300), (301, 224), (200, 333)])
def test_images_are_padded_with_zeros_and_resized_by_pillow(height: int, width: int) -> None:
    grey = np.random.RandomState(3).randint(1, 256, (height, width)).astype(np.uint8)
    frame = Frame.of(height, width, 224)
    border = (frame.pad_left, frame.pad_top, frame.pad_left, frame.pad_top)
    padded = PIL.ImageOps.expand(PIL.Image.fromarray(grey), border=border, fill=0)
    assert padded.mode == "L"
    assert (frame.place_image(grey) == np.asarray(padded.resize((224, 224), PIL.Image.Resampling.BILINEAR))).all()


def test_masks_stay_binary_and_keep_their_channels() -> None:
    masks = np.random.RandomState(4).rand(3, 90, 130) > 0.5
    placed = Frame.of(90, 130, 64).place_masks(masks)
    assert (placed.shape, placed.dtype) == ((3, 64, 64), np.dtype(bool))
    assert all((placed[c] == Frame.of(90, 130, 64).place_masks(masks[c : c + 1])[0]).all() for c in range(3))


def test_masks_of_another_size_are_first_resized_to_the_image() -> None:
    small = np.zeros((1, 50, 70), dtype=bool)
    small[0, 10:30, 20:60] = True
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    frame = Frame.of(100, 140, 224)
    assert (frame.place_masks(small) == frame.place_masks(large)).all()


def test_no_masks_give_no_channels() -> None:
    assert Frame.of(90, 130, 64).place_masks(np.zeros((0, 90, 130), dtype=bool)).shape == (0, 64, 64)


def test_wrong_shapes_and_types_are_refused() -> None:
    frame = Frame.of(90, 130, 64)
    with pytest.raises(ValueError, match=r"\(130, 90\)"):
        frame.place_image(np.zeros((130, 90), dtype=np.uint8))
    with pytest.raises(ValueError, match="float64"):
        frame.place_image(np.zeros((90, 130)))
    with pytest.raises(ValueError, match="uint8"):
        frame.place_masks(np.zeros((1, 90, 130), dtype=np.uint8))
    with pytest.raises(ValueError, match="positive"):
        Frame.of(0, 10, 224)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 40), st.integers(0, 99))
def test_a_map_comes_back_as_interpolation_at_every_pixels_centre(height: int, width: int, size: int, seed: int) -> None:
    frame, values = Frame.of(height, width, size), np.random.default_rng(seed).random((size, size), np.float32)
    rows = (np.arange(height) + frame.pad_top + 0.5) * frame.scale_y - 0.5
    columns = (np.arange(width) + frame.pad_left + 0.5) * frame.scale_x - 0.5
    by_hand = ndimage.map_coordinates(values.astype(np.float64), np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    found = frame.map_to_original(values)
    assert (found.dtype, found.shape) == (np.float32, (height, width))
    assert np.allclose(found, by_hand, atol=2e-6)


def test_a_map_of_the_images_own_size_comes_back_to_the_bit_and_a_flat_one_stays_flat() -> None:
    values = np.random.default_rng(0).random((24, 24), np.float32)
    assert np.array_equal(Frame.of(24, 24, 24).map_to_original(values), values)
    for level in np.float32([0.1, 0.5, 1 / 3, 1.0]):
        assert (Frame.of(131, 77, 24).map_to_original(np.full((24, 24), level)) == level).all()


@pytest.mark.parametrize("values", [np.zeros((24, 24)), np.zeros((24, 23), np.float32)])
def test_a_map_of_another_type_or_frame_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected float32 \(24, 24\)"):
        Frame.of(30, 30, 24).map_to_original(values)


def test_masks_of_another_size_are_brought_to_the_images_and_others_left_alone() -> None:
    frame, mask = Frame.of(4, 6, 8), np.array([[[True, False], [False, False]]])
    assert frame.at_image_size(mask)[0].astype(int).tolist() == [[1, 1, 1, 0, 0, 0]] * 2 + [[0] * 6] * 2
    sized = np.ones((2, 4, 6), bool)
    assert frame.at_image_size(sized) is sized
