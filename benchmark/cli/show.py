"""Tables, JSON and sentences on the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark import terminal

out = Console(highlight=False, width=terminal.width_of(sys.stdout))
err = Console(stderr=True, highlight=False, width=terminal.width_of(sys.stderr))


def print_json(document: Any) -> None:
    """One JSON document on stdout, in ASCII where the terminal takes nothing else."""
    ascii_only = not terminal.takes_every_letter(sys.stdout)
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=ascii_only) + "\n")


def show_rows(rows: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...]) -> None:
    """A table of the named columns, or all there is as JSON."""
    if as_json:
        print_json(rows)
        return
    if any(row.get("custom") for row in rows):  # the column says nothing where nobody's own cards are read
        columns = (*columns, "custom")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    out.print(table)


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
