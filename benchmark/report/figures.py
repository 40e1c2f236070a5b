"""Plots as plotly figures in plain dictionaries, ready for JSON; colours of text and grid are set by the page.

Each backbone has a colour and a symbol, so that colour never carries meaning alone. Metrics never share an axis. Labels are escaped here
because plotly reads them as HTML.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.report.numbers import significant
from benchmark.report.rows import Row
from benchmark.report.tables import Board, Column

# Okabe and Ito's palette without black and yellow: told apart with any colour vision, on light and on dark ground.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_SYMBOLS = ("circle", "square", "triangle-up", "star", "hexagon", "pentagon", "cross", "x", "triangle-down", "hourglass")
_UNTRAINED = "#8A919C"
_LINE_HEIGHT = 26
_PANEL_MARGIN = 62

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_FILLED = {"color": _COLOURS[0], "symbol": "circle"}
_HOLLOW = {"color": _UNTRAINED, "symbol": "diamond-open"}
_LONGEST = 34  # letters of a name beside an axis

Figure = dict[str, Any]


@dataclass(frozen=True)
class Dot:
    """One line of a plot: what it is, its value with the half width of its interval, in the axis' unit, and single runs."""

    name: str
    value: float | None
    half_width: float | None
    says: str
    hollow: bool = False
    runs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Panel:
    """Lines that share an axis."""

    title: str
    dots: tuple[Dot, ...]
    around_zero: bool = False


def forest(board: Board) -> Figure:
    """Test scores of a board: a panel per metric, a line per task, a mark with its interval per backbone, small ticks for single runs."""
    panels = _panels(board)
    styles = styles_of(board)
    figure = _stacked([(title, len(columns)) for title, columns in panels], len(board.backbones))
    for number, (_, columns) in enumerate(panels, start=1):
        axes = {"xaxis": _axis("x", number), "yaxis": _axis("y", number)}
        _task_axis(figure, number, [_task_label(column) for column in columns])
        for backbone in board.backbones:
            offset = _offset(board.backbones, backbone)
            placed = [(i + offset, board.cell(backbone, column)) for i, column in enumerate(columns)]
            whole = [(y, row) for y, row in placed if row is not None and row.mean is not None]
            figure["data"].append(_marks(backbone, whole, styles[backbone], axes))
            figure["data"].append(_single_runs(backbone, placed, styles[backbone], axes))
    return _with_legend(figure)


def dots(panels: Sequence[Panel]) -> Figure:
    """A line for each thing, a mark with its interval on it: names stand on the axis, so that there is nothing to look up in a legend."""
    panels = [panel for panel in panels if panel.dots]
    figure = _stacked([(panel.title, len(panel.dots)) for panel in panels], 1)
    for number, panel in enumerate(panels, start=1):
        axes = {"xaxis": _axis("x", number), "yaxis": _axis("y", number)}
        _task_axis(figure, number, [escaped(_shortened(dot.name)) for dot in panel.dots])
        if panel.around_zero:
            figure["layout"]["xaxis" if number == 1 else f"xaxis{number}"] |= {"zeroline": True, "zerolinewidth": 2}
        for hollow, style in ((False, _FILLED), (True, _HOLLOW)):
            placed = [(y, dot) for y, dot in enumerate(panel.dots) if dot.hollow is hollow and dot.value is not None]
            figure["data"].append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": "untrained" if hollow else "pre-trained",
                    "showlegend": False,
                    "x": significant([dot.value or 0.0 for _, dot in placed], 5),
                    "y": [y for y, _ in placed],
                    "error_x": _error([None if d.half_width is None else d.half_width / 100 for _, d in placed], style),
                    "marker": {**style, "size": 9},
                    "hovertext": [f"{escaped(dot.name)}<br>{escaped(dot.says)}" for _, dot in placed],
                    "hoverinfo": "text",
                    **axes,
                }
            )
        runs = [(y, run) for y, dot in enumerate(panel.dots) for run in dot.runs]
        figure["data"].append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "single runs",
                "showlegend": False,
                "x": significant([run for _, run in runs], 5),
                "y": [y for y, _ in runs],
                "marker": {"color": _UNTRAINED, "symbol": "line-ns-open", "size": 7},
                "hoverinfo": "x",
                **axes,
            }
        )
    return figure


def dot_of(row: Row, name: str) -> Dot:
    """A row of a board as a line of a plot, in per cent."""
    runs = tuple(100 * run.value for run in row.runs if run.value is not None) if len(row.runs) > 1 or row.mean is None else ()
    says = f"{row.text} %, {row.n_ok} run(s)" if row.mean is not None else f"incomplete: {row.missing}"
    return Dot(name, _times(100, row.mean), _times(100, row.half_width), says, row.random, runs)


def styles_of(board: Board) -> dict[str, dict[str, Any]]:
    """Colour and symbol of every backbone: untrained ones are grey hollow diamonds."""
    trained = [b for b in board.backbones if b not in board.random_backbones]
    styles = {b: {"color": _UNTRAINED, "symbol": "diamond-open"} for b in board.random_backbones}
    return styles | {b: _style(i) for i, b in enumerate(trained)}


def line_styles(backbones: Mapping[str, bool]) -> dict[str, dict[str, Any]]:
    """Colour, symbol and dash of every backbone's curves, from its name and whether it is untrained."""
    trained = [name for name, random in backbones.items() if not random]
    styles = {name: style_of(0, untrained=True) for name, random in backbones.items() if random}
    return styles | {name: style_of(i) for i, name in enumerate(trained)}


