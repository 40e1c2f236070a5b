"""What the long checks saw: rows of docs/data/verification.csv, and the table that the site makes of them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from docsite.addresses import ROOT
from docsite.tables import cell, table

DATA = ROOT / "docs" / "data" / "verification.csv"


@dataclass(frozen=True, order=True)
class Seen:
    """The latest run of one check, all as text.

    Attributes:
        check: its name, as pytest has it below tests/verify/.
        result: passed, failed or error.
        seconds: of the check alone.
        commit: with `-dirty` where something had changed on top of it.
        date: of UTC, year-month-day.
        saw: what it noted, `name: value; name: value`.
    """

    check: str
    result: str
    seconds: str
    commit: str
    date: str
    saw: str


COLUMNS = tuple(one.name for one in fields(Seen))


def read(path: Path = DATA) -> list[Seen]:
    """The rows, in the file's order; none where there is no file.

    Raises:
        ValueError: the file has other columns, or a line has too few or too many.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as lines:
        head, *rows = csv.reader(lines)
    if tuple(head) != COLUMNS:
        raise ValueError(f"{path} has the columns {', '.join(head)}; expected {', '.join(COLUMNS)}. `make verify` writes it anew.")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(COLUMNS):
            raise ValueError(f"{path}, line {number}: {len(row)} values, expected {len(COLUMNS)}. Mend the line or remove it.")
    return [Seen(*row) for row in rows]


def write(rows: Iterable[Seen], path: Path = DATA) -> None:
    """Writes the rows by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as lines:
        written = csv.writer(lines, lineterminator="\n")
        written.writerow(COLUMNS)
        written.writerows(astuple(row) for row in sorted(rows))


def view() -> str:
    """The rows as a table of Markdown."""
    shown = ((f"`{cell(one.check)}`", one.result, one.seconds, f"`{one.commit}`", one.date, cell(one.saw)) for one in read())
    return "\n".join(table(("check", "result", "seconds", "commit", "date (UTC)", "what it saw"), shown))
