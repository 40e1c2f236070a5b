"""A reproduction as Markdown, CSV, LaTeX and HTML.

Published tables stand with source and verified flag whether or not anything was measured; a difference never appears without its interval
and verdict. What may be compared is decided in `reproduce`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cards import DISCLAIMER
from benchmark.report import escape, numbers
from benchmark.report.pages import environment, write_page
from benchmark.report.reproduce import HOW_TO_READ, Cell, Listing, Reproduction

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

PUBLISHED = "Published, in per cent, mean ± half width of the 95 % interval over 5 runs; † marks a number nobody could read in its source."

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


def published_text(cell: Cell) -> str:
    """As the paper prints it, with a dagger where nobody read it in the source."""
    half = "" if math.isnan(cell.published_half_width) else f" ± {cell.published_half_width:.1f}"
    return f"{cell.published:.1f}{half}{'†' if cell.verified == 'no' else ''}"


def difference_text(cell: Cell) -> str:
    """`+0.4 ± 1.1 (equivalent)`, or the reason why there is none."""
    if cell.difference is None:
        return numbers.DASH
    half = cell.difference.half_width
    text = numbers.signed_points(cell.difference.value, half)
    if half is not None and cell.lower_bound:
        text = text.replace("± ", "± ≥")
    return f"{text} ({cell.verdict})"


def to_markdown(reproduction: Reproduction) -> str:
    lines = [f"# {escape.markdown(title(reproduction))}", "", f"> {DISCLAIMER}", ""]
    lines += [f"{sentence}\n" for sentence in reproduction.unknown]
    if reproduction.tables:
        lines += [f"- {sentence}" for sentence in HOW_TO_READ] + [""]
    for table in reproduction.tables:
        lines += [f"## {table.title}", "", f"{PUBLISHED} {table.verified}", ""]
        lines += ["| Method | Pre-training | " + " | ".join(escape.markdown(t) for t in table.task_titles) + " |"]
        lines += ["|:--|:--|" + "--:|" * len(table.tasks)]
        for method in table.methods:
            values = " | ".join(published_text(table.cells[method, task]) for task in table.tasks)
            lines.append(f"| {escape.markdown(method[0])} | {escape.markdown(method[1])} | {values} |")
        lines.append("")
        if measured := table.measured_cells():
            lines += ["Measured here:", "", "| Task | Method | Published | Measured | Runs | Difference (verdict) | Note |"]
            lines += ["|:--|:--|--:|--:|--:|--:|:--|"]
            lines += ["| " + " | ".join(escape.markdown(str(v)) for v in _measured_line(cell)) + " |" for cell in measured] + [""]
        else:
            lines += ["Nothing measured for this table yet.", ""]
    for listing in reproduction.listings:
        lines += [f"## {escape.markdown(listing.title)}", "", _origin(listing), ""]
        heads, body = listing_table(listing)
        lines += ["| " + " | ".join(heads) + " |", "|" + ":--|" * len(heads)]
        lines += ["| " + " | ".join(escape.markdown(v) for v in line) + " |" for line in body] + [""]
    lines += _tail(reproduction)
    return "\n".join(lines)


def to_csv(reproduction: Reproduction) -> str:
    """One line per published cell with what was measured beside it; the listings' numbers are in `results/published` already."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in reproduction.tables:
        for cell in table.cells.values():
            writer.writerow([escape.csv_cell("" if v is None else v) for v in _csv_line(reproduction.paper, table.title, cell)])
    for listing in reproduction.listings:
        for line in listing.lines:
            task = line["task_id"] or f"{line['task']}, {line['dataset']}, {line['label_fraction']}"
            half = "" if math.isnan(line["half_width_95"]) else line["half_width_95"]
            facts = (reproduction.paper, line["table"], task, line["metric"], line["method"], line["pretraining"], line["printed"], half)
            writer.writerow([escape.csv_cell(v) for v in (*facts, line["verified"], line["source"], *[""] * 8, "no task of LOBE")])
    return buffer.getvalue()


