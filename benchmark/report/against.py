"""A table's backbones against the one that its suite names, task by task: what is gained over the usual choice, and what is chance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmark.report.differences import Compared, compare_all
from benchmark.report.rows import Row


@dataclass(frozen=True)
class Against(Compared):
    """A backbone minus the reference, at one task."""

    row: Row
    reference: Row


def against(rows: Iterable[Row], reference: str) -> list[Against]:
    """Differences of every complete row to the reference's row of the same task, in the order of the rows.

    One family of tests for each row and track: its tasks. The reference is named beforehand, on the suite's card, so that nobody picks
    the backbone that a row looks best beside.

    Args:
        rows: of one protocol, geometry, scale and kind of data.
        reference: a backbone's name; without its row on a task there is no difference there.
    """
    whole = [row for row in rows if row.mean is not None]
    base = {(row.task, row.split, row.metric): row for row in whole if row.label == reference}
    pairs = [(row, base[place]) for row in whole if row.label != reference and (place := (row.task, row.split, row.metric)) in base]
    found = compare_all(pairs, family_of=lambda row, other: (row.label, other.label, row.track))
    return [Against(**vars(one), row=row, reference=other) for (row, other), one in zip(pairs, found, strict=True)]
