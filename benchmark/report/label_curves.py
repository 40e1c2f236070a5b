"""How a backbone's score grows with the labels it is given: its rows of one recipe at several shares of the training list, side by side.

Draws are nested and the test images are the same, so points of a curve are not independent: they are shown, and never tested against
each other.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

from benchmark.report import escape
from benchmark.report.rows import Row

CSV_COLUMNS = (
    "backbone",
    "curve",
    "task",
    "dataset",
    "protocol",
    "scale",
    "phantom",
    "metric",
    "label_fraction",
    "train_images",
    "validation_images",
    "mean_percent",
    "half_width_95_percent",
)


@dataclass(frozen=True)
class LabelCurve:
    """One backbone on tasks that differ in their share of labels alone.

    Attributes:
        name: of these tasks, with `*` in the place of the share.
        points: complete rows by rising share, at least two.
    """

    name: str
    label: str
    points: tuple[Row, ...]


def label_curves(rows: Iterable[Row]) -> list[LabelCurve]:
    """Curves in the order of their first rows. Tasks belong together where their names say so (`…-1`, `…-10`, `…-100`)."""
    grouped: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.mean is not None:
            grouped.setdefault((_stem(row), row.label, row.split, row.metric, row.protocol, row.scale, row.phantom), []).append(row)
    found = []
    for (name, label, *_), members in grouped.items():
        if len(members) > 1:
            found.append(LabelCurve(name, label, tuple(sorted(members, key=lambda row: row.fraction))))
    return found


def to_csv(curves: Iterable[LabelCurve]) -> str:
    """One line for each point, unrounded."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for curve in curves:
        for row in curve.points:
            names = (row.label, curve.name, row.task, row.dataset, row.protocol, row.scale, row.phantom, row.metric, row.fraction)
            counts = (row.n_images.get("train"), row.n_images.get("validation"))
            values = [None if value is None else 100 * value for value in (row.mean, row.half_width)]
            writer.writerow([escape.csv_cell("" if cell is None else cell) for cell in (*names, *counts, *values)])
    return buffer.getvalue()


def _stem(row: Row) -> str:
    """The task's name without its share of labels; the whole name where it says none."""
    return re.sub(rf"-{row.fraction * 100:g}(?=-|$)", "-*", row.task, count=1)
