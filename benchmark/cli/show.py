"""Tables, JSON and sentences on the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from benchmark import terminal

out = Console(highlight=False, width=terminal.width_of(sys.stdout))
err = Console(stderr=True, highlight=False, width=terminal.width_of(sys.stderr))

MOST_COLUMNS = 20  # of a terminal, that one cell's longest word may ask for before it is folded


def print_json(document: Any) -> None:
    """One JSON document on stdout, in ASCII where the terminal takes nothing else."""
    ascii_only = not terminal.takes_every_letter(sys.stdout)
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=ascii_only) + "\n")


def show_rows(rows: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...]) -> None:
    """A table of the named columns, or all there is as JSON. A terminal too narrow for the table gets a line for each cell instead."""
    if as_json:
        print_json(rows)
        return
    if any(row.get("custom") for row in rows):  # the column says nothing where nobody's own cards are read
        columns = (*columns, "custom")
    heads = [column.replace("_", " ") for column in columns]
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    if out.is_terminal and out.width < _readable_width(heads, cells):
        out.print(_line_by_line(heads, cells))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for line in cells:
        table.add_row(*line)
    out.print(table)


def show_whole(console: Console, table: Table) -> None:
    """Prints a table with all of its numbers: a pager scrolls and a terminal wraps what is too wide, where a number cut short misleads."""
    for column in table.columns:
        if column.no_wrap:
            column.min_width = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
    before = console.width
    console.width = max(before, console.measure(table, options=console.options.update(width=10 * terminal.PIPE_WIDTH)).minimum)
    try:
        console.print(table, crop=False)
    finally:
        console.width = before


def _readable_width(heads: list[str], cells: list[list[str]]) -> int:
    """Columns of the terminal in which no word of the table is folded but the very long ones."""
    words = [max(len(word) for text in column for word in text.split() or [""]) for column in zip(heads, *cells, strict=True)]
    return sum(min(width, MOST_COLUMNS) + 2 for width in words) - 2


def _line_by_line(heads: list[str], cells: list[list[str]]) -> Table:
    """A line for each cell behind the name of its column, and an empty one after each row."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for line in cells:
        for head, cell in zip(heads, line, strict=True):
            grid.add_row(head, cell)
        grid.add_row("", "")
    return grid


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(f"{value:g}" if isinstance(value, float) else str(value))


def plain(text: str) -> str:
    """Text with the console's markup escaped: names and paths may hold brackets."""
    return text.replace("[", r"\[")


def word(value: object) -> str:
    """A path or name as one word of a command that a user may copy: quoted where a shell would cut it, markup escaped."""
    return plain(shlex.quote(str(value)))


@contextlib.contextmanager
def paged() -> Iterator[Console]:
    """A console for what is long and wide: through the pager of a terminal ($PAGER, else less), which scrolls to all sides."""
    if not sys.stdout.isatty():
        yield out
        return
    os.environ.setdefault("LESS", "FRSX")  # colours; not at all where one screen holds it; lines are not wrapped
    with out.pager(styles=True):
        yield out


def progress_bar(title: str, quiet: bool):
    """A bar on stderr, or none; its value is called with (done, total)."""
    from benchmark.progress import bar

    return bar(err, title, quiet)


def show_problems(problems) -> None:
    for problem in problems:
        err.print(f"[yellow]left out:[/] {plain(problem.what)}: {plain(problem.sentence)}", soft_wrap=True)