def to_latex(reproduction: Reproduction) -> str:
    """The paper's tables; where a cell was measured, the measured number and the difference stand below the published one."""
    parts = [f"% {DISCLAIMER}"]
    for table in reproduction.tables:
        heads = " & ".join(escape.latex(t) for t in table.task_titles)
        parts += [r"\begin{table}", rf"\caption{{{escape.latex(title(reproduction))}: {escape.latex(table.title)}}}"]
        parts += [rf"\begin{{tabular}}{{ll{'r' * len(table.tasks)}}}", r"\toprule", rf"Method & Pre-training & {heads} \\", r"\midrule"]
        for method in table.methods:
            cells = [table.cells[method, task] for task in table.tasks]
            values = " & ".join(escape.latex(published_text(c)) for c in cells)
            parts.append(rf"{escape.latex(method[0])} & {escape.latex(method[1])} & {values} \\")
            if any(c.measured for c in cells):
                parts.append(" & measured & " + " & ".join(escape.latex(c.measured.text if c.measured else "") for c in cells) + r" \\")
                parts.append(" & difference & " + " & ".join(escape.latex(difference_text(c)) for c in cells) + r" \\")
        parts += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    for listing in reproduction.listings:
        heads, body = listing_table(listing)
        parts += [r"\begin{table}", rf"\caption{{{escape.latex(listing.title)}}}", rf"\begin{{tabular}}{{{'l' * len(heads)}}}", r"\toprule"]
        parts += [" & ".join(escape.latex(h) for h in heads) + r" \\", r"\midrule"]
        parts += [" & ".join(escape.latex(v) for v in line) + r" \\" for line in body]
        parts += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(parts) + "\n"


def to_rich(reproduction: Reproduction) -> Group:
    """The same for a terminal: the paper's tables, what was measured beside them, and what was not compared."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(title(reproduction), style="bold"), *map(Text, reproduction.unknown)]
    for table in reproduction.tables:
        heads = ("Method", "Pre-training", *table.task_titles)
        short = {method: method[1].replace(" of frontal MIMIC-CXR", " MIMIC") for method in table.methods}
        body = [(m[0], short[m], *(published_text(table.cells[m, task]) for task in table.tasks)) for m in table.methods]
        parts.append(_rich_table(table.title, heads, body, n_text=2))
        measured = [_measured_line(cell) for cell in table.measured_cells()]
        heads = ("Task", "Method", "Published", "Measured", "Runs", "Difference (verdict)", "Note")
        nothing = Text("Nothing measured for this table yet.\n")
        parts.append(_rich_table("Measured here", heads, measured, n_text=2) if measured else nothing)
    if reproduction.tables and reproduction.listings:
        names = ", ".join(listing.title for listing in reproduction.listings)
        parts.append(Text(f"Further published tables, in the pages that --out writes and in --json: {names}.\n"))
    for listing in () if reproduction.tables else reproduction.listings:
        heads, lines = listing_table(listing)
        parts += [_rich_table(listing.title, heads, lines, n_text=len(heads)), Text(_origin(listing) + "\n", style="dim")]
    if reproduction.others:
        body = [(row.task, row.label, row.metric_title, row.text) for row in reproduction.others]
        parts.append(_rich_table("Measured here, not in the paper", ("Task", "Backbone", "Metric", "Measured"), body, n_text=3))
    parts += [Text(f"Not compared: {job}: {reason}.") for job, reason in reproduction.refused]
    if reproduction.tables:
        parts.append(Text(PUBLISHED, style="dim"))
    return Group(*parts, Text(DISCLAIMER, style="dim"))


def to_html(reproduction: Reproduction) -> str:
    return (
        environment()
        .get_template("reproduce.html.j2")
        .render(
            title=title(reproduction),
            reproduction=reproduction,
            how_to_read=HOW_TO_READ,
            published=PUBLISHED,
            published_text=published_text,
            difference_text=difference_text,
            measured_line=_measured_line,
            listing_table=listing_table,
            origin=_origin,
            phantom=False,
            limited=False,
        )
    )


def to_dict(reproduction: Reproduction) -> dict[str, Any]:
    """One JSON document; every published cell with its measurement, then what is unknown and what was refused."""
    return {
        "disclaimer": DISCLAIMER,
        "paper": reproduction.paper,
        "title": title(reproduction),
        "unknown": list(reproduction.unknown),
        "how_to_read": list(HOW_TO_READ),
        "cells": [
            dict(zip(CSV_COLUMNS, _csv_line(reproduction.paper, table.title, cell), strict=True))
            for table in reproduction.tables
            for cell in table.cells.values()
        ],
        "listings": [
            {"title": li.title, "origin_protocol": li.origin_protocol, "rows": [_plain(r) for r in li.lines]}
            for li in reproduction.listings
        ],
        "refused": [{"job": job, "reason": reason} for job, reason in reproduction.refused],
    }


def write(reproduction: Reproduction, out: Path) -> Path:
    """Writes `<out>/report/reproduce-<paper>.{html,md,csv,tex}` and returns the HTML file."""
    stem = f"reproduce-{escape.slug(reproduction.paper)}"
    for suffix, text in (("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
        write_page(out / "report" / f"{stem}.{suffix}", text(reproduction))
    return write_page(out / "report" / f"{stem}.html", to_html(reproduction))


def title(reproduction: Reproduction) -> str:
    return f"{reproduction.title}: {'published and measured' if reproduction.tables else 'published numbers'}"


def listing_table(listing: Listing) -> tuple[list[str], list[list[str]]]:
    """Headings and lines of a listing; columns that are empty throughout are left out."""
    headings = {
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
    lines = [line | {"value": _printed(line)} for line in listing.lines]
    kept = [name for name in headings if any(line[name] for line in lines)]
    return [headings[name] for name in kept], [[str(line[name]) for name in kept] for line in lines]


def _rich_table(heading: str, heads: Sequence[str], body: Iterable[Sequence[str]], *, n_text: int) -> Table:
    """A terminal table whose columns beyond the first `n_text` are numbers."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(heading), title_justify="left", header_style="bold", box=None, pad_edge=False)
    for i, head in enumerate(heads):
        made.add_column(Text(head), justify="left" if i < n_text else "right", overflow="fold")
    for line in body:
        made.add_row(*map(Text, line))
    return made


