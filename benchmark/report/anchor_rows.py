"""What every score is read against: a trivial predictor, an untrained network, ImageNet's, DINOv2's, and what the grid alone allows.

Scores that need no model come from the records of any backbone on the same test images; networks are measured like all others and are told
by the cards that a line-up names. Nothing is made up: what nobody measured is missing, with the reason. (No dataset of the core has a
second reading of its test images, so that no row says how far readers agree.)
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmark import registry
from benchmark.cards import Anchor, LineupCard
from benchmark.metrics.anchors import ALL_POSITIVE
from benchmark.report import escape
from benchmark.report.rows import Row, is_of

TRIVIAL, ORACLE = "trivial predictor", "grid oracle"
ROLES: Mapping[Anchor, str] = {"random": "random initialisation", "imagenet": "ImageNet, supervised", "dinov2": "DINOv2 of the same size"}
"""Anchor of a line-up -> what it stands for."""
ORDER = (TRIVIAL, *ROLES.values(), ORACLE)
CSV_COLUMNS = (
    *("suite", "track", "geometry", "protocol", "scale", "phantom"),
    *("role", "name", "task", "metric", "percent", "half_width_percent", "missing"),
)


@dataclass(frozen=True)
class AnchorScore:
    """A score as a fraction, and the half width of its 95 % interval, where something was drawn."""

    value: float
    half_width: float | None = None


@dataclass(frozen=True)
class AnchorRow:
    """One anchor over the tasks of a table.

    Attributes:
        role: one of `ORDER`.
        name: of the predictor, or of the network as tables call it; empty where nothing of the role is known.
        scores: task -> score.
        missing: task -> why there is none.
    """

    role: str
    name: str
    scores: Mapping[str, AnchorScore]
    missing: Mapping[str, str] = field(default_factory=dict)


def anchor_rows(rows: Sequence[Row], lineup: LineupCard | None = None) -> tuple[AnchorRow, ...]:
    """The anchors of one table: at least one row for each role, in the order of `ORDER`.

    Args:
        rows: that stand together: one track, geometry, protocol, scale and kind of data.
        lineup: names the networks; None takes that of the rows' suite, else the first there is.
    """
    tasks = tuple(dict.fromkeys(row.task for row in rows))
    lineup = lineup or _lineup_of(rows)
    found = [*_without_model(rows, tasks)]
    for role, title in ROLES.items():
        name = "" if lineup is None else lineup.anchors.get(role, "")
        card = registry.backbones().get(name)
        measured = [row for row in rows if (row.random if role == "random" else card is not None and is_of(row, card))]
        found += _networks(title, name, measured, tasks)
    return tuple(sorted(found, key=lambda one: ORDER.index(one.role)))


def to_csv(rows: Iterable[Row]) -> str:
    """The anchors of every table, a line per task; scores unrounded, in per cent."""
    tables: dict[tuple, list[Row]] = {}
    for row in rows:
        tables.setdefault((row.suite, row.track, row.geometry, row.protocol, row.scale, row.phantom), []).append(row)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for place, members in tables.items():
        metrics = {row.task: row.metric for row in members}
        for anchor in anchor_rows(members):
            for task, metric in metrics.items():
                score = anchor.scores.get(task)
                half = None if score is None else score.half_width
                shown = ("" if score is None else 100 * score.value, "" if half is None else 100 * half, anchor.missing.get(task, ""))
                writer.writerow([escape.csv_cell(cell) for cell in (*place, anchor.role, anchor.name, task, metric, *shown)])
    return buffer.getvalue()


def _lineup_of(rows: Sequence[Row]) -> LineupCard | None:
    known = list(registry.lineups().values())
    suites = {row.suite for row in rows}
    return next((card for card in known if card.suite in suites), known[0] if known else None)


def _without_model(rows: Sequence[Row], tasks: Sequence[str]) -> list[AnchorRow]:
    """Of each predictor that records name, its scores: one a task, unless rows were tested on different images."""
    names = dict.fromkeys(name for row in rows for name, _ in row.anchors)
    found = []
    for name in names:
        scores, missing = {}, {}
        for task in tasks:
            values = {value for row in rows if row.task == task for known, value in row.anchors if known == name}
            if len(values) == 1:
                scores[task] = AnchorScore(values.pop())
            else:
                missing[task] = "rows were tested on different images" if values else _why_none(name, task, rows)
        found.append(AnchorRow(TRIVIAL if name == ALL_POSITIVE else ORACLE, name, scores, missing))
    for role in (TRIVIAL, ORACLE):
        if not any(one.role == role for one in found):
            found.append(AnchorRow(role, "", {}, {task: _why_none(role, task, rows) for task in tasks}))
    return found


def _why_none(name: str, task: str, rows: Sequence[Row]) -> str:
    if not any(row.anchors for row in rows if row.task == task):
        return "its records name none: scored without masks, who predicts nothing has the lowest score"
    return "its records name none" if name in (ALL_POSITIVE, TRIVIAL) else "its head sees other maps than this grid"


def _networks(role: str, card: str, measured: Sequence[Row], tasks: Sequence[str]) -> list[AnchorRow]:
    by_label: dict[str, dict[str, Row]] = {}
    for row in measured:
        by_label.setdefault(row.label, {})[row.task] = row
    why = f"not measured; lobe run --backbone {card}" if card else "no line-up names one"
    if not by_label:
        return [AnchorRow(role, "", {}, dict.fromkeys(tasks, why))]
    found = []
    for label, of in by_label.items():
        scores = {task: AnchorScore(row.mean, row.half_width) for task, row in of.items() if row.mean is not None}
        missing = {task: of[task].missing if task in of else why for task in tasks if task not in scores}
        found.append(AnchorRow(role, label, scores, missing))
    return found
