"""What the long checks saw: rows of docs/data/verification.csv, and the table that the site makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from docsite import data_rows
from docsite.sortable import Cell, escaped, table

DATA = data_rows.DATA / "verification.csv"


@dataclass(frozen=True, order=True)
class Seen:
    """The latest run of one check, all as text.

    Attributes:
        check: its name, as pytest has it below tests/verify/.
        result: passed, failed, error or skipped.
        seconds: of the check alone.
        commit: with `-dirty` where something had changed on top of it.
        date: of UTC, year-month-day.
        saw: what it noted, `name: value; name: value`; why it was skipped.
    """

    check: str
    result: str
    seconds: str
    commit: str
    date: str
    saw: str


def read(path: Path = DATA) -> list[Seen]:
    """The rows; none where there is no file.

    Raises:
        ValueError: the file holds other rows.
    """
    return data_rows.read(Seen, path, "make verify")


def write(rows: Iterable[Seen], path: Path = DATA) -> None:
    """Writes the rows by name."""
    data_rows.write(Seen, sorted(rows), path)


def view() -> str:
    """The rows as a table of HTML."""
    shown = ([_code(one.check), *(Cell(escaped(text)) for text in _facts(one))] for one in read())
    return table("checks", ("check", "result", "seconds", "commit", "date (UTC)", "what it saw"), shown, choose=("result", "date (UTC)"))


def _facts(one: Seen) -> tuple[str, ...]:
    return one.result, one.seconds, f"`{one.commit}`", one.date, one.saw


def _code(name: str) -> Cell:
    return Cell(f"<code>{escaped(name)}</code>")
