"""A reproduction as Markdown, CSV, LaTeX, HTML, JSON and terminal text.

Published tables stand with source and verified flag whether or not anything was measured; a difference never appears without its interval
and verdict. What may be compared is decided in `reproduce`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cards import DISCLAIMER
from benchmark.report import escape, numbers, papers_page
from benchmark.report.pages import environment, write_page
from benchmark.report.published import PrintedTable, printed
from benchmark.report.reproduce import Cell, ComparedTable, Reproduction, how_to_read
from benchmark.report.row_warnings import CUSTOM

if TYPE_CHECKING:
    from rich.console import Group

CSV_COLUMNS = (
    "paper",
    "table",
    "task",
    "metric",
    "method",
    "pretraining",
    "published",
    "published_half_width_95",
    "verified",
    "source",
    "measured_backbone",
    "measured",
    "measured_half_width_95",
    "measured_runs",
    "difference",
    "difference_half_width_95",
    "interval_is_lower_bound",
    "verdict",
    "why_no_difference",
)

_LISTED = {
    "task": "Task",
    "dataset": "Dataset",
    "setting": "Setting",
    "label_fraction": "Labels",
    "method": "Method",
    "pretraining": "Pre-training",
    "metric": "Metric",
    "value": "Value",
    "unit": "Unit",
    "verified": "Verified",
    "note": "Note",
}


@dataclass(frozen=True)
class Block:
    """A table under its heading, as every format but CSV writes it.

    Attributes:
        sentences: between heading and table.
        align: a letter per column, `l` or `r`.
        compared: columns of tasks, narrow and many.
        folded: long; a page shows it on demand.
        in_terminal: whether the terminal shows it.
    """

    heading: str
    level: int
    sentences: tuple[str, ...]
    heads: tuple[str, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()
    align: str = ""
    compared: bool = False
    folded: bool = False
    in_terminal: bool = True


def title(reproduction: Reproduction) -> str:
    return f"{reproduction.card.title}: {'published and measured' if reproduction.tables else 'published numbers'}"


def warnings(reproduction: Reproduction) -> list[str]:
    """What must be known before any number: whose card it is, and what nobody knows of the paper."""
    return [*([CUSTOM.format("paper")] if reproduction.custom else []), *reproduction.card.unknown]


def published_text(cell: Cell | None) -> str:
    """As the paper prints it, with a dagger where nobody read it in the source."""
    return numbers.DASH if cell is None else f"{cell.printed}{'†' if cell.verified == 'no' else ''}"


def difference_text(cell: Cell | None) -> str:
    """`+0.4 ± 1.1 (equivalent)`, or a dash."""
    if cell is None or cell.difference is None:
        return numbers.DASH
    half = cell.difference.half_width
    text = numbers.signed_points(cell.difference.value, half)
    if half is not None and cell.lower_bound:
        text = text.replace("± ", "± ≥")
    return f"{text} ({cell.verdict})"


def blocks(reproduction: Reproduction) -> Iterator[Block]:
    """The page from top to bottom, without what stands above and below the tables."""
    for table in reproduction.tables:
        yield _published(table)
        yield _measured(table)
    if reproduction.others:
        heads = ("Task", "Backbone", "Metric", "Measured")
        lines = tuple((row.task, row.label, row.metric_title, row.text) for row in reproduction.others)
        yield Block("Measured here, not in the paper", 2, (), heads, lines, "lllr")
    if reproduction.refused:
        yield Block("Records not compared", 2, tuple(f"{job}: {reason}." for job, reason in reproduction.refused))
    yield from map(_listed, reproduction.listings)


def to_markdown(reproduction: Reproduction) -> str:
    lines = [f"# {escape.markdown(title(reproduction))}", "", f"> {DISCLAIMER}", ""]
    lines += [f"{sentence}\n" for sentence in (escape.markdown(reproduction.card.citation), *warnings(reproduction))]
    lines += [f"- {sentence}" for sentence in how_to_read(reproduction)] + [""]
    for block in blocks(reproduction):
        lines += [f"{'#' * block.level} {escape.markdown(block.heading)}", ""]
        bullet, end = ("", "\n") if block.heads else ("- ", "")
        lines += [f"{bullet}{escape.markdown(sentence)}{end}" for sentence in block.sentences]
        if not block.heads:
            lines.append("")
        if block.lines:
            lines += [_bar(map(escape.markdown, block.heads)), "|" + "".join(":--|" if a == "l" else "--:|" for a in block.align)]
            lines += [_bar(map(escape.markdown, line)) for line in block.lines] + [""]
    lines += ["## Sources", ""] + [f"- {escape.markdown(source)}" for source in reproduction.sources] + [""]
    return "\n".join(lines)


def to_csv(reproduction: Reproduction) -> str:
    """One line per published cell with what was measured beside it, then one per listed number."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in reproduction.tables:
        for cell in table.cells.values():
            writer.writerow([escape.csv_cell("" if v is None else v) for v in _csv_line(reproduction.card.name, table.title, cell)])
    for listing in reproduction.listings:
        for line in listing.lines:
            task = line["task_id"] or f"{line['task']}, {line['dataset']}, {line['label_fraction']}"
            half = "" if math.isnan(line["half_width_95"]) else line["half_width_95"]
            names = (reproduction.card.name, line["table"], task, line["metric"], line["method"], line["pretraining"])
            why = "listed only" if line["task_id"] else "no task of LOBE"
            facts = (line["printed"], half, line["verified"], line["source"], *[""] * 8, why)
            writer.writerow([escape.csv_cell(v) for v in (*names, *facts)])
    return buffer.getvalue()


