"""Marks are told apart by more than colour, and a plot says what its rows say."""

from __future__ import annotations

from itertools import pairwise

from benchmark.report import figures, trade_figures
from benchmark.report.figures import Dot, Panel
from benchmark.report.label_curves import label_curves
from benchmark.report.rows import rows_of


def test_styles_stay_distinct_far_beyond_thirty_backbones():
    styles = figures.line_styles({f"method {i}": False for i in range(120)} | {"untrained": True})
    assert len({(style["color"], style["symbol"]) for style in styles.values()}) == 121
    plain = list(styles.values())
    for one, other in pairwise(plain):
        assert one["symbol"] != other["symbol"]
        assert one["dash"] != other["dash"]


def test_untrained_networks_are_hollow_and_single_runs_are_ticks(make):
    rows = rows_of(make.runs([0.1, 0.2]) + make.runs([0.3, 0.5], backbone="mine", digest="a" * 64))
    plot = figures.dots([Panel("mAP (%)", tuple(figures.dot_of(row, row.label) for row in rows))])
    filled, hollow, ticks = plot["data"]
    assert (filled["x"], filled["y"], filled["marker"]["symbol"]) == ([40.0], [1], "circle")
    assert (hollow["x"], hollow["y"], hollow["marker"]["symbol"]) == ([15.0], [0], "diamond-open")
    assert ticks["x"] == [10.0, 20.0, 30.0, 50.0]
    assert plot["layout"]["yaxis"]["ticktext"] == ["resnet50 (random)", "mine"]


def test_a_gap_is_a_line_without_a_mark(make):
    (row,) = rows_of([make.record(0.1), make.record(failure="No.", run=1)])
    plot = figures.dots([Panel("mAP (%)", (figures.dot_of(row, "mine"),))])
    assert plot["data"][0]["x"] == plot["data"][1]["x"] == []
    assert plot["data"][2]["x"] == [10.0]


def test_names_are_escaped_and_shortened_beside_an_axis():
    name = "<img src=x onerror=alert(1)>" * 3
    plot = figures.dots([Panel("t", (Dot(name, 1.0, None, "1"),))])
    (label,) = plot["layout"]["yaxis"]["ticktext"]
    assert label.startswith("&lt;img")
    assert label.endswith("…")
    assert "&lt;img" in plot["data"][0]["hovertext"][0]
    assert "<img" not in str(plot)


def test_cost_and_labels_stand_on_logarithmic_axes_with_their_intervals(make):
    points = [("a", False, 4.1, 1.0, 0.3), ("<b>", True, 1.8, -2.0, None)]
    plot = trade_figures.over_cost(points, "hours")
    assert [trace["x"] for trace in plot["data"]] == [[4.1], [1.8]]
    assert plot["data"][1]["text"] == ["&lt;b&gt;"]
    assert plot["layout"]["xaxis"]["type"] == "log"
    records = make.runs([0.1, 0.2]) + make.runs([0.3, 0.4], task="rsna-yolov3-frozen-100")
    (trace,) = trade_figures.over_labels(label_curves(rows_of(records)))["data"]
    assert (trace["x"], trace["y"]) == ([10.0, 100.0], [15.0, 35.0])
    assert trace["error_y"]["array"][0] > 0
    assert trace["line"]["dash"] == "solid"
