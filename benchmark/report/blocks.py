"""A picture as lines of a terminal: half blocks in colour, or plain characters. Arrays go in and text comes out.

A line of an outline is thinner than a cell of the terminal, and would be lost in the cell's mean: a cell through which an outline runs is
all outline.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rich.color import Color
from rich.style import Style
from rich.text import Text

Colour = tuple[int, int, int]

UPPER_HALF = "▀"  # the character's own colour above, its background below: two square cells in one column
SHADES = " .:-=+*#%@"  # dark to bright
_SPREAD = 90  # between a pixel's channels: outlines have more; grey has none, and a tinted area half as much
_LEAST_SHARE = 0.06  # of a cell's pixels, from which an outline runs through it and does not only touch it


def half_blocks(picture: np.ndarray, columns: int) -> list[Text]:
    """The picture, `columns` wide, in colours of 24 bit.

    Args:
        picture: (H, W, 3) uint8.

    Raises:
        ValueError: another array, or no column.
    """
    n_lines = max(1, round(columns * picture.shape[0] / picture.shape[1] / 2))
    cells = _cells(picture, 2 * n_lines, columns)
    lines = []
    for upper, lower in zip(cells[0::2], cells[1::2], strict=True):
        line = Text(no_wrap=True)
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            line.append(UPPER_HALF, Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        lines.append(line)
    return lines


def characters(picture: np.ndarray, columns: int, outlines: Mapping[str, Colour]) -> list[Text]:
    """The picture, `columns` wide, in shades and letters.

    Args:
        picture: (H, W, 3) uint8.
        outlines: letter -> colour of the outlines that it stands for; a cell takes that of the nearest colour.

    Raises:
        ValueError: another array, or no column.
    """
    n_lines = max(1, round(columns * picture.shape[0] / picture.shape[1] / 2))
    colours = np.array(list(outlines.values()), float).reshape(-1, 3)
    lines = []
    for row in _cells(picture, n_lines, columns).astype(float):
        letters = [
            list(outlines)[int(((colours - cell) ** 2).sum(axis=1).argmin())]
            if outlines and np.ptp(cell) > _SPREAD
            else SHADES[int(cell.mean() / 256 * len(SHADES))]
            for cell in row
        ]
        lines.append(Text("".join(letters), no_wrap=True))
    return lines


def _cells(picture: np.ndarray, n_rows: int, n_columns: int) -> np.ndarray:
    """(n_rows, n_columns, 3) uint8: the mean of each cell, or the colour of the outline that runs through it."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or n_columns < 1:
        raise ValueError(
            f"A picture of a terminal needs (H, W, 3) uint8 and a column, got {picture.shape} of {picture.dtype}, {n_columns}."
        )
    tops, lefts = (np.linspace(0, side, n + 1).astype(int) for side, n in zip(picture.shape, (n_rows, n_columns), strict=False))
    found = np.zeros((n_rows, n_columns, 3), np.uint8)
    for row in range(n_rows):
        for column in range(n_columns):
            bottom, right = max(tops[row + 1], tops[row] + 1), max(lefts[column + 1], lefts[column] + 1)
            found[row, column] = _colour_of(picture[tops[row] : bottom, lefts[column] : right].reshape(-1, 3))
    return found


def _colour_of(pixels: np.ndarray) -> np.ndarray:
    """Of (n, 3) pixels: the commonest of an outline, where there is one, else the mean."""
    strong = pixels[np.ptp(pixels.astype(int), axis=1) > _SPREAD]
    if len(strong) < _LEAST_SHARE * len(pixels) or not len(strong):
        return np.asarray(pixels.mean(axis=0).round())
    colours, counts = np.unique(strong, axis=0, return_counts=True)
    return np.asarray(colours[counts.argmax()])
