"""Rows of the CSV files in docs/data: a frozen dataclass of texts is a line, its fields are the columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmark.report.escape import csv_cell
from docsite.addresses import DOCS, ROOT

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Row = TypeVar("Row", bound=DataclassInstance)

DATA = ROOT / DOCS / "data"
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


def read(of: type[Row], path: Path, made_by: str) -> list[Row]:
    """The rows, in the file's order; none where there is no file.

    Args:
        made_by: the command that writes the file anew.

    Raises:
        ValueError: the file has other columns, or a line has too few or too many.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as lines:
        head, *rows = [*csv.reader(lines)] or [[]]
    columns = _columns(of)
    if head != columns:
        raise ValueError(f"{path} has the columns {', '.join(head)}; expected {', '.join(columns)}. `{made_by}` writes it anew.")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise ValueError(f"{path}, line {number}: {len(row)} values, expected {len(columns)}. Mend the line or remove it.")
    return [of(*row) for row in rows]


def write(of: type[Row], rows: Iterable[Row], path: Path) -> None:
    """Writes the rows in their order; text that a spreadsheet would run gets an apostrophe, and keeps it when it is read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as lines:
        written = csv.writer(lines, lineterminator="\n")
        written.writerow(_columns(of))
        written.writerows([text if _NUMBER.fullmatch(text) else csv_cell(text) for text in astuple(row)] for row in rows)


def _columns(of: type[Row]) -> list[str]:
    return [one.name for one in fields(of)]
