"""Tables of one's own data: read with whatever separates cells, by columns that the card names, each row with its line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark.errors import DataError
from benchmark.readers.kit.tables import read_table, rows_by_name
from benchmark.readers.kit.text import open_text

SEPARATORS = ",", ";", "\t"


def rows_of(path: Path, columns: Sequence[str], dataset: str, block: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and the cells of the named columns, blanks around them aside.

    Args:
        columns: empty names are passed over.
        block: of the card, for sentences.

    Raises:
        DataError: a column is missing, with those that there are; or as `rows_by_name`.
    """
    table = read_table(path, dataset, re_saved=_other_separator(path, dataset))
    header = [name.strip() for name in table.header]
    wanted = list(dict.fromkeys(name for name in columns if name))
    missing = [name for name in wanted if name not in header]
    if missing:
        raise DataError(
            f"{dataset}: {path.name} line 1 has no column {missing[0]!r}, which the card names under `{block}`. "
            f"Columns: {', '.join(header)}."
        )
    return rows_by_name(table, wanted, dataset)


def separator_of(header: str) -> str:
    """What separates the cells of a table's first line: the commonest of `SEPARATORS`."""
    return max(SEPARATORS, key=header.count)


def _other_separator(path: Path, dataset: str) -> str:
    """The separator, where it is no comma; empty otherwise, and where the file cannot be opened, which the reader of tables says."""
    try:
        with open_text(path, dataset) as handle:
            separator = separator_of(handle.readline())
    except OSError:
        return ""
    return "" if separator == "," else separator


def all_rows(path: Path, dataset: str, at_most: int) -> tuple[tuple[str, ...], tuple[dict[str, str], ...]]:
    """Names of the columns, and the first rows by them; cells that a row lacks are empty.

    Raises:
        DataError: no readable table.
    """
    table = read_table(path, dataset, re_saved=_other_separator(path, dataset))
    header = tuple(name.strip() for name in table.header)
    rows = [dict(zip(header, (*(cell.strip() for cell in cells), *[""] * len(header)), strict=False)) for _, cells in table.rows[:at_most]]
    return header, tuple(rows)
