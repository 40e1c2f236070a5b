"""Rows as boards, and boards as tables: CSV, JSON, terminal. Markdown and LaTeX are `typeset`.

A board holds what may stand in one table: one protocol, one scale, real or phantom data. A column of a board is one task with one metric,
so metric families cannot meet in a column. The order of backbones is no ranking. What a row is: `rows`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from benchmark import registry
from benchmark.cards import DISCLAIMER
from benchmark.metrics import spec
from benchmark.report import escape, numbers
from benchmark.report.rows import LOVT_SPLIT, Row

if TYPE_CHECKING:
    from rich.table import Table

NO_RANKING = "Backbones stand in alphabetical order, untrained ones first; the order is no ranking."
INTERVAL = (
    "Test score in per cent, mean ± half width of the 95 % interval. It covers training runs and the choice of test patients; "
    "a warning names the rows where it covers runs only or resamples images."
)

ANCHORS = (
    "Anchors are no competitors: what calling every pixel positive scores, and the ceiling that the grid of features sets a linear head. "
    "An empty prediction scores 0 at detection."
)

NOTED = ("identical", "pretraining", "choice uncertain", "learning rate on the edge")  # warnings that a terminal shows, up to their colon
_ENCODERS = {"frozen": "frozen", "finetune": "fine-tuned"}

# Column of the CSV and key of the JSON -> its value; values in per cent are unrounded.
_EXPORTED: dict[str, Callable[[Row], Any]] = {
    "kind": lambda row: "backbone",
    "backbone": lambda row: row.backbone,
    "variant": lambda row: row.variant,
    "task": lambda row: row.task,
    "dataset": lambda row: row.dataset,
    "split": lambda row: row.split,
    "head": lambda row: row.head,
    "encoder": lambda row: row.encoder,
    "label_fraction": lambda row: row.fraction,
    "metric": lambda row: row.metric,
    "metric_title": lambda row: row.metric_title,
    "protocol": lambda row: row.protocol,
    "scale": lambda row: row.scale,
    "phantom": lambda row: row.phantom,
    "random_initialisation": lambda row: row.random,
    "runs_expected": lambda row: row.n_expected,
    "runs_ok": lambda row: row.n_ok,
    "runs_failed": lambda row: row.n_failed,
    "runs_missing": lambda row: row.n_missing,
    "mean_percent": lambda row: _percent(row.mean),
    "half_width_95_percent": lambda row: _percent(row.half_width),
    "interval_covers": lambda row: row.covers,
    "interval_levels": lambda row: [] if row.cell is None else [level.name for level in row.cell.levels],
    "text": lambda row: row.text,
    "missing": lambda row: row.missing,
    "warnings": lambda row: list(row.warnings),
    "run_values_percent": lambda row: [_percent(run.value) for run in row.runs],
    "keys": lambda row: [run.key for run in row.runs],
    "custom": lambda row: list(row.custom),
    "contamination": lambda row: row.contamination,
    "track": lambda row: row.track,
    "geometry": lambda row: row.geometry,
    "train_images": lambda row: row.n_images.get("train"),
    "seconds": lambda row: None if row.cost is None else row.cost.seconds,
    "encoder_parameters": lambda row: None if row.cost is None else row.cost.encoder_parameters,
    "trained_parameters": lambda row: None if row.cost is None else row.cost.trained_parameters,
    "encoder_macs": lambda row: None if row.cost is None else row.cost.encoder_macs,
}


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
    def head_title(self) -> str:
        return head_text(self.head)

    @property
    def encoder_title(self) -> str:
        return encoder_text(self.encoder)

    @property
    def short(self) -> str:
        parts = (encoder_text(self.encoder), self.fraction_text, split_text(self.split))
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

    @cached_property
    def random_backbones(self) -> set[str]:
        return {row.label for row in self.rows if row.random}

    @cached_property
    def names(self) -> dict[str, str]:
        """Label of a line -> its backbone, without what tells it from its variants."""
        return {row.label: row.backbone for row in self.rows}

    def choices(self) -> dict[str, list[str]]:
        """What columns can be chosen by; what all of them share is left out."""
        found = {
            "dataset": [column.dataset for column in self.columns],
            "head": [column.head_title for column in self.columns],
            "encoder": [column.encoder_title for column in self.columns],
            "labels": [column.fraction_text for column in self.columns],
        }
        return {name: list(dict.fromkeys(values)) for name, values in found.items() if len(set(values)) > 1}

    def groups(self) -> list[tuple[str, list[Column]]]:
        """Columns by dataset and head, in order."""
        found: dict[str, list[Column]] = {}
        for column in self.columns:
            found.setdefault(column.group, []).append(column)
        return list(found.items())

    def cell(self, backbone: str, column: Column) -> Row | None:
        return self.cells.get((backbone, column))

    @cached_property
    def anchors(self) -> list[str]:
        """Names of anchor lines, trivial predictor first."""
        return list(dict.fromkeys(name for row in self.rows for name, _ in row.anchors))

    def anchor(self, name: str, column: Column) -> list[float]:
        """An anchor's distinct values in a column, rising: one, unless its rows were tested on different images; none where it is not
        defined."""
        rows = (self.cell(backbone, column) for backbone in self.backbones)
        return sorted({value for row in rows if row is not None for known, value in row.anchors if known == name})

    def anchor_text(self, name: str, column: Column) -> str:
        return _anchor_text(self.anchor(name, column))

    def anchor_lines(self, columns: Sequence[Column]) -> list[tuple[str, list[str]]]:
        """Name and texts of the anchors that a table of these columns has."""
        lines = [(name, [self.anchor_text(name, column) for column in columns]) for name in self.anchors]
        return [(name, texts) for name, texts in lines if any(text != numbers.DASH for text in texts)]

    def text(self, backbone: str, column: Column) -> str:
        row = self.cell(backbone, column)
        return numbers.DASH if row is None else row.text

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
    return [board(*key, members) for key, members in sorted(grouped.items())]


def board(phantom: bool, scale: str, protocol: str, rows: Sequence[Row]) -> Board:
    """Of rows that share all three."""
    cells = {(row.label, _column(row)): row for row in rows}
    random = {row.label for row in rows if row.random}
    labels = sorted({row.label for row in rows}, key=lambda label: (label not in random, label.lower()))
    columns = tuple(dict.fromkeys(_column(row) for row in rows))
    return Board(protocol, scale, phantom, columns, tuple(labels), cells)


def split_text(split: str) -> str:
    """How a title names a split: not at all where it is LoVT's, as in the paper."""
    return "" if split == LOVT_SPLIT else f"{split} split"