def style_of(index: int, *, untrained: bool = False) -> dict[str, Any]:
    """Colour, symbol and dash of the i-th of several lines."""
    return {**_HOLLOW, "dash": "dot"} if untrained else _style(index) | {"dash": _DASHES[index % len(_DASHES)]}


def _style(index: int) -> dict[str, Any]:
    """Neighbours differ in colour and in symbol; no two of the first 120 share both."""
    n, rounds = len(_COLOURS), index // len(_COLOURS)
    symbol = _SYMBOLS[(index % n + rounds) % len(_SYMBOLS)]
    return {"color": _COLOURS[index % n], "symbol": symbol + "-open" * (rounds // len(_SYMBOLS) % 2)}


def _panels(board: Board) -> list[tuple[str, list[Column]]]:
    found: dict[str, list[Column]] = {}
    for column in board.columns:
        found.setdefault(column.metric_title, []).append(column)
    return [(f"{title} (%)", columns) for title, columns in found.items()]


def _stacked(panels: Sequence[tuple[str, int]], n_backbones: int) -> Figure:
    """Empty panels below each other, as high as their lines need."""
    per_task = max(_LINE_HEIGHT, 13 * n_backbones)
    heights = [n_tasks * per_task + 16 for _, n_tasks in panels]
    total = sum(heights) + _PANEL_MARGIN * len(panels)
    layout: Figure = {"height": total + 50, "margin": {"l": 20, "r": 20, "t": 10, "b": 40}, "hovermode": "closest", "annotations": []}
    layout["legend"] = {"orientation": "h", "x": 0, "xref": "container", "y": 0, "yref": "container", "yanchor": "bottom"}
    top = 1.0 - 0.45 * _PANEL_MARGIN / total
    for number, ((title, _), height) in enumerate(zip(panels, heights, strict=True), start=1):
        suffix = "" if number == 1 else str(number)
        bottom = top - height / total
        layout[f"xaxis{suffix}"] = {"anchor": f"y{suffix}", "rangemode": "tozero"}
        layout[f"yaxis{suffix}"] = {"domain": [max(0.0, bottom), top], "anchor": f"x{suffix}"}
        layout["annotations"].append(
            {"text": f"<b>{escaped(title)}</b>", "xref": "paper", "yref": "paper", "x": 0, "y": top, "showarrow": False}
            | {"xanchor": "left", "yanchor": "bottom"}
        )
        top = bottom - _PANEL_MARGIN / total
    return {"data": [], "layout": layout}


def _task_axis(figure: Figure, number: int, labels: list[str]) -> None:
    key = "yaxis" if number == 1 else f"yaxis{number}"
    figure["layout"][key] |= {
        "tickmode": "array",
        "tickvals": list(range(len(labels))),
        "ticktext": labels,
        "range": [len(labels) - 0.5, -0.5],
        "automargin": True,
        "zeroline": False,
        "ticks": "",
    }


def _with_legend(figure: Figure) -> Figure:
    """One entry per backbone, on its first trace with marks: plotly shows none for an empty trace."""
    named: set[str] = set()
    for trace in figure["data"]:
        trace["showlegend"] = trace["name"] not in named and "error_x" in trace and bool(trace["x"])
        if trace["showlegend"]:
            named.add(trace["name"])
    return figure


def _marks(backbone: str, placed: list[tuple[float, Row]], style: dict[str, Any], axes: dict[str, str]) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escaped(backbone),
        "legendgroup": escaped(backbone),
        "x": significant([100 * (row.mean or 0.0) for _, row in placed], 5),
        "y": [y for y, _ in placed],
        "error_x": _error([row.half_width for _, row in placed], style),
        "marker": {**style, "size": 10, "line": {"width": 1.5}},
        "hovertext": [f"{escaped(backbone)}<br>{escaped(row.task)}<br>{row.text} %, {row.n_ok} run(s)" for _, row in placed],
        "hoverinfo": "text",
        **axes,
    }


def _single_runs(backbone: str, placed: list[tuple[float, Row | None]], style: dict[str, Any], axes: dict[str, str]) -> Figure:
    dots = [(y, run, row) for y, row in placed if row is not None and (len(row.runs) > 1 or row.mean is None) for run in row.runs]
    dots = [(y, run, row) for y, run, row in dots if run.value is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escaped(backbone),
        "legendgroup": escaped(backbone),
        "x": significant([100 * (run.value or 0.0) for _, run, _ in dots], 5),
        "y": [y for y, _, _ in dots],
        "marker": {"color": style["color"], "symbol": "line-ns-open", "size": 7, "opacity": 0.55},
        "hovertext": [
            f"{escaped(backbone)}, run {run.run}: {100 * (run.value or 0.0):.2f} %"
            + (f"<br>incomplete: {escaped(row.missing)}" if row.missing else "")
            for _, run, row in dots
        ],
        "hoverinfo": "text",
        **axes,
    }


def _error(half_widths: Sequence[float | None], style: dict[str, Any]) -> Figure:
    return {
        "type": "data",
        "array": significant([100 * (h or 0.0) for h in half_widths], 5),
        "color": style["color"],
        "thickness": 1.6,
        "width": 5,
    }


def _offset(backbones: Sequence[str], backbone: str) -> float:
    """Places marks of one task beside each other instead of on top of each other."""
    n = len(backbones)
    return 0.0 if n == 1 else round(0.56 * (backbones.index(backbone) / (n - 1) - 0.5), 3)


def _axis(letter: str, number: int) -> str:
    return letter if number == 1 else f"{letter}{number}"


def _task_label(column: Column) -> str:
    return escaped(column.title)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def escaped(text: str) -> str:
    """Plotly reads labels as HTML."""
    return html.escape(text)


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value