def _printed(line: Mapping[str, Any]) -> str:
    """Value and whatever the source prints behind its ±."""
    spread = line["half_width_95"] if math.isnan(line["spread"]) else line["spread"]
    return (line["printed"] or numbers.DASH) + ("" if math.isnan(spread) else f" ± {spread:g}")


def _measured_line(cell: Cell) -> tuple[str, ...]:
    row = cell.measured
    assert row is not None
    note = "; ".join(filter(None, (cell.why_not, *row.warnings)))
    method = f"{cell.method} ({cell.pretraining})"
    return (cell.task, method, published_text(cell), row.text, f"{row.n_ok}/{row.n_expected}", difference_text(cell), note)


def _csv_line(paper: str, table: str, cell: Cell) -> tuple:
    row, difference = cell.measured, cell.difference
    return (
        paper,
        table,
        cell.task,
        cell.metric,
        cell.method,
        cell.pretraining,
        cell.published,
        None if math.isnan(cell.published_half_width) else cell.published_half_width,
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


def _origin(listing: Listing) -> str:
    known = listing.origin_protocol or "the source's own; compare within this table only"
    return f"Protocol of origin: {known}."


def _tail(reproduction: Reproduction) -> list[str]:
    lines = []
    if reproduction.others:
        lines += ["## Measured here, not in the paper", "", "| Task | Backbone | Metric | Measured |", "|:--|:--|:--|--:|"]
        for row in reproduction.others:
            values = (row.task, row.label, row.metric_title, row.text)
            lines.append("| " + " | ".join(escape.markdown(v) for v in values) + " |")
        lines.append("")
    if reproduction.refused:
        lines += ["## Records not compared", ""]
        lines += [f"- {escape.markdown(job)}: {escape.markdown(reason)}." for job, reason in reproduction.refused] + [""]
    lines += ["## Sources", ""] + [f"- {escape.markdown(source)}" for source in reproduction.sources] + [""]
    return lines


def _plain(line: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in line.items()}
