"""What a site is made of: everything its pages arrange, computed once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmark.cards import Job, Record
from benchmark.report import beside, tables
from benchmark.report.backbone_facts import BackboneFacts, facts_of
from benchmark.report.beside import Value
from benchmark.report.differences import Gain, Leak, gains, leaks
from benchmark.report.escape import one_line
from benchmark.report.provenance import job_order
from benchmark.report.rows import ResampledOf, Row, rows_of
from benchmark.report.standings import FrozenPanel, Standings, standings
from benchmark.report.tables import Board
from benchmark.report.unranked import as_one
from benchmark.shelf import Refused
from benchmark.submission.history import Entry
from benchmark.submission.trust import Trust


@dataclass(frozen=True)
class Ranked:
    """A table of the front page: who stands where, and the scores behind it."""

    standings: Standings
    board: Board
    gains: tuple[Gain, ...]
    leaks: tuple[Leak, ...]


@dataclass(frozen=True)
class Material:
    """Everything that pages show.

    Attributes:
        records: by task and backbone.
        tables: what may stand together, real and full results first.
        facts: by the backbones' names.
        values: every metric of complete rows.
    """

    title: str
    records: tuple[Record, ...]
    planned: tuple[Job, ...]
    rows: tuple[Row, ...]
    tables: tuple[Ranked, ...]
    facts: dict[str, BackboneFacts]
    values: tuple[Value, ...]
    refused: tuple[Refused, ...]

    @cached_property
    def by_backbone(self) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = defaultdict(list)
        for record in self.records:
            found[one_line(record.job.labels.backbone)].append(record)
        return found

    @cached_property
    def by_task(self) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = defaultdict(list)
        for record in self.records:
            found[record.job.labels.task].append(record)
        return found

    @cached_property
    def failures(self) -> list[Record]:
        return [record for record in self.records if record.status == "failed"]


def gathered(
    records: Iterable[Record],
    *,
    title: str,
    planned: Sequence[Job],
    resampled: ResampledOf | None,
    refused: Sequence[Refused],
    trust: Mapping[str, Trust] | None = None,
    panels: Sequence[FrozenPanel] = (),
    gone: Sequence[Entry] = (),
) -> Material:
    """Computes rows, differences and tables; arguments as of `site.write_site`."""
    records = tuple(sorted(records, key=job_order))
    rows = rows_of(records, planned=planned, resampled=resampled, refused=[one.key for one in refused], trust=trust)
    facts = facts_of(records)
    placed = standings(rows, panels, gone)
    found = [ranked for board in tables.boards(rows) for ranked in _of_board(board, placed)]
    found.sort(key=lambda one: (one.board.phantom, one.board.scale == "limited", not one.standings.ranked))
    values = tuple(beside.values_of(rows, records))
    return Material(title, records, tuple(planned), tuple(rows), tuple(found), facts, values, tuple(refused))


def _of_board(board: Board, placed: Sequence[Standings]) -> list[Ranked]:
    """A table for each track that a panel ranks, and one for all the rest; a board without a panel is one table."""
    mine = [one for one in placed if (one.phantom, one.scale, one.protocol) == (board.phantom, board.scale, board.protocol)]
    differences, leaked = gains(board.rows), leaks(board.rows)

    def part(standings: Standings, rows: Sequence[Row]) -> Ranked:
        ids = set(map(id, rows))
        found = tuple(one for one in differences if id(one.trained) in ids), tuple(one for one in leaked if id(one.leaky) in ids)
        return Ranked(standings, tables.board(board.phantom, board.scale, board.protocol, rows), *found)

    tables_with_panel, rest = [one for one in mine if one.panel], list(board.rows)
    found = []
    for one in tables_with_panel:
        rows = one.rows_in(rest)
        if rows:
            found.append(part(one, rows))
            ids = set(map(id, rows))
            rest = [row for row in rest if id(row) not in ids]
    if rest:
        others = [one for one in mine if not one.panel]
        found.append(part(as_one(tables.board(board.phantom, board.scale, board.protocol, rest), others), rest))
    return found
