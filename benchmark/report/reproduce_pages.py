"""A reproduction as Markdown, CSV, HTML and JSON, and the files it is written to.

What stands in a table is decided in `paper_sheets`. As LaTeX it is `paper_latex`, at the terminal `paper_text`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmark.cards import DISCLAIMER
from benchmark.report import escape, papers_page
from benchmark.report.pages import environment, write_page
from benchmark.report.paper_latex import to_latex
from benchmark.report.paper_sheets import cells_of, sheets, title, warnings
from benchmark.report.reproduce import Cell, ReproducedTable, Reproduction, how_to_read

CSV_COLUMNS = (
    "paper",
    "table",
    "task",
    "dataset",
    "setting",
    "label_fraction",
    "metric",
    "unit",
    "method",
    "pretraining",
    "published",
    "published_half_width_95",
    "verified",
    "source",
    "origin_protocol",
    "task_of_lobe",
    "measured_backbone",
    "measured",
    "measured_half_width_95",
    "measured_runs",
    "difference",
    "difference_half_width_95",
    "interval_is_lower_bound",
    "margin",
    "verdict",
    "why_no_difference",
)


def to_markdown(reproduction: Reproduction) -> str:
    lines = [f"# {escape.markdown(title(reproduction))}", "", f"> {DISCLAIMER}", ""]
    lines += [f"{sentence}\n" for sentence in (escape.markdown(reproduction.card.citation), *warnings(reproduction))]
    lines += [f"- {sentence}" for sentence in how_to_read(reproduction)] + [""]
    for sheet in sheets(reproduction):
        lines += [f"## {escape.markdown(sheet.heading)}", ""]
        bullet, end = ("", "\n") if sheet.lines else ("- ", "")
        lines += [f"{bullet}{escape.markdown(sentence)}{end}" for sentence in sheet.sentences]
        if sheet.lines:
            lines += [_bar(map(escape.markdown, sheet.heads)), "|" + ":--|" * len(sheet.row_heads) + "--:|" * len(sheet.titles)]
            lines += [_bar((*_emphasised(line.kind, line.heads), *map(escape.markdown, line.texts))) for line in sheet.lines]
        lines += ["", *(f"- {escape.markdown(note)}" for note in sheet.notes), ""]
    lines += ["## Sources", ""] + [f"- {escape.markdown(source)}" for source in reproduction.sources] + [""]
    return "\n".join(lines)


def to_csv(reproduction: Reproduction) -> str:
    """One line per published number with what was measured beside it, in the paper's order."""
    lines = [_csv_line(reproduction.card.name, table.title, cell) for table in reproduction.tables for cell in table.cells]
    return _csv([CSV_COLUMNS, *lines])


def table_csv(table: ReproducedTable) -> str:
    """The table as it is printed, in numbers: per line of the paper one each for what was published, its half width, and what was measured
    beside it, told apart by the column `kind`. Heads over several columns are part of each of them."""
    grid, at = table.printed.grid, cells_of(table)
    lines: list[Sequence[Any]] = [(*grid.row_heads, "kind", *grid.titles)]
    for i, heads in enumerate(grid.rows):
        cells = [at.get((i, j)) for j in range(grid.n_columns)]
        for kind, values in _numbers(cells).items():
            if kind == "published" or any(value is not None for value in values):
                lines.append((*heads, kind, *values))
    return _csv(lines)


def to_html(reproduction: Reproduction) -> str:
    return (
        environment()
        .get_template("reproduce.html.j2")
        .render(
            title=title(reproduction),
            citation=reproduction.card.citation,
            warnings=warnings(reproduction),
            how_to_read=how_to_read(reproduction),
            sheets=list(sheets(reproduction)),
            sources=reproduction.sources,
            phantom=False,
            limited=False,
        )
    )


