"""A table's backbones against the one that its suite names, task by task: what is gained over the usual choice, and what is chance."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmark import registry
from benchmark.report import escape, tracks
from benchmark.report.differences import Compared, compare_all
from benchmark.report.rows import Row, is_of

CSV_COLUMNS = (
    "suite",
    "track",
    "protocol",
    "scale",
    "phantom",
    "backbone",
    "reference",
    "task",
    "metric",
    "difference_points",
    "half_width_95_points",
    "p",
    "p_holm",
    "reading",
    "interval_covers",
    "runs",
    "counted_twice_points_squared",
)


@dataclass(frozen=True)
class Against(Compared):
    """A backbone minus the reference, at one task."""

    row: Row
    reference: Row


def against_references(rows: Sequence[Row]) -> list[tuple[str, Against]]:
    """(suite, difference) for every suite that names a reference, each suite's rows apart by protocol, geometry, scale and kind of data."""
    found = []
    for name, card in tracks.suites().items():
        boards: dict[tuple, list[Row]] = {}
        for row in rows if card.reference else ():
            if row.task in card.core:
                boards.setdefault((row.phantom, row.scale, row.protocol, row.geometry), []).append(row)
        for mine in boards.values():
            if (label := _reference_label(mine, card.reference)) is not None:
                found += [(name, one) for one in against(mine, label)]
    return found


def _reference_label(rows: Iterable[Row], reference: str) -> str | None:
    """What the rows call the backbone that a suite names by its card, first without a variant; None where none is of it."""
    card = registry.backbones().get(reference)
    if card is None:
        return None
    return min(((bool(row.variant), row.label) for row in rows if is_of(row, card)), default=(False, None))[1]


def to_csv(found: Iterable[tuple[str, Against]]) -> str:
    """One line for each difference, in percentage points, unrounded."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for suite, one in found:
        row, difference = one.row, one.difference
        names = (suite, row.track, row.protocol, row.scale, row.phantom, row.label, one.reference.label, row.task, row.metric)
        points = [None if value is None else 100 * value for value in (difference.value, difference.half_width)]
        tested = (difference.p_value, one.adjusted_p, one.reading, one.covers, difference.n_runs)
        both = None if difference.both is None else 100**2 * difference.both
        writer.writerow([escape.csv_cell("" if cell is None else cell) for cell in (*names, *points, *tested, both)])
    return buffer.getvalue()


def against(rows: Iterable[Row], reference: str) -> list[Against]:
    """Differences of every complete row to the reference's row of the same task, in the order of the rows.

    One family of tests for each row and track: its tasks. The reference is named beforehand, on the suite's card, so that nobody picks
    the backbone that a row looks best beside.

    Args:
        rows: of one protocol, geometry, scale and kind of data.
        reference: a backbone's name; without its row on a task there is no difference there.
    """
    whole = [row for row in rows if row.mean is not None]
    base = {_place(row): row for row in whole if row.label == reference}
    pairs = [(row, base[_place(row)]) for row in whole if row.label != reference and _place(row) in base]
    found = compare_all(pairs, family_of=lambda row, other: (row.label, other.label, row.track))
    return [Against(**vars(one), row=row, reference=other) for (row, other), one in zip(pairs, found, strict=True)]


def _place(row: Row) -> tuple:
    return (row.task, row.task_version, row.split, row.metric)
