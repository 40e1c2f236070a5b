"""Anchors stand in every table, apart from the backbones, and are taken for no result."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from benchmark import registry
from benchmark.cards import Record
from benchmark.report import tables, typeset
from benchmark.report.rows import rows_of
from benchmark.report.site import write_site

LINEAR, UNET, BOXES = "rsna-linear-frozen-10", "siim-unet-frozen-100", "rsna-yolov3-frozen-10"
TRAINED = {"backbone": "mine", "digest": "a" * 64}
OF_LINEAR = {
    "all positive": {"opacity_dice": 0.05316, "avg_dice": 0.05316},
    "grid oracle 7 x 7": {"opacity_dice": 0.8712, "avg_dice": 0.8712},
}
OF_UNET = {"all positive": {"pneumothorax_dice": 0.0213, "avg_dice": 0.0213}}


@pytest.fixture(autouse=True)
def no_cards(monkeypatch):
    monkeypatch.setattr(registry, "datasets", dict)


@pytest.fixture
def records(make) -> list[Record]:
    records = make.runs([0.2, 0.3], task=BOXES)
    for task, anchors in ((LINEAR, OF_LINEAR), (UNET, OF_UNET)):
        records += make.runs([0.20, 0.22], task=task, anchors=anchors) + make.runs([0.40, 0.43], task=task, anchors=anchors, **TRAINED)
    return records


def test_an_anchor_stands_in_the_columns_that_have_it_and_is_no_backbone(records):
    (board,) = tables.boards(rows_of(records))
    assert board.anchors == ["all positive", "grid oracle 7 x 7"]
    assert set(board.backbones) == {"resnet50 (random)", "mine"}
    texts = {(name, column.task): board.anchor_text(name, column) for name in board.anchors for column in board.columns}
    assert texts == {
        ("all positive", LINEAR): "5.3",
        ("all positive", UNET): "2.1",
        ("all positive", BOXES): "–",
        ("grid oracle 7 x 7", LINEAR): "87.1",
        ("grid oracle 7 x 7", UNET): "–",
        ("grid oracle 7 x 7", BOXES): "–",
    }


def test_rows_on_other_test_images_show_the_span(make):
    other = {"all positive": {"opacity_dice": 0.0712}}
    rows = rows_of([make.record(0.2, task=LINEAR, anchors=OF_LINEAR), make.record(0.3, task=LINEAR, anchors=other, threads=2)])
    (board,) = tables.boards(rows)
    assert board.anchor_text("all positive", board.columns[0]) == "5.3 to 7.1"


def test_every_format_marks_the_anchors(records):
    rows = rows_of(records)
    lines = list(csv.DictReader(io.StringIO(tables.to_csv(rows))))
    anchors = [line for line in lines if line["kind"] == "anchor"]
    assert {(line["backbone"], line["task"], round(float(line["mean_percent"]), 3)) for line in anchors} == {
        ("all positive", LINEAR, 5.316),
        ("all positive", UNET, 2.13),
        ("grid oracle 7 x 7", LINEAR, 87.12),
    }
    assert {line["kind"] for line in lines} == {"anchor", "backbone"}
    document = tables.to_dicts(rows)
    assert len(document["rows"]) == 5
    assert len(document["anchors"]) == 3
    markdown = typeset.to_markdown(rows)
    assert "| *anchor: grid oracle 7 x 7* | 87.1 |" in markdown
    assert markdown.count("anchor: grid oracle") == 1  # only in the table that has a column for it
    latex = typeset.to_latex(rows)
    assert r"\textit{anchor: all positive} & 2.1 \\" in latex
    assert latex.count(r"\midrule") == 5  # three tables, two of them with anchors


def test_the_terminal_shows_them_at_the_end_of_their_task(records):
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(tables.to_rich(rows_of(records)))
    lines = [line for line in console.export_text().splitlines() if "mine" in line or "anchor" in line]
    assert [line.split("anchor: ")[-1].split("│")[0].strip() if "anchor" in line else "mine" for line in lines] == [
        "mine",
        "all positive",
        "grid oracle 7 x 7",
        "mine",
        "all positive",
    ]


def test_the_page_shows_them_below_the_backbones(records, tmp_path):
    page = write_site(records, tmp_path, title="T").read_text(encoding="utf-8")
    table = page[page.index('<table id="scores"') :]
    assert 0 < table.index(">mine") < table.index('<tr class="anchor">') < table.index("</table>")
    assert tables.ANCHORS in page
    assert tables.ANCHORS not in write_site(records[:2], tmp_path, title="T").read_text(encoding="utf-8")


def test_records_of_before_have_none_and_still_load(make):
    raw = make.record(0.2, task=LINEAR).model_dump(mode="json")
    del raw["anchors"]
    (row,) = rows_of([Record.model_validate(raw)])
    assert row.anchors == ()
