"""Lines as SVG: every point at its place, intervals as long as they are, names as text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from benchmark.report import line_figures
from benchmark.report.line_figures import Series

TWO = [Series("a", ((0.0, 10.0, None), (2.0, 30.0, 5.0))), Series("<b>", ((1.0, 20.0, None),))]


def drawn(series=TWO) -> str:
    return line_figures.lines(series, "x", "y (%)", "what it shows")


def test_points_lie_on_the_scale_of_the_ticks():
    svg = drawn()
    labels = {float(text): float(y) for y, text in re.findall(r'y="([\d.]+)" text-anchor="end">([\d.]+)<', svg)}
    first, last = (float(one) for one in re.search(r'polyline points="[\d.]+,([\d.]+) [\d.]+,([\d.]+)"', svg).groups())
    assert (first, last) == (pytest.approx(labels[10.0] - 4, abs=0.2), pytest.approx(labels[30.0] - 4, abs=0.2))


def test_an_interval_is_drawn_where_there_is_one():
    (low, high) = (float(one) for one in re.search(r'd="M[\d.]+ ([\d.]+)V([\d.]+)" opacity="\.55"', drawn()).groups())
    labels = {float(text): float(y) for y, text in re.findall(r'y="([\d.]+)" text-anchor="end">([\d.]+)<', drawn())}
    assert (low, high) == (pytest.approx(labels[25.0] - 4, abs=0.2), pytest.approx(labels[35.0] - 4, abs=0.2))
    assert drawn().count('opacity=".55"') == 1


def test_names_are_text_and_series_differ_in_colour_and_symbol():
    svg = drawn()
    assert "<b>" not in svg
    assert "&lt;b&gt;" in svg
    colours = re.findall(r'<g fill="(#\w+)"', svg)
    assert len(set(colours)) == 2
    assert "<circle" in svg
    assert "<rect" in svg


def test_a_figure_is_a_file_of_its_own_that_a_dark_page_can_show():
    file = ElementTree.fromstring(line_figures.as_file(drawn()))
    assert file.tag == "{http://www.w3.org/2000/svg}svg"
    assert file.get("fill") == "currentColor"
    assert "prefers-color-scheme:dark" in file.findtext("{http://www.w3.org/2000/svg}style")
    assert "<b>" in "".join(file.itertext())


def test_nothing_is_drawn_of_nothing():
    assert drawn([Series("a", ())]) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.3, 0.31), (12, 97), (-3, 4), (5, 5), (0, 1e-9)])
def test_ticks_enclose_the_values_and_are_few(low, high):
    ticks = line_figures._ticks(low, high)
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12
    assert 2 <= len(ticks) <= 9