def to_dict(reproduction: Reproduction) -> dict[str, Any]:
    """One JSON document; every published number with its measurement by table, then what is unknown and what was refused."""
    card = reproduction.card
    return {
        "disclaimer": DISCLAIMER,
        "paper": card.name,
        "title": title(reproduction),
        "citation": card.citation,
        "custom": reproduction.custom,
        "unknown": list(card.unknown),
        "how_to_read": how_to_read(reproduction),
        "tables": [_table_dict(card.name, table) for table in reproduction.tables],
        "refused": [{"reason": one.reason, "records": one.n_records, "first": one.first} for one in reproduction.refused],
    }


def write(reproduction: Reproduction, out: Path) -> Path:
    """Writes `<out>/report/reproduce-<paper>.{html,md,csv,tex}`, and each table as CSV into `reproduce-<paper>/`; returns the HTML file."""
    stem = f"reproduce-{escape.slug(reproduction.card.name)}"
    for suffix, text in (("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
        write_page(out / "report" / f"{stem}.{suffix}", text(reproduction))
    for number, table in enumerate(reproduction.tables, 1):
        write_page(out / "report" / stem / f"{number:02}-{escape.slug(table.title)}.csv", table_csv(table))
    page = write_page(out / "report" / f"{stem}.html", to_html(reproduction))
    papers_page.write(out / "report")
    return page


def _table_dict(paper: str, table: ReproducedTable) -> dict[str, Any]:
    grid = table.printed.grid
    cells = [dict(zip(CSV_COLUMNS, _csv_line(paper, table.title, cell), strict=True)) for cell in table.cells]
    placed = [{"row": row, "column": column} | cell for (row, column), cell in zip(grid.at, cells, strict=True)]
    layout = {"row_heads": list(grid.row_heads), "rows": list(map(list, grid.rows)), "levels": list(map(list, grid.levels))}
    return {"title": table.title, "compared": table.is_compared, "shared": dict(grid.shared), **layout, "cells": placed}


def _numbers(cells: Sequence[Cell | None]) -> dict[str, list[Any]]:
    rows = [None if cell is None else cell.measured for cell in cells]
    differences = [None if cell is None else cell.difference for cell in cells]
    return {
        "published": [None if cell is None else _plain(cell.published) for cell in cells],
        "published ±": [None if cell is None else _plain(cell.line["half_width_95"]) for cell in cells],
        "measured": [None if row is None or row.mean is None else 100 * row.mean for row in rows],
        "measured ±": [None if row is None or row.half_width is None else 100 * row.half_width for row in rows],
        "difference": [None if one is None else one.value for one in differences],
        "difference ±": [None if one is None else one.half_width for one in differences],
        "margin": [None if cell is None or cell.measured is None else cell.margin for cell in cells],
        "verdict": [None if cell is None else cell.verdict for cell in cells],
    }


def _csv_line(paper: str, table: str, cell: Cell) -> tuple:
    row, difference, line = cell.measured, cell.difference, cell.line
    names = ("task", "dataset", "setting", "label_fraction", "metric", "unit", "method", "pretraining")
    return (
        paper,
        table,
        *(line[name] for name in names),
        _plain(cell.published),
        _plain(line["half_width_95"]),
        line["verified"],
        line["source"],
        line["origin_protocol"],
        cell.task,
        None if row is None else row.label,
        None if row is None or row.mean is None else 100 * row.mean,
        None if row is None or row.half_width is None else 100 * row.half_width,
        None if row is None else row.n_ok,
        None if difference is None else difference.value,
        None if difference is None else difference.half_width,
        None if difference is None else cell.lower_bound,
        None if difference is None else cell.margin,
        cell.verdict,
        cell.why_not,
    )


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for line in lines:
        writer.writerow([escape.csv_cell("" if value is None else value) for value in line])
    return buffer.getvalue()


def _emphasised(kind: str, heads: Sequence[str]) -> list[str]:
    texts = [escape.markdown(head) for head in heads]
    return texts if kind == "published" else [f"*{texts[0]}*", *texts[1:]]


def _bar(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
