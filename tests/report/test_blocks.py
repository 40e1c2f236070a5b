"""A picture in the terminal has the picture's shape, its colours and, without colour, its shades; outlines stay whole."""

from __future__ import annotations

import numpy as np
import pytest
from rich.color import Color

from benchmark.report.blocks import SHADES, UPPER_HALF, characters, half_blocks

BLUE, YELLOW = (86, 214, 255), (255, 196, 61)


def grey(*rows: tuple[int, ...]) -> np.ndarray:
    return np.repeat(np.array(rows, np.uint8)[:, :, None], 3, axis=2)


def colours(picture: np.ndarray, columns: int) -> list[list[tuple[Color, Color]]]:
    """Upper and lower colour of each character."""
    return [[(span.style.color, span.style.bgcolor) for span in line.spans] for line in half_blocks(picture, columns)]


def test_a_character_shows_two_cells_one_above_the_other():
    lines = half_blocks(grey((0, 100), (200, 255)), 2)
    assert [line.plain for line in lines] == [UPPER_HALF * 2]
    (found,) = colours(grey((0, 100), (200, 255)), 2)
    assert [(above.triplet, below.triplet) for above, below in found] == [((0, 0, 0), (200, 200, 200)), ((100,) * 3, (255,) * 3)]


def test_a_cell_is_the_mean_of_its_pixels_and_all_outline_where_one_runs_through_it():
    picture = grey(*[(100, 200) * 4] * 8)
    assert colours(picture, 1)[0][0][0].triplet == (150, 150, 150)
    picture[:, 3] = BLUE
    picture[0, 0] = YELLOW  # touches a corner, and is fewer
    assert colours(picture, 1)[0][0] == (Color.from_rgb(*BLUE), Color.from_rgb(*BLUE))


def test_without_colour_brightness_is_a_shade_and_an_outline_its_letter():
    picture = grey(*[tuple(range(0, 260, 26))] * 20)
    picture[:, 4] = BLUE
    picture[:, 6] = YELLOW
    for line in characters(picture, 10, {"T": BLUE, "P": YELLOW}):
        assert line.plain == SHADES[:4] + "T" + SHADES[5] + "P" + SHADES[7:]
        assert not line.spans


@pytest.mark.parametrize("columns", [1, 7, 40, 100])
def test_every_width_keeps_the_shape(columns: int):
    picture = np.zeros((60, 60, 3), np.uint8)
    for lines in (half_blocks(picture, columns), characters(picture, columns, {})):
        assert {len(line) for line in lines} == {columns}
        assert abs(len(lines) - columns / 2) <= 0.5 or columns == 1


@pytest.mark.parametrize(("picture", "columns"), [(np.zeros((4, 4), np.uint8), 4), (np.zeros((4, 4, 3)), 4), (grey((0, 0)), 0)])
def test_what_is_no_picture_is_refused(picture: np.ndarray, columns: int):
    with pytest.raises(ValueError, match="needs"):
        half_blocks(picture, columns)
