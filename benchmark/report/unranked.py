"""What the front page shows of a board that no reference panel ranks: its backbones, and why none has a headline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from benchmark.report.backbone_facts import BackboneFacts
from benchmark.report.tables import Board
from benchmark.statistics.bands import RankBand

NO_PANEL = "no reference panel has been measured for these tasks"
SENTENCE = f"No ranking yet: {NO_PANEL}."


@dataclass(frozen=True)
class Standing:
    """One backbone in one table.

    Attributes:
        headline, half_width, band: where it stands; None where it has no headline.
        by_task, by_dataset: z.
        why_none: why there is no headline; empty where there is one.
        contamination: task -> what pretraining saw of its dataset.
        trust: how far the lowest of its cells was checked.
        macs: multiply-accumulate operations for an image; None where not recorded.
    """

    backbone: str
    label: str
    random: bool
    custom: tuple[str, ...]
    headline: float | None
    half_width: float | None
    band: RankBand | None
    by_task: Mapping[str, float]
    by_dataset: Mapping[str, float]
    why_none: str
    contamination: Mapping[str, str]
    trust: str
    parameters: int | None
    macs: int | None
    cost_s: float | None


@dataclass(frozen=True)
class Standings:
    """One table: what may be ranked together.

    Attributes:
        rows: by band, alphabetical inside a band; rows without a headline last.
        sentence: `Tied for best: A, B.` or `No ranking yet: …`.
        adjusted_p: of all pairs of ranked rows, Holm's.
    """

    suite: str
    track: str
    geometry: str
    protocol: str
    scale: str
    phantom: bool
    tasks: tuple[str, ...]
    panel: str
    reference: str
    rows: tuple[Standing, ...]
    tied_for_best: tuple[str, ...]
    sentence: str
    adjusted_p: list[list[float]]


def unranked(board: Board, facts: Mapping[str, BackboneFacts]) -> Standings:
    """The backbones of a board without an order.

    Args:
        facts: by the backbones' names.
    """
    rows, by_label = [], defaultdict(list)
    for row in board.rows:
        by_label[row.label].append(row)
    for label in board.backbones:
        mine = by_label[label]
        known = facts.get(mine[0].backbone)
        rows.append(
            Standing(
                backbone=mine[0].backbone,
                label=label,
                random=mine[0].random,
                custom=mine[0].custom,
                headline=None,
                half_width=None,
                band=None,
                by_task={},
                by_dataset={},
                why_none=NO_PANEL,
                contamination={row.task: row.contamination for row in mine},
                trust="local",
                parameters=None if known is None else known.parameters,
                macs=None,
                cost_s=None if known is None else known.seconds,
            )
        )
    tasks = tuple(dict.fromkeys(column.task for column in board.columns))
    return Standings("", "", "", board.protocol, board.scale, board.phantom, tasks, "", "", tuple(rows), (), SENTENCE, [])
