"""Marks are told apart by more than colour, and a plot says what its rows say."""

from __future__ import annotations

from itertools import pairwise

from benchmark.report import figures
from benchmark.report.figures import Dot, Panel
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
