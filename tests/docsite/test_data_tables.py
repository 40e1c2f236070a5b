"""Rows of data below docs/: each is in the table of the site as it stands in its file, and the page of measurements is made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docsite import data_rows, links, long_checks, performance, sortable
from docsite.addresses import DOCS, ROOT
from docsite.sortable import Cell, escaped
from tests.perf import page

HOSTILE = "<script>a</script> `b` ` [c](d.md) | &amp; =1"


class Read(HTMLParser):
    """Rows of a table as a browser reads them: the text of each cell, without what is folded in it, and its sort key."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.keys: list[list[str | None]] = []
        self.tags: set[str] = set()
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
            self.keys.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.keys[-1].append(dict(attrs).get("data-by"))
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, text: str) -> None:
        if self._inside:
            self.rows[-1][-1] += text


def test_the_page_of_measurements_is_what_the_data_gives() -> None:
    data = performance.read()
    assert (ROOT / DOCS / "performance.md").read_text(encoding="utf-8") == page.markdown(data), "make it anew: page.write([], path)"
    assert data.rows
    named = {(row.bench, row.what) for row in data.rows}
    assert len(named) == len(data.rows)
    assert {(one.bench, one.what) for one in data.details} <= named


def test_every_measurement_stands_in_the_sites_table_with_all_that_was_noted() -> None:
    data, shown = performance.read(), Read(performance.view())
    head, *rows = shown.rows
    assert head == ["bench", *performance.COLUMNS, "where the time goes"]
    for row, cells, keys in zip(data.rows, rows, shown.keys[1:], strict=True):
        assert cells[:-1] == [row.bench, *(text.replace("`", "") for text in performance.cells(row))]
        assert keys[2:6] == [row.plain_s, row.fast_s, row.ratio, row.target]
        noted = data.detail(row)
        assert [text for text in (f"{name}: {value}" for name, value in noted.items()) if text not in cells[-1]] == []
        assert (cells[-1] == "–") == (not noted)
    told = performance.view().partition("</table>")[2]
    assert [one for one in data.runs if f": {escaped(one.value)}</li>" not in told] == []


def test_every_row_of_a_long_check_stands_in_the_sites_table() -> None:
    known = long_checks.read()
    assert len(known) > 100
    _, *rows = Read(long_checks.view()).rows
    seen = [[one.check, one.result, one.seconds, one.commit, one.date, " ".join(one.saw.split()).replace("`", "")] for one in known]
    assert rows == seen


def test_text_of_a_row_is_text_on_the_site() -> None:
    shown = escaped(HOSTILE)
    read = Read(sortable.table("things", ("a", "b"), [[Cell(shown), Cell("1", '"><i>')]], choose=("a",)))
    assert read.rows == [["a", "b"], ["<script>a</script> b ` [c](d.md) | &amp; =1", "1"]]
    assert read.keys[1] == [None, '"><i>']
    assert read.tags == {"div", "table", "thead", "tbody", "tr", "th", "td", "code"}
    assert list(links.links_in(shown)) == []


@dataclass(frozen=True)
class Line:
    """A row of a made file."""

    name: str
    value: str


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@sum", "'@sum"),
        ("-a", "'-a"),
        ("+1;2", "'+1;2"),
        ("-0.68", "-0.68"),
        ("1e-05", "1e-05"),
        ("two\nlines", "two lines"),
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_is_written_as_text(text: str, written: str, tmp_path: Path) -> None:
    data_rows.write(Line, [Line("a", text)], tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == f"name,value\na,{written}\n"
    data_rows.write(Line, data_rows.read(Line, tmp_path / "a.csv", "x"), tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == (tmp_path / "a.csv").read_text()


def test_rows_that_differ_say_so_in_the_table() -> None:
    row = replace(performance.read().rows[0], same_numbers="no", largest_difference="0.001", tolerance="1e-05", reached="no")
    assert performance.cells(row)[-2:] == ("not reached", "no: 0.001 > 1e-05")
