"""Rows as tables: Markdown, CSV, LaTeX, terminal, JSON.

A board holds what may stand in one table: one protocol, one scale, real or phantom data. A column of a board is one task with one metric,
so metric families cannot meet in a column. The order of backbones is no ranking. What a row is: `rows`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.cards import DISCLAIMER
from benchmark.report import escape, numbers
from benchmark.report.rows import LOVT_SPLIT, Row

if TYPE_CHECKING:
    from rich.table import Table

NO_RANKING = "Backbones stand in alphabetical order, untrained ones first; the order is no ranking."
INTERVAL = (
    "Test score in per cent, mean ± half width of the 95 % t interval. It covers training runs and the choice of test patients; "
    "a warning names the rows where it covers runs only or resamples images."
)

_HEADS = {"linear": "linear", "unet": "U-Net", "yolov3": "YOLOv3"}
_ENCODERS = {"frozen": "frozen", "finetune": "fine-tuned"}

CSV_COLUMNS = (
    "backbone",
    "variant",
    "task",
    "dataset",
    "split",
    "head",
    "encoder",
    "label_fraction",
    "metric",
    "metric_title",
    "protocol",
    "scale",
    "phantom",
    "random_initialisation",
    "runs_expected",
    "runs_ok",
    "runs_failed",
    "runs_missing",
    "mean_percent",
    "half_width_95_percent",
    "interval_covers",
    "text",
    "missing",
    "warnings",
    "run_values_percent",
    "keys",
)


@dataclass(frozen=True)
class Column:
    """One task on one split under one metric."""

    task: str
    split: str
    title: str
    dataset: str
    head: str
    encoder: str
    fraction_text: str
    metric: str
    metric_title: str

    @property
    def group(self) -> str:
        return f"{self.dataset} · {head_text(self.head)}"

    @property
    def short(self) -> str:
        parts = (_ENCODERS.get(self.encoder, self.encoder), self.fraction_text, split_text(self.split))
        return " · ".join(part for part in parts if part)


@dataclass(frozen=True)
class Board:
    """Rows that may stand side by side.

    Attributes:
        backbones: labels in order; a variant of a backbone is a line of its own.
        cells: (backbone label, column) -> row.
    """

    protocol: str
    scale: str
    phantom: bool
    columns: tuple[Column, ...]
    backbones: tuple[str, ...]
    cells: dict[tuple[str, Column], Row]

    @property
    def title(self) -> str:
        marks = ["phantom data"] * self.phantom + ["limited runs"] * (self.scale == "limited")
        return f"Protocol {self.protocol}" + (f" ({', '.join(marks)})" if marks else "")

    @property
    def rows(self) -> list[Row]:
        return list(self.cells.values())

    @property
    def random_backbones(self) -> set[str]:
        return {row.label for row in self.rows if row.random}

    def groups(self) -> list[tuple[str, list[Column]]]:
        """Columns by dataset and head, in order."""
        found: dict[str, list[Column]] = {}
        for column in self.columns:
            found.setdefault(column.group, []).append(column)
        return list(found.items())

    def cell(self, backbone: str, column: Column) -> Row | None:
        return self.cells.get((backbone, column))

    def gaps(self) -> list[tuple[str, Column, str]]:
        """Every dash with its reason; a backbone that was never asked to do a task says so."""
        return [
            (backbone, column, "not part of this evaluation" if row is None else row.missing)
            for backbone in self.backbones
            for column in self.columns
            if (row := self.cell(backbone, column)) is None or row.mean is None
        ]

    def warnings(self) -> dict[str, list[str]]:
        """Each warning once, with where it holds: everywhere, or per backbone on so many tasks."""
        found: dict[str, dict[str, list[str]]] = {}
        for row in self.rows:
            for warning in row.warnings:
                found.setdefault(warning, {}).setdefault(row.label, []).append(row.task)
        return {warning: self._where(by_backbone) for warning, by_backbone in found.items()}

    def _where(self, tasks_of: dict[str, list[str]]) -> list[str]:
        if sum(map(len, tasks_of.values())) == len(self.cells):
            return ["all cells"]
        return [f"{backbone} on {tasks[0] if len(tasks) == 1 else f'{len(tasks)} tasks'}" for backbone, tasks in tasks_of.items()]


def boards(rows: Iterable[Row]) -> list[Board]:
    """One board per protocol, scale and kind of data, real and full ones first."""
    grouped: dict[tuple[bool, str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.phantom, row.scale, row.protocol), []).append(row)
    return [_board(*key, members) for key, members in sorted(grouped.items())]


def split_text(split: str) -> str:
    """How a title names a split: not at all where it is LoVT's, as in the paper."""
    return "" if split == LOVT_SPLIT else f"{split} split"


def head_text(head: str) -> str:
    return _HEADS.get(head, head)


