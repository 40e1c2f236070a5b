"""Tables that theme/javascripts/tables.js sorts by a heading and narrows by words and choices; without it they are whole."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

_CODE = re.compile(r"`([^`]+)`")
_MARKDOWN = str.maketrans({sign: f"&#{ord(sign)};" for sign in "`[]"})  # `docsite.links` would read code or a link


@dataclass(frozen=True)
class Cell:
    """
    Attributes:
        shown: HTML, of `escaped` or made of it.
        by: what the column is sorted by; None where that is the text itself.
    """

    shown: str
    by: str | None = None


def escaped(text: str) -> str:
    """HTML of a text in one line; what stands between backticks is code, and nothing else is more than text."""
    plain = html.escape(" ".join(text.split()))
    pieces = _CODE.split(plain)  # text and code in turn
    return "".join(f"<code>{piece.translate(_MARKDOWN)}</code>" if n % 2 else piece.translate(_MARKDOWN) for n, piece in enumerate(pieces))


def table(noun: str, head: Sequence[str], rows: Iterable[Sequence[Cell]], choose: Collection[str] = ()) -> str:
    """A table of HTML, a line for each row.

    Args:
        noun: what the rows are, in the plural.
        head: titles of the columns.
        choose: titles of those by whose values the table is narrowed.
    """
    titles = "".join(f"<th{' data-choose' if title in choose else ''}>{escaped(title)}</th>" for title in head)
    lines = [f'<div class="sortable" data-noun="{html.escape(noun)}">', f"<table><thead><tr>{titles}</tr></thead><tbody>"]
    lines += ["<tr>" + "".join(map(_td, row)) + "</tr>" for row in rows]
    return "\n".join([*lines, "</tbody></table>", "</div>"])


def _td(cell: Cell) -> str:
    by = "" if cell.by is None else f' data-by="{html.escape(cell.by)}"'
    return f"<td{by}>{cell.shown}</td>"
