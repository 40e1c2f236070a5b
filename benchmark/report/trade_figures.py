"""Plots of what a score is bought with: a headline over computing, a score over labels. As `figures`, plain dictionaries for plotly."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.report.figures import Figure, escaped, style_of
from benchmark.report.label_curves import LabelCurve
from benchmark.report.numbers import significant

NAMED = 24  # points that carry their names; more would hide each other
_HEIGHT = 340


def over_cost(points: Sequence[tuple[str, bool, float, float, float | None]], unit: str) -> Figure:
    """Headlines over what the backbones cost, on a logarithmic axis.

    Args:
        points: label, whether untrained, cost, headline, its half width.
        unit: of the cost, as the axis names it.
    """
    figure: Figure = {"data": [], "layout": _layout(unit, "headline")}
    for hollow in (False, True):
        mine = [point for point in points if point[1] is hollow]
        figure["data"].append(
            {
                "type": "scatter",
                "mode": "markers+text" if len(points) <= NAMED else "markers",
                "name": "untrained" if hollow else "pre-trained",
                "showlegend": False,
                "x": significant([cost for _, _, cost, _, _ in mine], 5),
                "y": significant([value for _, _, _, value, _ in mine], 5),
                "text": [escaped(label) for label, *_ in mine],
                "textposition": "top center",
                "error_y": {"type": "data", "array": significant([half or 0.0 for *_, half in mine], 5), "thickness": 1.2, "width": 4},
                "marker": {**style_of(0, untrained=hollow), "size": 9},
                "hovertext": [
                    f"{escaped(label)}<br>{cost:.3g} {escaped(unit)}, headline {value:+.2f}" for label, _, cost, value, _ in mine
                ],
                "hoverinfo": "text",
            }
        )
    return figure


def over_labels(curves: Sequence[LabelCurve]) -> Figure:
    """Scores of one backbone by its share of labels, a line for each recipe; the legend stands below the data."""
    figure: Figure = {"data": [], "layout": _layout("labels (%)", "score (%)")}
    shares = sorted({float(f"{100 * row.fraction:.5g}") for curve in curves for row in curve.points})
    figure["layout"]["xaxis"] |= {"tickmode": "array", "tickvals": shares, "ticktext": [f"{share:g}" for share in shares]}
    for number, curve in enumerate(curves):
        style = style_of(number)
        means = [100 * (row.mean or 0.0) for row in curve.points]
        figure["data"].append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": escaped(f"{curve.name}, {curve.points[0].metric_title}"),
                "x": significant([100 * row.fraction for row in curve.points], 5),
                "y": significant(means, 5),
                "error_y": {
                    "type": "data",
                    "array": significant([100 * (row.half_width or 0.0) for row in curve.points], 5),
                    "color": style["color"],
                    "thickness": 1.2,
                    "width": 4,
                },
                "line": {"color": style["color"], "dash": style["dash"], "width": 1.6},
                "marker": {"color": style["color"], "symbol": style["symbol"], "size": 9},
                "hovertext": [f"{escaped(curve.name)}<br>{escaped(row.fraction_text)} of labels: {row.text} %" for row in curve.points],
                "hoverinfo": "text",
            }
        )
    return figure


def _layout(x: str, y: str) -> Figure:
    return {
        "height": _HEIGHT,
        "margin": {"l": 55, "r": 20, "t": 15, "b": 80},
        "hovermode": "closest",
        "xaxis": {"title": {"text": escaped(x), "standoff": 6}, "type": "log"},
        "yaxis": {"title": {"text": escaped(y)}},
        "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
    }