def encoder_text(encoder: str) -> str:
    return _ENCODERS.get(encoder, encoder)


def head_text(head: str) -> str:
    """Its title; its name where this version has no such head, as a record of another may say."""
    known = registry.heads().get(head)
    return head if known is None else known.title


def to_csv(rows: Iterable[Row]) -> str:
    """One line per row, unrounded values in per cent, then the anchors (`kind` tells them); cells a spreadsheet would run are disarmed."""
    rows = list(rows)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_EXPORTED)
    for line in [*map(row_dict, rows), *anchor_dicts(rows)]:
        writer.writerow([escape.csv_cell(_flat(line.get(name))) for name in _EXPORTED])
    return buffer.getvalue()


def to_rich(rows: Sequence[Row], *, title: str = "Results") -> Table:
    """A table for the terminal: one line per backbone and task, one result column per metric."""
    from rich.table import Table
    from rich.text import Text

    metrics = dict.fromkeys(row.metric_title for row in rows)
    shares = {row.metric_title for row in rows if (known := spec.find(row.metric, row.target)) is None or known.spec.unit == "share"}
    table = Table(title=Text(title), caption=Text(DISCLAIMER), header_style="bold", title_justify="left", caption_justify="left")
    table.add_column("task", no_wrap=True)
    table.add_column("backbone")
    for metric in metrics:
        table.add_column(Text(f"{metric} %" if metric in shares else metric), justify="right", no_wrap=True)
    table.add_column("runs", justify="right", no_wrap=True)
    table.add_column("notes")
    previous = None
    waiting: dict[str, tuple[Row, set[float]]] = {}  # anchors of the section, which stand at its end

    def close() -> None:
        for name, (row, values) in waiting.items():
            cells = [_anchor_text(sorted(values)) if metric == row.metric_title else "" for metric in metrics]
            table.add_row("", Text(f"anchor: {name}"), *map(Text, cells), "", "", style="dim")
        waiting.clear()

    for row in rows:
        place = (row.phantom, row.scale, row.protocol, row.task, row.split)
        if previous is not None and place != previous:
            close()
            table.add_section()
        for name, value in row.anchors:
            waiting.setdefault(name, (row, set()))[1].add(value)
        notes = [row.missing] if row.missing else []
        notes += [f"custom {', '.join(row.custom)}"] * bool(row.custom)
        notes += ["baseline"] * row.random + ["phantom"] * row.phantom + ["limited"] * (row.scale == "limited")
        notes += [w.partition(":")[0] for w in row.warnings if w.startswith(NOTED)]
        table.add_row(
            Text("" if place == previous else " · ".join(filter(None, (row.task, split_text(row.split))))),
            Text(row.label),
            *(Text(row.text if metric == row.metric_title else "") for metric in metrics),
            Text(f"{row.n_ok}/{row.n_expected}"),
            Text("; ".join(notes)),
        )
        previous = place
    close()
    return table


def row_dict(row: Row) -> dict[str, Any]:
    """One row with plain values, JSON-ready; the columns of the CSV."""
    return {name: value_of(row) for name, value_of in _EXPORTED.items()}


def to_dicts(rows: Iterable[Row]) -> dict[str, Any]:
    """One JSON document: the disclaimer, what the numbers are, all rows, and apart from them the anchors."""
    rows = list(rows)
    lines = {"rows": [row_dict(row) for row in rows], "anchors": anchor_dicts(rows)}
    return {"disclaimer": DISCLAIMER, "values": INTERVAL, "order": NO_RANKING, "about_anchors": ANCHORS, **lines}


def anchor_dicts(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One dictionary per board, task and anchor, under the names of the CSV's columns as far as they apply."""
    return [
        {
            "kind": "anchor",
            "backbone": name,
            "task": column.task,
            "dataset": column.dataset,
            "split": column.split,
            "head": column.head,
            "metric": column.metric,
            "metric_title": column.metric_title,
            "protocol": board.protocol,
            "scale": board.scale,
            "phantom": board.phantom,
            "mean_percent": 100 * value,
            "text": numbers.percent(value),
        }
        for board in boards(rows)
        for column in board.columns
        for name in board.anchors
        for value in board.anchor(name, column)
    ]


def _column(row: Row) -> Column:
    title = " · ".join(filter(None, (row.task_title, split_text(row.split))))
    return Column(row.task, row.split, title, row.dataset, row.head, row.encoder, row.fraction_text, row.metric, row.metric_title)


def _anchor_text(values: Sequence[float]) -> str:
    """A dash where the anchor is not defined; `4.1 to 5.3` where rows were tested on different images."""
    texts = dict.fromkeys(numbers.percent(value) for value in (*values[:1], *values[-1:]))
    return " to ".join(texts) or numbers.DASH


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _flat(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else "" if value is None else value
