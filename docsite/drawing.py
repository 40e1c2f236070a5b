"""Small pictures as SVG, for the pages of the site: grids of pixels, boxes, and curves. Colours are the page's, light or dark.

Every picture is narrow enough for a telephone. What it says is said by form: filled is predicted, a thick line is truth. Colour repeats it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH = 260  # pixels of a picture, at most
_PLOT_LEFT, _PLOT_TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 56, 12, 190, 150


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        about: what is to be seen, for who cannot see it.
        parts: elements of SVG, in the order they are drawn.
        width, height: pixels.
    """

    about: str
    parts: tuple[str, ...]
    width: float
    height: float

    def svg(self) -> str:
        """In one line: a blank one would end the block in Markdown."""
        size = f'viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" height="{self.height:g}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(self.about)}">{"".join(self.parts)}</svg>'


def grid(about: str, shade: np.ndarray, truth: np.ndarray, texts: np.ndarray | None = None, cell: int = 20) -> Picture:
    """Pixels, filled as far as they are predicted, with a thick line round the truth.

    Args:
        shade: (H, W) of 0 (empty) to 1 (filled).
        truth: (H, W) bool.
        texts: (H, W) str, written into the cells.
    """
    height, width = truth.shape
    parts = []
    for row, column in np.ndindex(height, width):
        x, y = 2 + column * cell, 2 + row * cell
        box = f'x="{x}" y="{y}" width="{cell}" height="{cell}"'
        parts.append(f'<rect class="cell" {box}/>')
        if shade[row, column] > 0:
            parts.append(f'<rect class="found" {box} fill-opacity="{0.65 * float(shade[row, column]):.2f}"/>')
        if texts is not None:
            parts.append(text(x + cell / 2, y + cell / 2 + 4, str(texts[row, column]), anchor="middle"))
    return Picture(about, (*parts, outline(truth, 2, 2, cell)), 4 + width * cell, 4 + height * cell)


def outline(mask: np.ndarray, left: float, top: float, cell: float, kind: str = "truth") -> str:
    """The edges between pixels of a (H, W) bool mask and what is not in it, as one path."""
    padded = np.pad(mask, 1)
    steps = []
    for row, column in np.argwhere(mask):
        x, y = left + column * cell, top + row * cell
        if not padded[row, column + 1]:
            steps.append(f"M{x:g} {y:g}h{cell:g}")
        if not padded[row + 2, column + 1]:
            steps.append(f"M{x:g} {y + cell:g}h{cell:g}")
        if not padded[row + 1, column]:
            steps.append(f"M{x:g} {y:g}v{cell:g}")
        if not padded[row + 1, column + 2]:
            steps.append(f"M{x + cell:g} {y:g}v{cell:g}")
    return f'<path class="{kind}" d="{"".join(steps)}"/>'


def image(about: str, truth_xywh: Iterable[Sequence[float]], found_xywh: Iterable[tuple[Sequence[float], str]], side: int) -> Picture:
    """An image of `side` pixels with true boxes and detections, each with a few words at its top left corner."""
    parts = [f'<rect class="cell" x="1" y="1" width="{side}" height="{side}"/>']
    for x, y, w, h in truth_xywh:
        parts.append(f'<rect class="truth" x="{x + 1:g}" y="{y + 1:g}" width="{w:g}" height="{h:g}"/>')
    for (x, y, w, h), words in found_xywh:
        parts.append(f'<rect class="found edge" fill-opacity="0.25" x="{x + 1:g}" y="{y + 1:g}" width="{w:g}" height="{h:g}"/>')
        parts.append(text(x + w / 2 + 1, y + h / 2 + 5, words, anchor="middle"))
    return Picture(about, tuple(parts), side + 2, side + 2)


@dataclass(frozen=True)
class Axes:
    """A plot to draw into, from (0, 0) or another lowest point at the bottom left.

    Attributes:
        across, up: what the two axes show.
        x_ends, y_ends: lowest and highest value.
        x_ticks, y_ticks: values written at the axes.
    """

    across: str
    up: str
    x_ends: tuple[float, float] = (0.0, 1.0)
    y_ends: tuple[float, float] = (0.0, 1.0)
    x_ticks: Sequence[float] = (0, 0.5, 1)
    y_ticks: Sequence[float] = (0, 0.5, 1)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point's place in the picture."""
        across = (x - self.x_ends[0]) / (self.x_ends[1] - self.x_ends[0])
        up = (y - self.y_ends[0]) / (self.y_ends[1] - self.y_ends[0])
        return _PLOT_LEFT + across * _PLOT_WIDTH, _PLOT_TOP + (1 - up) * _PLOT_HEIGHT

    def line(self, points: Iterable[tuple[float, float]], kind: str = "curve") -> str:
        """A line through the points."""
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        return f'<polyline class="{kind}" points="{places}"/>'

    def dot(self, x: float, y: float, kind: str = "dot") -> str:
        across, up = self.at(x, y)
        return f'<circle class="{kind}" cx="{across:.1f}" cy="{up:.1f}" r="4"/>'

    def picture(self, about: str, parts: Iterable[str]) -> Picture:
        """The axes with what is drawn into them."""
        bottom, left = _PLOT_TOP + _PLOT_HEIGHT, _PLOT_LEFT
        drawn = [f'<path class="axis" d="M{left} {_PLOT_TOP}V{bottom}H{left + _PLOT_WIDTH}"/>']
        drawn += [text(self.at(tick, 0)[0], bottom + 16, f"{tick:g}", anchor="middle") for tick in self.x_ticks]
        drawn += [text(left - 6, self.at(self.x_ends[0], tick)[1] + 4, _signed(tick), anchor="end") for tick in self.y_ticks]
        drawn.append(text(left + _PLOT_WIDTH / 2, bottom + 34, self.across, anchor="middle"))
        middle = _PLOT_TOP + _PLOT_HEIGHT / 2
        drawn.append(f'<g transform="rotate(-90 14 {middle:g})">{text(14, middle, self.up, anchor="middle")}</g>')
        return Picture(about, (*drawn, *parts), WIDTH, bottom + 42)


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words, quote=False)}</text>'


def _signed(value: float) -> str:
    return f"{value:g}".replace("-", "−")
