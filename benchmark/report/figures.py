"""Plots as plotly figures in plain dictionaries, ready for JSON; colours of text and grid are set by the page.

Each backbone has a colour and a symbol, so that colour never carries meaning alone. Metrics never share an axis. Labels are escaped here
because plotly reads them as HTML.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from benchmark.cards import Record, Role
from benchmark.report.differences import Gain
from benchmark.report.rows import Row, is_random
from benchmark.report.tables import Board, Column

# Okabe and Ito's palette without black and yellow: told apart with any colour vision, on light and on dark ground.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_SYMBOLS = ("circle", "square", "triangle-up", "star", "hexagon", "pentagon", "cross", "x", "triangle-down", "hourglass")
_UNTRAINED = "#8A919C"
_LINE_HEIGHT = 26
_PANEL_MARGIN = 62

Figure = dict[str, Any]


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


def gain_forest(gains: Sequence[Gain], styles: dict[str, dict[str, Any]]) -> Figure:
    """Pre-trained minus untrained per task, in percentage points, one panel per metric; the line at zero is no difference."""
    by_metric: dict[str, dict[str, list[Gain]]] = {}
    for gain in gains:
        by_metric.setdefault(gain.trained.metric_title, {}).setdefault(gain.trained.task_title, []).append(gain)
    backbones = list(dict.fromkeys(gain.trained.label for gain in gains))
    offsets = {backbone: _offset(backbones, backbone) for backbone in backbones}
    figure = _stacked([(f"difference in {title}, percentage points", len(tasks)) for title, tasks in by_metric.items()], len(backbones))
    for number, tasks in enumerate(by_metric.values(), start=1):
        axes = {"xaxis": _axis("x", number), "yaxis": _axis("y", number)}
        _task_axis(figure, number, [_text(task) for task in tasks])
        key = "xaxis" if number == 1 else f"xaxis{number}"
        figure["layout"][key] |= {"zeroline": True, "zerolinewidth": 2}
        placed: dict[str, list[tuple[float, Gain]]] = {backbone: [] for backbone in backbones}
        for i, gain in ((i, gain) for i, task in enumerate(tasks.values()) for gain in task):
            placed[gain.trained.label].append((i + offsets[gain.trained.label], gain))
        for backbone, mine in placed.items():
            marker: dict[str, Any] = {**styles[backbone], "size": 9}
            figure["data"].append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": _text(backbone),
                    "legendgroup": _text(backbone),
                    "x": [_round(100 * g.difference.value) for _, g in mine],
                    "y": [y for y, _ in mine],
                    "error_x": _error([g.difference.half_width for _, g in mine], styles[backbone]),
                    "marker": marker,
                    "hovertext": [f"{_text(backbone)}<br>{_text(g.trained.task)}<br>{g.text} ({g.reading})" for _, g in mine],
                    "hoverinfo": "text",
                    **axes,
                }
            )
    return _with_legend(figure)


def curves(records: Sequence[Record], styles: dict[str, dict[str, Any]]) -> Figure:
    """Training of one task: losses on the left (validation dashed), the selection metric on the right, a star at the selected epoch."""
    figure: Figure = {"data": [], "layout": _curves_layout(records[0].job.experiment.select)}
    named: set[str] = set()
    for record in records:
        if not record.curve:
            continue
        labels, experiment = record.job.labels, record.job.experiment
        searching = experiment.role is Role.SELECTION
        backbone = _text(labels.backbone)
        job = f"{backbone}, {f'search {record.learning_rate or 0:g}' if searching else f'run {labels.run_number}'}"
        style = styles[labels.backbone]
        epochs = [point.epoch for point in record.curve]
        common = {"type": "scatter", "name": backbone, "legendgroup": backbone, "opacity": 0.4 if searching else 0.95, "x": epochs}
        line = {"color": style["color"], "width": 1.6}
        for what, dash, losses in (
            ("training loss", "solid", [p.train_loss for p in record.curve]),
            ("validation loss", "dash", [p.validation_loss for p in record.curve]),
        ):
            hover = f"{job}<br>{what} %{{y:.4g}}, epoch %{{x}}<extra></extra>"
            figure["data"].append(
                common
                | {"mode": "lines", "y": _rounded(losses), "line": line | {"dash": dash}, "showlegend": False, "hovertemplate": hover}
            )
        chosen = [point.epoch == record.selected_epoch for point in record.curve]
        figure["data"].append(
            common
            | {
                "mode": "lines+markers",
                "y": _rounded([_times(100, p.metrics.get(experiment.select)) for p in record.curve]),
                "line": line,
                "marker": {
                    "color": style["color"],
                    "symbol": ["star" if c else style["symbol"] for c in chosen],
                    "size": [13 if c else 5 for c in chosen],
                },
                "xaxis": "x2",
                "yaxis": "y2",
                "showlegend": backbone not in named,
                "hovertemplate": f"{job}<br>{_text(experiment.select)} %{{y:.3g}} %, epoch %{{x}}<extra></extra>",
            }
        )
        named.add(backbone)
    return figure


def _curves_layout(select: str) -> Figure:
    heading = {"xref": "paper", "yref": "paper", "y": 1.02, "showarrow": False, "xanchor": "left", "yanchor": "bottom"}
    return {
        "height": 380,
        "margin": {"l": 45, "r": 20, "t": 70, "b": 45},
        "legend": {"orientation": "h", "x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top"},
        "annotations": [
            heading | {"text": "<b>loss</b> (solid: training, dashed: validation)", "x": 0},
            heading | {"text": f"<b>validation {_text(select)} (%)</b>", "x": 0.54},
        ],
        "xaxis": {"domain": [0, 0.46], "title": {"text": "epoch"}},
        "yaxis": {"rangemode": "tozero"},
        "xaxis2": {"domain": [0.54, 1], "title": {"text": "epoch"}, "anchor": "y2"},
        "yaxis2": {"anchor": "x2", "rangemode": "tozero"},
    }


def styles_of(board: Board) -> dict[str, dict[str, Any]]:
    """Colour and symbol of every backbone: untrained ones are grey hollow diamonds."""
    trained = [b for b in board.backbones if b not in board.random_backbones]
    styles = {b: {"color": _UNTRAINED, "symbol": "diamond-open"} for b in board.random_backbones}
    return styles | {b: _style(i) for i, b in enumerate(trained)}


def curve_styles(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """The same for bare backbone labels, as curves carry them."""
    labels = sorted({(r.job.labels.backbone, is_random(r.job.experiment)) for r in records}, key=lambda item: item[0].lower())
    trained = [label for label, random in labels if not random]
    styles = {label: {"color": _UNTRAINED, "symbol": "diamond-open"} for label, random in labels if random}
    return styles | {label: _style(i) for i, label in enumerate(trained)}


def _style(index: int) -> dict[str, Any]:
    return {"color": _COLOURS[index % len(_COLOURS)], "symbol": _SYMBOLS[index % len(_SYMBOLS)]}


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
    layout: Figure = {"height": total + 50, "margin": {"l": 20, "r": 20, "t": 50, "b": 0}, "hovermode": "closest", "annotations": []}
    layout["legend"] = {"orientation": "h", "x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top"}
    top = 1.0 - 0.45 * _PANEL_MARGIN / total
    for number, ((title, _), height) in enumerate(zip(panels, heights, strict=True), start=1):
        suffix = "" if number == 1 else str(number)
        bottom = top - height / total
        layout[f"xaxis{suffix}"] = {"anchor": f"y{suffix}", "rangemode": "tozero"}
        layout[f"yaxis{suffix}"] = {"domain": [max(0.0, bottom), top], "anchor": f"x{suffix}"}
        layout["annotations"].append(
            {"text": f"<b>{_text(title)}</b>", "xref": "paper", "yref": "paper", "x": 0, "y": top, "showarrow": False}
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
        "name": _text(backbone),
        "legendgroup": _text(backbone),
        "x": [_round(100 * (row.mean or 0.0)) for _, row in placed],
        "y": [y for y, _ in placed],
        "error_x": _error([row.half_width for _, row in placed], style),
        "marker": {**style, "size": 10, "line": {"width": 1.5}},
        "hovertext": [f"{_text(backbone)}<br>{_text(row.task)}<br>{row.text} %, {row.n_ok} run(s)" for _, row in placed],
        "hoverinfo": "text",
        **axes,
    }


def _single_runs(backbone: str, placed: list[tuple[float, Row | None]], style: dict[str, Any], axes: dict[str, str]) -> Figure:
    dots = [(y, run, row) for y, row in placed if row is not None and (len(row.runs) > 1 or row.mean is None) for run in row.runs]
    dots = [(y, run, row) for y, run, row in dots if run.value is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _text(backbone),
        "legendgroup": _text(backbone),
        "x": [_round(100 * (run.value or 0.0)) for _, run, _ in dots],
        "y": [y for y, _, _ in dots],
        "marker": {"color": style["color"], "symbol": "line-ns-open", "size": 7, "opacity": 0.55},
        "hovertext": [
            f"{_text(backbone)}, run {run.run}: {100 * (run.value or 0.0):.2f} %"
            + (f"<br>incomplete: {_text(row.missing)}" if row.missing else "")
            for _, run, row in dots
        ],
        "hoverinfo": "text",
        **axes,
    }


def _error(half_widths: Sequence[float | None], style: dict[str, Any]) -> Figure:
    return {"type": "data", "array": [_round(100 * (h or 0.0)) for h in half_widths], "color": style["color"], "thickness": 1.6, "width": 5}


def _offset(backbones: Sequence[str], backbone: str) -> float:
    """Places marks of one task beside each other instead of on top of each other."""
    n = len(backbones)
    return 0.0 if n == 1 else round(0.56 * (backbones.index(backbone) / (n - 1) - 0.5), 3)


def _axis(letter: str, number: int) -> str:
    return letter if number == 1 else f"{letter}{number}"


def _task_label(column: Column) -> str:
    return _text(column.title)


def _text(text: str) -> str:
    return html.escape(text)


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else _round(value) for value in values]


def _round(value: float) -> float | None:
    """Rounds to five significant digits, plenty on a screen; values that are not finite leave a gap (JSON has no NaN)."""
    return float(f"{value:.5g}") if abs(value) < float("inf") else None