def to_latex(reproduction: Reproduction) -> str:
    """The paper's tables; where a cell was measured, the measured number and the difference stand below the published one."""
    parts = [f"% {DISCLAIMER}"]
    for table in reproduction.tables:
        block, lines = _published(table), []
        for line, method in zip(block.lines, table.methods, strict=True):
            cells = [table.cells.get((method, column)) for column in table.columns]
            lines.append(line)
            if any(cell is not None and cell.measured for cell in cells):
                texts = [cell.measured.text if cell is not None and cell.measured else "" for cell in cells]
                lines += [("", "measured", *texts), ("", "difference", *map(difference_text, cells))]
        parts += _latex(f"{title(reproduction)}: {table.title}", block.align, block.heads, lines)
    for block in map(_listed, reproduction.listings):
        parts += _latex(block.heading, block.align, block.heads, block.lines)
    return "\n".join(parts) + "\n"


def to_rich(reproduction: Reproduction) -> Group:
    """The same for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    card = reproduction.card
    parts: list[Any] = [Text(title(reproduction), style="bold"), Text(card.citation), *map(Text, warnings(reproduction))]
    for block in blocks(reproduction):
        if not block.in_terminal:
            continue
        parts.append(Text())
        if block.lines:
            made = Table(title=Text(block.heading), title_justify="left", header_style="bold", box=None, pad_edge=False)
            for head, align in zip(block.heads, block.align, strict=True):
                made.add_column(Text(head), justify="left" if align == "l" else "right", overflow="fold")
            for line in block.lines:
                made.add_row(*(Text(_shortened(cell, card.shortened) if block.compared else cell) for cell in line))
            parts.append(made)
        else:
            parts.append(Text(block.heading, style="italic"))
        parts += [Text(sentence, style="dim" if block.lines else "") for sentence in block.sentences]
    left_out = [block.heading for block in blocks(reproduction) if not block.in_terminal]
    if left_out:
        parts.append(Text(f"\nFurther published tables, in the pages that --out writes and in --json: {', '.join(left_out)}.\n"))
    return Group(*parts, Text(DISCLAIMER, style="dim"))


def to_html(reproduction: Reproduction) -> str:
    return (
        environment()
        .get_template("reproduce.html.j2")
        .render(
            title=title(reproduction),
            citation=reproduction.card.citation,
            warnings=warnings(reproduction),
            how_to_read=how_to_read(reproduction),
            blocks=list(blocks(reproduction)),
            sources=reproduction.sources,
            phantom=False,
            limited=False,
        )
    )


def to_dict(reproduction: Reproduction) -> dict[str, Any]:
    """One JSON document; every published cell with its measurement, then what is listed, what is unknown and what was refused."""
    card = reproduction.card
    return {
        "disclaimer": DISCLAIMER,
        "paper": card.name,
        "title": title(reproduction),
        "citation": card.citation,
        "custom": reproduction.custom,
        "unknown": list(card.unknown),
        "how_to_read": how_to_read(reproduction),
        "cells": [
            dict(zip(CSV_COLUMNS, _csv_line(card.name, table.title, cell), strict=True))
            for table in reproduction.tables
            for cell in table.cells.values()
        ],
        "listings": [
            {"title": li.title, "origin_protocol": li.origin_protocol, "rows": [{k: _plain(v) for k, v in r.items()} for r in li.lines]}
            for li in reproduction.listings
        ],
        "refused": [{"job": job, "reason": reason} for job, reason in reproduction.refused],
    }


def write(reproduction: Reproduction, out: Path) -> Path:
    """Writes `<out>/report/reproduce-<paper>.{html,md,csv,tex}` and returns the HTML file."""
    stem = f"reproduce-{escape.slug(reproduction.card.name)}"
    for suffix, text in (("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
        write_page(out / "report" / f"{stem}.{suffix}", text(reproduction))
    page = write_page(out / "report" / f"{stem}.html", to_html(reproduction))
    papers_page.write(out / "report")
    return page


def _published(table: ComparedTable) -> Block:
    told = f"Published, in per cent, {table.meaning}; † marks a number nobody could read in its source. {table.verified}"
    heads = ("Method", "Pre-training", *(column.title for column in table.columns))
    lines = tuple((*method, *(published_text(table.cells.get((method, column))) for column in table.columns)) for method in table.methods)
    return Block(table.title, 2, (told,), heads, lines, "ll" + "r" * len(table.columns), compared=True)


def _measured(table: ComparedTable) -> Block:
    heads = ("Task", "Method", "Published", "Measured", "Runs", "Difference (verdict)", "Note")
    lines = tuple(_measured_line(cell) for cell in table.measured_cells())
    return Block("Measured here", 3, () if lines else ("Nothing measured for this table yet.",), heads, lines, "llrrrrl")


def _measured_line(cell: Cell) -> tuple[str, ...]:
    row = cell.measured
    assert row is not None
    note = "; ".join(filter(None, (cell.why_not, *row.warnings)))
    method = f"{cell.method} ({cell.pretraining})" if cell.pretraining else cell.method
    return (cell.task, method, published_text(cell), row.text, f"{row.n_ok}/{row.n_expected}", difference_text(cell), note)


def _listed(listing: PrintedTable) -> Block:
    """Columns that are empty throughout are left out."""
    known = listing.origin_protocol or "the source's own; compare within this table only"
    sentences = [f"Protocol of origin: {known}."] + ([] if listing.card is None else [f"{listing.card.meaning}."])
    lines = [line | {"value": printed(line)} for line in listing.lines]
    kept = [name for name in _LISTED if any(line[name] for line in lines)]
    heads, body = tuple(_LISTED[name] for name in kept), tuple(tuple(str(line[name]) for name in kept) for line in lines)
    in_terminal = listing.card is None or not listing.card.pages_only
    return Block(listing.title, 2, tuple(sentences), heads, body, "l" * len(kept), folded=True, in_terminal=in_terminal)


def _csv_line(paper: str, table: str, cell: Cell) -> tuple:
    row, difference = cell.measured, cell.difference
    return (
        paper,
        table,
        cell.task,
        cell.metric,
        cell.method,
        cell.pretraining,
        _plain(cell.published),
        _plain(cell.published_half_width),
        cell.verified,
        cell.source,
        None if row is None else row.label,
        None if row is None or row.mean is None else 100 * row.mean,
        None if row is None or row.half_width is None else 100 * row.half_width,
        None if row is None else row.n_ok,
        None if difference is None else difference.value,
        None if difference is None else difference.half_width,
        None if difference is None else cell.lower_bound,
        cell.verdict,
        cell.why_not,
    )


def _latex(caption: str, align: str, heads: Iterable[str], lines: Iterable[Sequence[str]]) -> list[str]:
    body = [" & ".join(map(escape.latex, line)) + r" \\" for line in lines]
    begin = [r"\begin{table}", rf"\caption{{{escape.latex(caption)}}}", rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    return [*begin, " & ".join(map(escape.latex, heads)) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]


def _shortened(text: str, by: Mapping[str, str]) -> str:
    for long, short in by.items():
        text = text.replace(long, short)
    return text


def _bar(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
