"""Training curves: as a file with a line per epoch, and as data that a backbone's page draws when somebody looks."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmark.cards import Epoch, Record, Role
from benchmark.report import escape
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
        self._buffer = io.StringIO()
        self._writer = csv.writer(self._buffer, lineterminator="\n")
        self._writer.writerow(_COLUMNS)

    def add(self, record: Record, curve: Sequence[Epoch]) -> None:
        labels, experiment = record.job.labels, record.job.experiment
        of_job = (record.key, labels.task, labels.backbone, labels.protocol, experiment.role.value, labels.run_number)
        names, select = [escape.csv_cell(name) for name in of_job], escape.csv_cell(experiment.select)
        for point in curve:
            scores = (point.epoch, point.step, point.train_loss, point.validation_loss, point.learning_rate)
            self._writer.writerow((*names, *scores, select, point.metrics.get(experiment.select, "")))

    def text(self) -> str:
        return self._buffer.getvalue()


def of_job(record: Record, curve: Sequence[Epoch]) -> dict[str, Any]:
    """One job's curve as a page draws it; losses and per cent in five digits, None where there is none."""
    labels, experiment = record.job.labels, record.job.experiment
    searching = experiment.role is Role.SELECTION
    return {
        "task": labels.task,
        "title": " · ".join((labels.task_title or labels.task, labels.protocol)),
        "split": experiment.dataset.split,
        "name": search_text(record) if searching else f"run {labels.run_number}",
        "search": searching,
        "metric": experiment.select,
        "epoch": [point.epoch for point in curve],
        "training": _rounded(point.train_loss for point in curve),
        "validation": _rounded(point.validation_loss for point in curve),
        "value": _rounded(None if (v := point.metrics.get(experiment.select)) is None else 100 * v for point in curve),
        "selected": record.selected_epoch,
    }


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    """Five significant digits, plenty on a screen; what is not finite leaves a gap (JSON has no NaN)."""
    return [None if value is None or not abs(value) < float("inf") else float(f"{value:.5g}") for value in values]
