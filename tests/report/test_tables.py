"""Tables in every format: complete, escaped, and honest about gaps."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console

from benchmark import registry
from benchmark.cards import DISCLAIMER, Choice
from benchmark.rate_search import sentences
from benchmark.report import tables, typeset
from benchmark.report.rows import rows_of

EVIL = "=HYPERLINK(1)|<script>alert(1)</script>_%&"


@pytest.fixture(autouse=True)
def no_cards(monkeypatch):
    monkeypatch.setattr(registry, "datasets", dict)


@pytest.fixture(scope="module")
def rows(make):
    records = []
    for task in ("rsna-yolov3-frozen-10", "rsna-yolov3-frozen-100", "siim-unet-frozen-100", "object-cxr-yolov3-frozen-100"):
        records += make.runs([0.20, 0.22, 0.24], task=task)
        records += make.runs([0.40, 0.43, 0.41], task=task, backbone="zebra", digest="a" * 64)
    records += make.runs([0.30, 0.31], task="rsna-yolov3-frozen-10", backbone=EVIL, digest="b" * 64)
    return rows_of(records)


def test_a_column_is_one_task_with_one_metric(rows):
    (board,) = tables.boards(rows)
    for column in board.columns:
        found = {row.metric for backbone in board.backbones if (row := board.cell(backbone, column))}
        assert found == {column.metric}


def test_boards_never_mix_protocol_scale_or_phantoms(make):
    mixed = rows_of([make.record(0.1), make.record(0.2, limit=16), make.record(0.3, phantom=True, threads=2)])
    found = [(board.phantom, board.scale) for board in tables.boards(mixed)]
    assert found == [(False, "full"), (False, "limited"), (True, "full")]


def test_untrained_backbones_come_first_then_the_alphabet(rows):
    (board,) = tables.boards(rows)
    assert board.backbones == ("resnet50 (random)", EVIL, "zebra")


def test_every_gap_has_a_reason(rows):
    (board,) = tables.boards(rows)
    gaps = {(backbone, column.task): why for backbone, column, why in board.gaps()}
    assert gaps[EVIL, "rsna-yolov3-frozen-10"] == "2 of 3 runs, 1 missing: not run yet"
    assert gaps[EVIL, "siim-unet-frozen-100"] == "not part of this evaluation"
    assert len(gaps) == 4


def test_markdown_holds_disclaimer_values_gaps_and_no_html(rows):
    text = typeset.to_markdown(rows)
    assert DISCLAIMER in text
    assert "| zebra | 41 ± 4 |" in text
    assert "<script>" not in text
    for line in text.splitlines():
        if line.startswith("| ") and "HYPERLINK" in line:
            assert line.replace(r"\|", "").count("|") == 2 + line.count("–")


def test_csv_reads_back_unrounded_and_disarms_formulas(rows):
    lines = list(csv.DictReader(io.StringIO(tables.to_csv(rows))))
    assert len(lines) == len(rows) == 9
    by_name = {(line["backbone"], line["task"]): line for line in lines}
    assert float(by_name["zebra", "siim-unet-frozen-100"]["mean_percent"]) == pytest.approx(100 * (0.40 + 0.43 + 0.41) / 3, rel=1e-12)
    evil = next(line for line in lines if "HYPERLINK" in line["backbone"])
    assert evil["backbone"].startswith("'=")
    assert evil["mean_percent"] == ""
    assert json.loads(evil["run_values_percent"]) == [30.0, 31.0]


def test_latex_escapes_what_latex_would_read_as_commands(rows):
    text = typeset.to_latex(rows)
    assert r"\_\%\&" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    body = [line for line in text.splitlines() if line.startswith("zebra")]
    assert body[0] == r"zebra & -- & 41 $\pm$ 4 & 41 $\pm$ 4 \\" or body[0].count("&") >= 1


def test_terminal_table_keeps_metrics_in_columns_of_their_own(rows):
    console = Console(width=220, record=True, file=io.StringIO())
    console.print(tables.to_rich(rows))
    text = console.export_text()
    header = next(line for line in text.splitlines() if "backbone" in line)
    assert all(metric in header for metric in ("mAP (LoVT) %", "FROC (LoVT) %", "pneumothorax Dice %"))
    froc = header.index("FROC")
    line = next(line for line in text.splitlines() if "object-cxr" in line)
    assert "22 ± 5" in line[froc - 3 : froc + 14]
    assert "1 missing" in text
    assert "alert(1)" in text


def test_the_terminal_notes_how_a_learning_rate_was_chosen(make):
    made = Choice(rates=(1e-3, 1e-2, 3.16e-2), values=((0.1, 0.1), (0.5, 0.5), (0.4, 0.6)), beyond=3.16e-2, uncertain=True)
    records = [record.model_copy(update={"choice": made, "warnings": sentences(made)}) for record in make.runs([0.2, 0.3])]
    console = Console(width=320, record=True, file=io.StringIO())
    console.print(tables.to_rich(rows_of(records)))
    text = " ".join(console.export_text().split())
    assert "learning rate on the edge of the grid" in text
    assert "choice uncertain" in text


def test_json_is_plain_and_says_what_it_is(rows):
    document = json.loads(json.dumps(tables.to_dicts(rows), allow_nan=False))
    assert document["disclaimer"] == DISCLAIMER
    assert {row["text"] for row in document["rows"] if row["backbone"] == EVIL} == {"–"}


def test_each_warning_stands_once_with_where_it_holds(make):
    records = make.runs([0.2, 0.2]) + make.runs([0.1, 0.3], backbone="mine", digest="a" * 64)
    (board,) = tables.boards(rows_of(records))
    warnings = board.warnings()
    assert warnings["identical results from different seeds (runs 1, 2): the interval is too narrow; it is one run over again"] == [
        "resnet50 (random) on rsna-yolov3-frozen-10"
    ]
