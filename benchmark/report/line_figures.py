"""Lines with error bars as SVG in the page: few points that are read without a script, in the colours and symbols of all other plots.

Every series has a colour, a symbol and its name in a legend. Text and axes take the page's own colours.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.report.figures import style_of

WIDTH, HEIGHT = 760, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 30, 12, 48
_LEGEND_LINE = 20
_SYMBOLS = {
    "circle": '<circle r="4.2"/>',
    "square": '<rect x="-3.8" y="-3.8" width="7.6" height="7.6"/>',
    "triangle-up": '<path d="M0-5 4.8 4H-4.8z"/>',
    "star": '<path d="M0-5.6 1.6-1.8 5.6-1.6 2.5 1 3.5 5 0 2.8-3.5 5-2.5 1-5.6-1.6-1.6-1.8z"/>',
    "hexagon": '<path d="M0-5 4.4-2.5V2.5L0 5-4.4 2.5V-2.5z"/>',
    "pentagon": '<path d="M0-5 4.8-1.5 3 4.2H-3L-4.8-1.5z"/>',
}


@dataclass(frozen=True)
class Series:
    """A line: points (x, y, half width of the interval or None), in the units of the axes."""

    name: str
    points: tuple[tuple[float, float, float | None], ...]


def lines(series: Sequence[Series], x_title: str, y_title: str, label: str) -> str:
    """An SVG of all series that have a point; empty where none has.

    Args:
        label: what the figure shows, for who cannot see it.
    """
    drawn = [one for one in series if one.points]
    if not drawn:
        return ""
    xs = [x for one in drawn for x, _, _ in one.points]
    ys = [y + side * (half or 0.0) for one in drawn for _, y, half in one.points for side in (-1, 1)]
    across, up = _ticks(min(0.0, *xs), max(xs)), _ticks(min(ys), max(ys))
    height = HEIGHT + _LEGEND_LINE * math.ceil(len(drawn) / 3)

    def x_of(x: float) -> float:
        return _LEFT + (x - across[0]) / (across[-1] - across[0]) * (WIDTH - _LEFT - _RIGHT)

    def y_of(y: float) -> float:
        return HEIGHT - _BOTTOM - (y - up[0]) / (up[-1] - up[0]) * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(label)}" font-size="13" fill="currentColor">']
    for tick in up:
        y = y_of(tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="currentColor" opacity=".15"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in across:
        parts.append(f'<text x="{x_of(tick):.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(WIDTH + _LEFT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{html.escape(x_title)}</text>')
    middle = (HEIGHT - _BOTTOM + _TOP) / 2
    parts.append(f'<text transform="translate(15 {middle}) rotate(-90)" text-anchor="middle">{html.escape(y_title)}</text>')
    for number, one in enumerate(drawn):
        style = style_of(number)
        symbol = _SYMBOLS.get(style["symbol"], _SYMBOLS["circle"])
        colour = style["color"]
        placed = [(x_of(x), y_of(y), half) for x, y, half in one.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in placed)
        parts.append(f'<g fill="{colour}" stroke="{colour}"><title>{html.escape(one.name)}</title>')
        parts.append(f'<polyline points="{path}" fill="none" stroke-width="1.6"/>')
        for (x, y, half), (_, value, _) in zip(placed, one.points, strict=True):
            if half is not None:
                parts.append(f'<path d="M{x:.1f} {y_of(value - half):.1f}V{y_of(value + half):.1f}" opacity=".55"/>')
            parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{symbol}</g>')
        left, top = _LEFT + number % 3 * 232, HEIGHT + 8 + number // 3 * _LEGEND_LINE
        parts.append(f'<g transform="translate({left} {top})">{symbol}</g></g>')
        parts.append(f'<text x="{left + 12}" y="{top + 4.5}">{html.escape(one.name)}</text>')
    return "".join([*parts, "</svg>"])


def as_file(svg: str) -> str:
    """The same figure as a file of its own, for pages that show it as an image: it brings its size, its font and the text's two colours."""
    root, rest = svg.split(">", 1)
    drawn = f'{root} xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" font-family="sans-serif">'
    return f"{drawn}<style>svg{{color:#1f2328}}@media(prefers-color-scheme:dark){{svg{{color:#d1d7e0}}}}</style>{rest}\n"


def _ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers from below the lowest to above the highest value."""
    span = high - low or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 7)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]
