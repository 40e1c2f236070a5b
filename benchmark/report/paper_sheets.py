"""A reproduction as tables of texts, the same for every format: the paper's lines and columns, what was measured below each line, notes.

A number is printed as its source prints it. Below a line that was measured again stand the measured numbers and their differences, each
with its interval and verdict, and below all lines the margins that were fixed beforehand. What may be compared is decided in `reproduce`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.report import numbers
from benchmark.report.reproduce import Cell, ReproducedTable, Reproduction
from benchmark.report.row_warnings import CUSTOM

UNREAD = "†"  # nobody could read the number in its source
ORIGINS = "‡§¶‖"  # numbers that follow other procedures than most of their table
MEASURED, DIFFERENCE, MARGIN = "measured here", "difference", "margin of equivalence"
MOST_REFUSALS = 12

Kind = Literal["published", "measured", "difference", "margin"]  # the last three stand below what they belong to


@dataclass(frozen=True)
class Line:
    """A line of a table: what heads it, and a text per column."""

    kind: Kind
    heads: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """A table under its heading, or sentences alone.

    Attributes:
        sentences: between heading and table.
        row_heads: names of what heads the lines.
        spans: of each level of heads, from the outermost: (text, columns below it).
        titles: of each column, its heads in one text.
        notes: below the table.
        folded: long and not compared: a page shows it on demand.
        in_terminal: whether the terminal shows it.
    """

    heading: str
    sentences: tuple[str, ...] = ()
    row_heads: tuple[str, ...] = ()
    spans: tuple[tuple[tuple[str, int], ...], ...] = ()
    titles: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()
    folded: bool = False
    in_terminal: bool = True

    @property
    def heads(self) -> tuple[str, ...]:
        return (*self.row_heads, *self.titles)


def title(reproduction: Reproduction) -> str:
    return f"{reproduction.card.title}: {'published and measured' if reproduction.compares else 'published numbers'}"


def warnings(reproduction: Reproduction) -> list[str]:
    """What must be known before any number: whose card it is, and what nobody knows of the paper."""
    return [*([CUSTOM.format("paper")] if reproduction.custom else []), *reproduction.card.unknown]


def sheets(reproduction: Reproduction) -> Iterator[Sheet]:
    """The page from top to bottom: tables that are compared first, then what was measured beside them, then the others."""
    for table in reproduction.tables:
        if table.is_compared:
            yield _sheet(table)
    if reproduction.others:
        heads, columns = ("Task", "Backbone", "Metric"), ("Measured",)
        lines = tuple(Line("published", (row.task, row.label, row.metric_title), (row.text,)) for row in reproduction.others)
        yield Sheet("Measured here, not in the paper", (), heads, ((("Measured", 1),),), columns, lines)
    if reproduction.refused:
        yield Sheet("Records not compared", tuple(_refused(reproduction)))
    for table in reproduction.tables:
        if not table.is_compared:
            yield _sheet(table)


def published_text(cell: Cell | None, origins: Sequence[str] = ()) -> str:
    """As the paper prints it, with a dagger where nobody read it in the source and the mark of another origin than the table's own."""
    if cell is None:
        return numbers.DASH
    mark = UNREAD if cell.line["verified"] == "no" and cell.line["printed"] else ""
    return cell.printed + mark + _mark_of(cell.line["origin_protocol"], origins)


def difference_text(cell: Cell | None) -> str:
    """`+0.4 ± 1.1 (equivalent)`, or a dash."""
    if cell is None or cell.difference is None:
        return numbers.DASH
    half = cell.difference.half_width
    text = numbers.signed_points(cell.difference.value, half)
    if half is not None and cell.lower_bound:
        text = text.replace("± ", "± ≥")
    return f"{text} ({cell.verdict})"


def cells_of(table: ReproducedTable) -> dict[tuple[int, int], Cell]:
    """(row, column) -> its number."""
    return dict(zip(table.printed.grid.at, table.cells, strict=True))


def _sheet(table: ReproducedTable) -> Sheet:
    grid = table.printed.grid
    return Sheet(
        table.title or "Outside of tables",
        tuple(_sentences(table)),
        grid.row_heads,
        tuple(map(tuple, grid.spans)),
        tuple(grid.titles),
        tuple(_lines(table)),
        tuple(_notes(table)),
        folded=not table.is_compared,
        in_terminal=not table.printed.pages_only,
    )


