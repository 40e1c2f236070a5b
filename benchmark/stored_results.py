"""What output folders hold, read together: the records that may be believed, each in its folder, and the rows that they make."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import planned as planned_jobs
from benchmark.cards import Job, Record
from benchmark.errors import UsageError
from benchmark.kinds.kit.stored import STATISTICS_FILES
from benchmark.processes import Show, unseen
from benchmark.report import resampling
from benchmark.report.rows import Row, rows_of
from benchmark.shelf import Refused, Shelf
from benchmark.submission import shown as submitted
from benchmark.submission.trust import Trust
from benchmark.submission.verified import statistics_check

_CHECK = statistics_check(resampling.leave)  # what is shown is resampled: while its statistics are at hand, and not read again


@dataclass(frozen=True)
class StoredResults:
    """
    Attributes:
        records: sorted by key, without their curves.
        of: key of a record -> the folder that holds it.
        planned: every job that was planned in the folders.
        refused: stored records that may not be believed.
    """

    records: tuple[Record, ...]
    of: dict[str, Shelf]
    planned: tuple[Job, ...]
    refused: tuple[Refused, ...]

    @property
    def where(self) -> dict[str, Path]:
        """Key of a record -> its output folder."""
        return {key: shelf.out for key, shelf in self.of.items()}

    def rows(self) -> list[Row]:
        """Rows with the intervals that a report gives them: over runs and test patients."""
        resampled = resampling.of_records(self.records, self.where)
        return rows_of(self.records, planned=self.planned, resampled=resampled, refused=[one.key for one in self.refused])


def read(outs: Sequence[Path]) -> StoredResults:
    """Everything stored in some output folders; a result that lies in more than one counts once.

    Raises:
        UsageError: none of them holds a result, or two of them hold other results of one job.
    """
    outs = list(dict.fromkeys(outs))
    records, refused, of = together([Shelf(each) for each in outs])
    if not records and not refused:
        raise UsageError(nothing_in(outs))
    planned = {job.key: job for each in outs for job in planned_jobs.read(each)}
    return StoredResults(tuple(records), of, tuple(planned.values()), tuple(refused))


def narrowed(rows: Sequence[Row], tasks: Sequence[str] = (), backbones: Sequence[str] = ()) -> list[Row]:
    """Rows whose task and backbone hold one of the given texts, upper and lower case alike; `*` and `?` as in a shell. None given: all.

    Raises:
        UsageError: there is no such row; says what there is.
    """
    found = [row for row in rows if _holds(row.task, tasks) and _holds(row.label, backbones)]
    if rows and not found:
        there = "; ".join(
            f"{what}: {', '.join(dict.fromkeys(names))}"
            for what, names in (("tasks", [row.task for row in rows]), ("backbones", [row.label for row in rows]))
        )
        raise UsageError(f"No stored row is of {' or '.join([*tasks, *backbones])}. There are {there}.")
    return found


def _holds(name: str, asked: Sequence[str]) -> bool:
    return not asked or any(fnmatch.fnmatch(name.lower(), f"*{one.lower()}*") for one in asked)


def nothing_in(outs: Sequence[Path]) -> str:
    """The sentence on folders without a result."""
    if wrong := [str(each) for each in outs if each.exists() and not each.is_dir()]:
        return f"{wrong[0]} is no output folder but a file. Give the folder that `lobe run` was given as --out."
    named = " and ".join(map(str, outs))
    return f"{named} {'holds' if len(outs) == 1 else 'hold'} no results yet. `lobe run --out {shlex.quote(str(outs[0]))} …` makes some."


def believable(shelf: Shelf, show: Show = unseen) -> tuple[list[Record], list[Refused]]:
    """What a report may show of a folder, and what not; what a run's number rests on, its statistics, is held to its digest."""
    return shelf.believable(STATISTICS_FILES, _CHECK, show)


def together(shelves: Sequence[Shelf], show: Show = unseen) -> tuple[list[Record], list[Refused], dict[str, Shelf]]:
    """What several folders hold: records by key, what is not believed, and the folder of each record.

    Raises:
        UsageError: one job has other results in two of them.
    """
    found: dict[str, Record] = {}
    of: dict[str, Shelf] = {}
    refused: list[Refused] = []
    for shelf in shelves:
        records, damaged = believable(shelf, show)
        refused += damaged
        for record in records:
            known = found.get(record.key)
            if known is not None and (known.status, record.status) == ("ok", "ok") and known.metrics != record.metrics:
                labels = record.job.labels
                raise UsageError(
                    f"{of[record.key].out} and {shelf.out} hold different results of one job ({record.key}: {labels.task}, "
                    f"{labels.backbone}, run {labels.run_number}). One of them is not what this job gives: report them apart, and compute "
                    "it anew."
                )
            if known is None or (known.status == "failed" and record.status == "ok"):
                found[record.key], of[record.key] = record, shelf
    return sorted(found.values(), key=lambda record: record.key), [one for one in refused if one.key not in found], of


def beside(
    records: list[Record], refused: list[Refused], of: dict[str, Shelf], sent: Sequence[submitted.Submission], least: Trust
) -> tuple[dict[str, Trust], int]:
    """Adds what was submitted to what is one's own; a result that is one's own, or was submitted before, counts once.

    Returns:
        The level of each record that was added, and how many were not for their level.
    """
    trust: dict[str, Trust] = {}
    below = 0
    for one in sent:
        theirs, not_believed = one.believable(_CHECK)
        refused += not_believed
        for record in theirs:
            level = one.trust_of(record)
            if not level.at_least(least):
                below += 1
            elif record.key not in of:
                records.append(record)
                of[record.key], trust[record.key] = one.shelf, level
    records.sort(key=lambda record: record.key)
    return trust, below
