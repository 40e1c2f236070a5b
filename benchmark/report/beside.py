"""Every metric of a row beside the one it reports, each under its own name: what a single number hides.

A mean stands here under the same rule as on the leaderboard: only when every run is there and has the metric. Intervals cover runs only.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmark.cards import Record
from benchmark.metrics import spec
from benchmark.metrics.spec import NamedMetric
from benchmark.report import escape, numbers
from benchmark.report.rows import Row
from benchmark.report.tables import split_text

FEWEST_BOXES = 30  # a class with fewer test boxes is descriptive
BOXES_OF = "boxes of "  # a record's count of one class

CSV_COLUMNS = (
    "backbone",
    "variant",
    "task",
    "dataset",
    "split",
    "protocol",
    "scale",
    "phantom",
    "metric",
    "title",
    "reported",
    "runs",
    "mean",
    "half_width_95_runs_only",
    "note",
    "family",
    "unit",
    "better",
)


@dataclass(frozen=True)
class Value:
    """One metric of one row, as the records hold it.

    Attributes:
        known: its declaration; None of a metric that this version does not know.
        half_width: of the 95 % t interval over runs; None for one run.
        note: why the number only describes; empty otherwise.
    """

    row: Row
    metric: str
    title: str
    known: NamedMetric | None
    mean: float
    half_width: float | None
    note: str

    @property
    def reported(self) -> bool:
        return self.metric == self.row.metric

    @property
    def on_sheet(self) -> bool:
        """Metrics of single classes stand there for kinds of task that show them."""
        return self.known is not None and (self.known.class_name is None or self.row.shows_classes)

    @property
    def text(self) -> str:
        """`16.4 ± 1.3`: shares in per cent, counts as they are."""
        shown = numbers.points if self.known is not None and self.known.spec.unit == "count" else numbers.percent
        return shown(self.mean, self.half_width)


@dataclass(frozen=True)
class Sheet:
    """The metrics of one task on one board: a line per metric, a column per backbone."""

    title: str
    labels: tuple[str, ...]
    lines: tuple[tuple[str, str, tuple[str, ...]], ...]  # title, note, texts in per cent


def values_of(rows: Iterable[Row], records: Iterable[Record]) -> list[Value]:
    """All metrics of complete rows, the reported one included, in the order of rows and of the records' metrics."""
    by_key = {record.key: record for record in records}
    found = []
    for row in rows:
        runs = [by_key[run.key] for run in row.runs if run.value is not None]
        if row.mean is None or not runs:
            continue
        for metric in runs[0].metrics:
            values = [run.metrics.get(metric, math.nan) for run in runs]
            if all(map(math.isfinite, values)):
                known = spec.find(metric, row.target)
                title, note = _title(metric, known, row), _note(known, runs[0])
                found.append(Value(row, metric, title, known, numbers.mean(values), numbers.t_half_width(values), note))
    return found


def sheets(values: Sequence[Value]) -> list[Sheet]:
    """One sheet per task, split and board; the reported metric stands on the leaderboard already."""
    grouped: dict[tuple, list[Value]] = {}
    for value in values:
        if not value.reported and value.on_sheet:
            row = value.row
            grouped.setdefault((row.phantom, row.scale, row.protocol, row.task, row.split), []).append(value)
    found = []
    for members in grouped.values():
        row = members[0].row
        labels = tuple(dict.fromkeys(value.row.label for value in members))
        texts = {(v.metric, v.row.label): v.text for v in members}
        heads = dict.fromkeys((v.metric, v.title, v.note) for v in members)
        lines = tuple((title, note, tuple(texts.get((metric, label), numbers.DASH) for label in labels)) for metric, title, note in heads)
        marks = ["phantom"] * row.phantom + ["limited"] * (row.scale == "limited")
        title = " · ".join(filter(None, (row.task_title, split_text(row.split), row.protocol, *marks)))
        found.append(Sheet(title, labels, lines))
    return found


def to_csv(values: Iterable[Value]) -> str:
    """One line per row and metric, unrounded, as the records hold them."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for value in values:
        row = value.row
        names = (row.backbone, row.variant, row.task, row.dataset, row.split, row.protocol, row.scale, row.phantom)
        half_width = "" if value.half_width is None else value.half_width
        declared = ("", "", "") if value.known is None else (value.known.spec.family, value.known.spec.unit, value.known.spec.better)
        facts = (value.metric, value.title, value.reported, row.n_ok, value.mean, half_width, value.note, *declared)
        writer.writerow([escape.csv_cell(cell) for cell in (*names, *facts)])
    return buffer.getvalue()


def _title(metric: str, known: NamedMetric | None, row: Row) -> str:
    if metric == row.metric:
        return row.metric_title
    title = metric if known is None else known.title
    return title.replace("Dice", "box-mask Dice") if row.box_masks else title


def _note(known: NamedMetric | None, record: Record) -> str:
    if known is None or known.class_name is None:
        return ""
    n_boxes = record.counts.get("test", {}).get(BOXES_OF + known.class_name)
    return f"{n_boxes:,} test boxes: descriptive" if n_boxes is not None and n_boxes < FEWEST_BOXES else ""