def _lines(table: ReproducedTable) -> Iterator[Line]:
    grid, at, origins = table.printed.grid, cells_of(table), table.printed.origins
    columns = range(grid.n_columns)
    for i, heads in enumerate(grid.rows):
        cells = [at.get((i, j)) for j in columns]
        yield Line("published", heads, tuple(published_text(cell, origins) for cell in cells))
        if any(cell is not None and cell.measured is not None for cell in cells):
            blank = ("",) * (len(heads) - 1)
            yield Line("measured", (MEASURED, *blank), tuple(map(_measured_text, cells)))
            yield Line("difference", (DIFFERENCE, *blank), tuple(map(difference_text, cells)))
    if table.measured_cells():
        margins = [next((c.margin for (_, k), c in at.items() if k == j and c.measured is not None), None) for j in columns]
        texts = tuple(numbers.DASH if margin is None else f"± {margin:g}" for margin in margins)
        yield Line("margin", (MARGIN, *("",) * (len(grid.row_heads) - 1)), texts)


def _measured_text(cell: Cell | None) -> str:
    if cell is None or cell.measured is None:
        return numbers.DASH
    row = cell.measured
    return row.text if row.mean is not None else f"{numbers.DASH} ({row.n_ok} of {row.n_expected} runs)"


def _sentences(table: ReproducedTable) -> Iterator[str]:
    meanings = dict.fromkeys(card.meaning for card in table.printed.cards.values() if card.origin == table.printed.origins[0])
    units = {cell.line["unit"] for cell in table.cells}
    unit = "in per cent" if units == {"percent"} else "in per cent where nothing else is said" if "percent" in units else ""
    told = ", ".join(filter(None, ("Published", unit, *meanings)))
    shared = "; ".join(f"{name.lower()}: {text}" for name, text in table.printed.grid.shared.items() if name != "Unit" or text != "percent")
    yield f"{told}. {shared[:1].upper()}{shared[1:]}." if shared else f"{told}."
    unread = f" {UNREAD} marks a number nobody could read in its source." if any(c.line["verified"] == "no" for c in table.cells) else ""
    yield f"{table.verified}{unread}"
    origins = table.printed.origins
    if origins[0]:
        yield f"Protocol of origin: {origins[0]}."
    for origin in origins[1:]:
        card = table.printed.cards.get(origin)
        n = sum(cell.line["origin_protocol"] == origin for cell in table.cells)
        meaning = f": {card.meaning}" if card is not None else ""
        yield f"{_mark_of(origin, origins)} {n} numbers follow another protocol than the rest: {origin or 'their own'}{meaning}."
    if table.is_compared and not table.measured_cells():
        yield "Nothing measured for this table yet."


def _notes(table: ReproducedTable) -> Iterator[str]:
    """Of what was measured, and what the file says of single numbers."""
    yield from _grouped((cell.why_not, _place(cell)) for cell in table.measured_cells() if cell.why_not)
    yield from _grouped((warning, _place(cell)) for cell in table.measured_cells() if cell.measured for warning in cell.measured.warnings)
    said: dict[str, int] = {}
    for cell in table.cells:
        if cell.line["note"]:
            said[cell.line["note"]] = said.get(cell.line["note"], 0) + 1
    yield from (f"{note} ({n} of {len(table.cells)} numbers)." for note, n in said.items())


def _grouped(told: Iterable[tuple[str, str]]) -> Iterator[str]:
    places: dict[str, list[str]] = {}
    for text, place in told:
        places.setdefault(text, []).append(place)
    yield from (f"{text.rstrip('.')} ({'; '.join(where)})." for text, where in places.items())


def _place(cell: Cell) -> str:
    return ", ".join(filter(None, (cell.task, " ".join(filter(None, cell.method)))))


def _mark_of(origin: str, origins: Sequence[str]) -> str:
    others = list(origins[1:])
    return ORIGINS[others.index(origin) % len(ORIGINS)] if origin in others else ""


def _refused(reproduction: Reproduction) -> Iterator[str]:
    for one in reproduction.refused[:MOST_REFUSALS]:
        counted = "1 record" if one.n_records == 1 else f"{one.n_records:,} records"
        yield f"{counted}: {one.reason} ({'' if one.n_records == 1 else 'the first: '}{one.first})."
    left = reproduction.refused[MOST_REFUSALS:]
    if left:
        yield f"{sum(one.n_records for one in left):,} more, for {len(left)} further reasons; --json names them."
