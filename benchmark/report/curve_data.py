"""Training curves: as a file with a line per epoch, and as data that a backbone's page draws when somebody looks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmark.cards import Epoch, Record, Role
from benchmark.report import escape, numbers
from benchmark.report.provenance import search_text

CurveOf = Callable[[Record], Sequence[Epoch]]

_COLUMNS = (
    "key",
    "task",
    "backbone",
    "protocol",
    "role",
    "run",
    "epoch",
    "step",
    "train_loss",
    "validation_loss",
    "learning_rate",
    "metric",
    "value",
)


class CurveFile:
    """`curves.csv` as it grows: every epoch of every job, one line each."""

    def __init__(self) -> None:
        self._lines = [_cells(_COLUMNS) + "\n"]

    def add(self, record: Record, curve: Sequence[Epoch]) -> None:
        labels, experiment = record.job.labels, record.job.experiment
        of_job = (record.key, labels.task, labels.backbone, labels.protocol, experiment.role.value, labels.run_number)
        before, select = _cells(of_job), _cells((experiment.select,))
        for point in curve:
            losses = f"{point.train_loss},{point.validation_loss},{point.learning_rate}"  # a number needs no quotes
            self._lines.append(f"{before},{point.epoch},{point.step},{losses},{select},{point.metrics.get(experiment.select, '')}\n")

    def text(self) -> str:
        return "".join(self._lines)


def _cells(values: Iterable[object]) -> str:
    """The values as a line of CSV, without its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(map(escape.csv_cell, values))
    return line.getvalue()


def of_job(record: Record, curve: Sequence[Epoch]) -> dict[str, Any]:
    """One job's curve as a page draws it; losses and per cent in five digits, None where there is none (it leaves a gap)."""
    labels, experiment = record.job.labels, record.job.experiment
    searching = experiment.role is Role.SELECTION
    scores = [100 * point.metrics.get(experiment.select, math.nan) for point in curve]
    drawn = [[point.train_loss for point in curve], [point.validation_loss for point in curve], scores]
    training, validation, value = numbers.significant(drawn, 5)
    return {
        "task": labels.task,
        "title": " · ".join((labels.task_title or labels.task, labels.protocol)),
        "split": experiment.dataset.split,
        "name": search_text(record) if searching else f"run {labels.run_number}",
        "search": searching,
        "metric": experiment.select,
        "epoch": [point.epoch for point in curve],
        "training": training,
        "validation": validation,
        "value": value,
        "selected": record.selected_epoch,
    }
