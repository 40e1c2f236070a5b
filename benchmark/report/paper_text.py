"""A reproduction as text for a terminal: sentences wrapped, tables as wide as they are, heads over the columns they belong to.

A pager scrolls to the side, where wrapped lines of a table could not be read. What stands in a table: `paper_sheets`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from benchmark.cards import DISCLAIMER
from benchmark.report.paper_sheets import Line, Sheet, sheets, title, warnings
from benchmark.report.reproduce import Reproduction

if TYPE_CHECKING:
    from rich.text import Text

_GAP = "  "
_WIDEST_HEAD = 14  # letters of a head over one column, where no word is longer
_INDENT = "  "  # of what was measured, below what was published


def to_text(reproduction: Reproduction, width: int) -> Text:
    """All tables but those for pages alone, and what must be known of them.

    Args:
        width: of sentences, in letters.
    """
    from rich.text import Text

    card, text = reproduction.card, Text()

    def tell(sentence: str, style: str = "") -> None:
        text.append(textwrap.fill(sentence, width) + "\n", style)

    tell(title(reproduction), "bold")
    for sentence in (card.citation, *warnings(reproduction)):
        tell(sentence)
    for sheet in sheets(reproduction):
        if not sheet.in_terminal:
            continue
        text.append("\n")
        tell(sheet.heading, "bold" if sheet.lines else "italic")
        for style, line in _table(sheet, card.shortened):
            text.append(line.rstrip() + "\n", style)
        for sentence in sheet.sentences:
            tell(sentence, "dim" if sheet.lines else "")
    left_out = [sheet.heading for sheet in sheets(reproduction) if not sheet.in_terminal]
    if left_out:
        text.append("\n")
        tell(f"Further published tables, in the pages that --out writes and in --json: {', '.join(left_out)}.")
    text.append("\n")
    tell(DISCLAIMER, "dim")
    return text


def _table(sheet: Sheet, shortened: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(style, line) of a table; none where the sheet has sentences alone."""
    if not sheet.lines:
        return
    short = [[_short(text, shortened) for text in (*_heads_of(line), *line.texts)] for line in sheet.lines]
    n_heads = len(sheet.row_heads)
    leaves = [textwrap.wrap(_short(text, shortened), _WIDEST_HEAD, break_long_words=False) or [""] for text, _ in sheet.spans[-1]]
    heads = [[head] for head in sheet.row_heads] + leaves
    widths = [max(map(len, [*head, *(line[i] for line in short)])) for i, head in enumerate(heads)]
    for spans in sheet.spans[:-1]:
        for heading in _spanning([(_short(text, shortened), n) for text, n in spans], widths, n_heads):
            yield "bold", heading
    for depth in range(max(map(len, heads))):
        missing = [depth - (max(map(len, heads)) - len(head)) for head in heads]  # heads stand on the line above the numbers
        yield "bold", _line([head[k] if k >= 0 else "" for head, k in zip(heads, missing, strict=True)], widths, n_heads)
    for line, texts in zip(sheet.lines, short, strict=True):
        yield "" if line.kind == "published" else "dim", _line(texts, widths, n_heads)


def _heads_of(line: Line) -> tuple[str, ...]:
    return line.heads if line.kind == "published" else (f"{_INDENT}{line.heads[0]}", *line.heads[1:])


def _spanning(spans: Sequence[tuple[str, int]], widths: list[int], n_heads: int) -> Iterator[str]:
    """Lines of heads over several columns, each in the middle of them; columns widen only where a word is longer than all of them."""
    first, blocks = n_heads, []
    for text, n in spans:
        longest = max(map(len, text.split()), default=0)
        widths[first] += max(0, longest - _width(widths[first : first + n]))
        blocks.append((text, first, n))
        first += n
    wrapped = [textwrap.wrap(text, _width(widths[start : start + n])) for text, start, n in blocks]
    for depth in range(max(map(len, wrapped), default=0)):
        parts = [" " * _width(widths[:n_heads])]
        for lines, (_, start, n) in zip(wrapped, blocks, strict=True):
            parts.append((lines[depth] if depth < len(lines) else "").center(_width(widths[start : start + n])))
        yield _GAP.join(parts)


def _line(texts: Sequence[str], widths: Sequence[int], n_heads: int) -> str:
    return _GAP.join(text.ljust(w) if i < n_heads else text.rjust(w) for i, (text, w) in enumerate(zip(texts, widths, strict=True)))


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _short(text: str, by: Mapping[str, str]) -> str:
    for long, short in by.items():
        text = text.replace(long, short)
    return text
