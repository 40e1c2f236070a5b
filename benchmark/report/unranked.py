"""A board that no reference panel ranks, as one table: its tracks side by side, since nothing is averaged over them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.report.standings import Standing, Standings
from benchmark.report.tables import Board
from benchmark.submission.trust import lowest


def as_one(board: Board, tables: Sequence[Standings]) -> Standings:
    """The tables of a board together, in the board's own order.

    Args:
        tables: of the board's tracks and suites; none ranks.
    """
    by_label: dict[str, list[Standing]] = {}
    for table in tables:
        for one in table.rows:
            by_label.setdefault(one.label, []).append(one)
    rows = tuple(_merged(by_label[label]) for label in board.backbones if label in by_label)
    tasks = tuple(dict.fromkeys(column.task for column in board.columns))
    sentence = next((table.sentence for table in tables), "")
    return Standings("", "", "", board.protocol, board.scale, board.phantom, tasks, "", rows, (), sentence, [])


def _merged(parts: Sequence[Standing]) -> Standing:
    """One backbone in several tables; what it cost adds up, and its trust is the lowest."""
    first, costs = parts[0], [one.cost_s for one in parts if one.cost_s is not None]
    return Standing(
        backbone=first.backbone,
        label=first.label,
        random=first.random,
        custom=tuple(dict.fromkeys(part for one in parts for part in one.custom)),
        headline=None,
        half_width=None,
        band=None,
        by_task={},
        by_dataset={},
        why_none=first.why_none,
        contamination={task: mark for one in parts for task, mark in one.contamination.items()},
        trust=lowest(one.trust for one in parts),
        parameters=next((one.parameters for one in parts if one.parameters is not None), None),
        macs=next((one.macs for one in parts if one.macs is not None), None),
        cost_s=sum(costs) if costs else None,
    )