def to_markdown(rows: Iterable[Row], *, title: str = "Leaderboard") -> str:
    """A page: disclaimer, one table per board and (dataset, head), gaps with reasons, warnings."""
    lines = [f"# {escape.markdown(title)}", "", f"> {DISCLAIMER}", "", f"{INTERVAL} {NO_RANKING}", ""]
    for board in boards(rows):
        lines += [f"## {escape.markdown(board.title)}", ""]
        for group, columns in board.groups():
            heads = [f"{escape.markdown(c.short)} ({escape.markdown(c.metric_title)})" for c in columns]
            lines += [f"### {escape.markdown(group)}", "", "| Backbone | " + " | ".join(heads) + " |"]
            lines += ["|:--|" + "--:|" * len(columns)]
            for backbone in board.backbones:
                name = escape.markdown(backbone) + (" (baseline)" if backbone in board.random_backbones else "")
                lines.append(f"| {name} | " + " | ".join(_text(board.cell(backbone, c)) for c in columns) + " |")
            lines.append("")
        if gaps := board.gaps():
            lines += [f"{numbers.DASH} stands for:", ""]
            lines += [f"- {escape.markdown(b)}, {escape.markdown(c.task)}: {escape.markdown(why)}." for b, c, why in gaps] + [""]
        if warnings := board.warnings():
            lines += ["Warnings:", ""]
            lines += [f"- {escape.markdown(w)} ({escape.markdown('; '.join(where))})." for w, where in warnings.items()] + [""]
    return "\n".join(lines)


def to_csv(rows: Iterable[Row]) -> str:
    """One line per row, unrounded values in per cent; cells a spreadsheet would run are disarmed."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        writer.writerow([escape.csv_cell(_flat(value)) for value in row_dict(row).values()])
    return buffer.getvalue()


def to_latex(rows: Iterable[Row]) -> str:
    """One booktabs table per board and (dataset, head); needs `\\usepackage{booktabs}`."""
    parts = [f"% {DISCLAIMER}"]
    for board in boards(rows):
        for group, columns in board.groups():
            heads = " & ".join(rf"{escape.latex(c.short)} ({escape.latex(c.metric_title)})" for c in columns)
            parts += [
                r"\begin{table}",
                rf"\caption{{{escape.latex(group)}. {escape.latex(board.title)}. {escape.latex(INTERVAL)}}}",
                rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
                r"\toprule",
                rf"Backbone & {heads} \\",
                r"\midrule",
                *(
                    escape.latex(b) + " & " + " & ".join(escape.latex(_text(board.cell(b, c))) for c in columns) + r" \\"
                    for b in board.backbones
                ),
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
    return "\n".join(parts) + "\n"


def to_rich(rows: Sequence[Row], *, title: str = "Results") -> Table:
    """A table for the terminal: one line per backbone and task, one result column per metric."""
    from rich.table import Table
    from rich.text import Text

    metrics = list(dict.fromkeys(row.metric_title for row in rows))
    table = Table(title=Text(title), caption=Text(DISCLAIMER), header_style="bold", title_justify="left", caption_justify="left")
    table.add_column("task", no_wrap=True)
    table.add_column("backbone")
    for metric in metrics:
        table.add_column(Text(f"{metric} %"), justify="right", no_wrap=True)
    table.add_column("runs", justify="right", no_wrap=True)
    table.add_column("notes")
    previous = None
    for row in rows:
        place = (row.phantom, row.scale, row.protocol, row.task, row.split)
        if previous is not None and place != previous:
            table.add_section()
        notes = [row.missing] if row.missing else []
        notes += ["baseline"] * row.random + ["phantom"] * row.phantom + ["limited"] * (row.scale == "limited")
        notes += [w.partition(":")[0] for w in row.warnings if w.startswith(("identical", "pretraining"))]
        table.add_row(
            Text("" if place == previous else " · ".join(filter(None, (row.task, split_text(row.split))))),
            Text(row.label),
            *(Text(row.text if metric == row.metric_title else "") for metric in metrics),
            Text(f"{row.n_ok}/{row.n_expected}"),
            Text("; ".join(notes)),
        )
        previous = place
    return table


def row_dict(row: Row) -> dict[str, Any]:
    """One row with plain values, JSON-ready; the columns of the CSV."""
    values = (
        row.backbone,
        row.variant,
        row.task,
        row.dataset,
        row.split,
        row.head,
        row.encoder,
        row.fraction,
        row.metric,
        row.metric_title,
        row.protocol,
        row.scale,
        row.phantom,
        row.random,
        row.n_expected,
        row.n_ok,
        row.n_failed,
        row.n_missing,
        None if row.mean is None else 100 * row.mean,
        None if row.half_width is None else 100 * row.half_width,
        row.covers,
        row.text,
        row.missing,
        list(row.warnings),
        [None if run.value is None else 100 * run.value for run in row.runs],
        [run.key for run in row.runs],
    )
    return dict(zip(CSV_COLUMNS, values, strict=True))


def to_dicts(rows: Iterable[Row]) -> dict[str, Any]:
    """One JSON document: the disclaimer, what the numbers are, and all rows."""
    return {"disclaimer": DISCLAIMER, "values": INTERVAL, "order": NO_RANKING, "rows": [row_dict(row) for row in rows]}


def _board(phantom: bool, scale: str, protocol: str, rows: list[Row]) -> Board:
    cells = {(row.label, _column(row)): row for row in rows}
    random = {row.label for row in rows if row.random}
    labels = sorted({row.label for row in rows}, key=lambda label: (label not in random, label.lower()))
    columns = tuple(dict.fromkeys(_column(row) for row in rows))
    return Board(protocol, scale, phantom, columns, tuple(labels), cells)


def _column(row: Row) -> Column:
    title = " · ".join(filter(None, (row.task_title, split_text(row.split))))
    return Column(row.task, row.split, title, row.dataset, row.head, row.encoder, row.fraction_text, row.metric, row.metric_title)


def _text(row: Row | None) -> str:
    return numbers.DASH if row is None else row.text


def _flat(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else "" if value is None else value
