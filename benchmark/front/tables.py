"""Results as pandas data frames: a line per cell of the leaderboard, per run, per metric, per epoch, per image, per compared task.

Numbers are those of the report, unrounded. Columns whose name ends in `_percent` or `_points` are per cent and percentage points; other
scores are as stored, fractions for most metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmark.cards import Epoch, Record, Role
from benchmark.metrics.columns import Lists
from benchmark.metrics.statistics import defines, pooled_metric, to_columns, values_alone
from benchmark.report.against import against
from benchmark.report.rows import Row
from benchmark.report.tables import row_dict

if TYPE_CHECKING:
    from benchmark.kinds.kit.stored import ByImage

Labels = Mapping[str, str]
"""Key of a final run -> its backbone with what tells its row from others of the same name."""


def cells(rows: Iterable[Row]) -> pd.DataFrame:
    """A line for each backbone and task, with mean and interval; the columns of the report's `leaderboard.csv`."""
    return pd.DataFrame([{name: value for name, value in row_dict(row).items() if name != "kind"} for row in rows])


def runs(records: Iterable[Record], labels: Labels) -> pd.DataFrame:
    """A line for each final run, its reported metric first, in the order of tasks, backbones and runs."""
    lines = []
    for record in finals(records):
        value = record.metrics.get(record.job.experiment.report)
        lines.append(
            {
                **_names(record, labels),
                "metric": record.job.experiment.report,
                "value_percent": None if value is None else 100 * value,
                "status": record.status,
                "learning_rate": record.learning_rate,
                "selected_epoch": record.selected_epoch,
                "steps": record.steps,
                "seconds": sum(record.timings_s.values()),
                "scale": record.scale,
                "phantom": record.phantom,
                "failure": "" if record.failure is None else record.failure.sentence,
                "key": record.key,
            }
        )
    return pd.DataFrame(lines, columns=None if lines else [*_NAMES, "metric", "value_percent", "status", "key"])


def metrics(records: Iterable[Record], labels: Labels) -> pd.DataFrame:
    """A line for each metric of each final run: on the test split and, of the chosen epoch, on the validation split. Values as stored."""
    lines = [
        {**_names(record, labels), "split_part": part, "metric": name, "value": value, "key": record.key}
        for record in finals(records)
        for part, found in (("test", record.metrics), ("validation", record.validation))
        for name, value in found.items()
    ]
    return pd.DataFrame(lines, columns=None if lines else [*_NAMES, "split_part", "metric", "value", "key"])


def curves(found: Iterable[tuple[Record, Sequence[Epoch]]], labels: Labels) -> pd.DataFrame:
    """A line for each epoch of each job, searches included; validation metrics are columns that begin with `validation_`."""
    lines = []
    for record, curve in found:
        for point in curve:
            scores = {f"validation_{name}": value for name, value in point.metrics.items()}
            plain = {name: getattr(point, name) for name in ("epoch", "step", "learning_rate", "train_loss", "validation_loss")}
            lines.append({**_names(record, labels), "role": record.job.experiment.role.value, **plain, **scores, "key": record.key})
    return pd.DataFrame(lines, columns=None if lines else [*_NAMES, "role", "epoch", "train_loss", "validation_loss", "key"])


def per_image(record: Record, found: ByImage, labels: Labels) -> pd.DataFrame:
    """A line for each test image of a run: its id, patient, view, sex and decade of age as far as known, and its own score.

    `value` is the reported metric with this image alone, NaN where one image does not define it, as with an AUROC. What the metric is made
    of stands in columns of the stored statistics' names, one for each class where there are several: pixels that are rightly (`tp`),
    wrongly (`fp`) and not marked (`fn`), or the predicted `score` of a finding and its `truth`.
    """
    metric, statistics = record.job.experiment.report, found.statistics
    n = len(found.ids)
    frame: dict[str, Any] = {"image": found.ids, "patient": found.patients, **found.facts}
    frame["value"] = values_alone(pooled_metric(statistics, metric), range(n), n) if defines(statistics, metric) else np.full(n, np.nan)
    classes = record.job.experiment.dataset.classes
    for name, column in to_columns(statistics).columns.items():
        if isinstance(column, np.ndarray) and len(column) == n:
            frame[name] = column
        elif isinstance(column, Lists) and n and np.all(column.counts == len(classes)):
            by_class = column.rows(len(classes))
            frame |= {name if len(classes) == 1 else f"{name} {each}": by_class[:, k] for k, each in enumerate(classes)}
    table = pd.DataFrame(frame)
    for place, (name, value) in enumerate({**_names(record, labels), "metric": metric}.items()):
        table.insert(place, name, value)
    return table


def compared(rows: Iterable[Row], first: str, second: str) -> pd.DataFrame:
    """First minus second on every task that both have, by the report's own test: two-part p, Holm's correction over the tasks.

    Args:
        first, second: labels of backbones, as in `cells`.
    """
    boards: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.label in (first, second):
            boards.setdefault((row.phantom, row.scale, row.protocol, row.geometry), []).append(row)
    lines = []
    for one in (found for board in boards.values() for found in against(board, second)):
        effect, row = one.difference, one.row
        half = None if effect.half_width is None else 100 * effect.half_width
        points = 100 * effect.value
        lines.append(
            {
                "task": row.task,
                "split": row.split,
                "protocol": row.protocol,
                "scale": row.scale,
                "phantom": row.phantom,
                "metric": row.metric,
                "first": row.label,
                "second": one.reference.label,
                "first_percent": _percent(row.mean),
                "second_percent": _percent(one.reference.mean),
                "effect_points": points,
                "half_width_95_points": half,
                "low_points": None if half is None else points - half,
                "high_points": None if half is None else points + half,
                "p": effect.p_value,
                "p_holm": one.adjusted_p,
                "reading": one.reading,
                "interval_covers": one.covers,
                "runs": effect.n_runs,
            }
        )
    table = pd.DataFrame(lines, columns=None if lines else ["task", "metric", "first", "second", "effect_points", "p", "p_holm", "reading"])
    numbers = [name for name in table.columns if name in ("p", "p_holm") or name.endswith("_points")]
    return table.astype(dict.fromkeys(numbers, "float64"))


def failures(records: Iterable[Record], labels: Labels) -> pd.DataFrame:
    """A line for each job that failed, searches included, with the sentence that says why."""
    lines = [
        {**_names(r, labels), "role": r.job.experiment.role.value, "kind": r.failure.kind, "failure": r.failure.sentence, "key": r.key}
        for r in _in_order(records)
        if r.failure is not None
    ]
    return pd.DataFrame(lines, columns=[*_NAMES, "role", "kind", "failure", "key"])


def finals(records: Iterable[Record]) -> list[Record]:
    """Records of final runs, by task, backbone and run."""
    return [record for record in _in_order(records) if record.job.experiment.role is Role.FINAL]


_NAMES = ("task", "split", "backbone", "protocol", "run")


def _names(record: Record, labels: Labels) -> dict[str, Any]:
    said, split = record.job.labels, record.job.experiment.dataset.split
    return dict(zip(_NAMES, (said.task, split, labels.get(record.key, said.backbone), said.protocol, said.run_number), strict=True))


def _in_order(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (*map(str, list(_names(record, {}).values())[:4]), record.job.labels.run, record.key))


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
