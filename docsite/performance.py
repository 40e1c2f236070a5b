"""What `lobe bench` measured: rows of docs/data/performance*.csv, how each reads, and the table that the site makes of them.

Written by tests/perf/page.py; the page docs/performance.md and the site's table are made of these rows alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from docsite import data_rows
from docsite.sortable import Cell, escaped, table

DATA = data_rows.DATA
ROWS, DETAILS, RUNS = "performance.csv", "performance-details.csv", "performance-runs.csv"  # files of a folder of data
COLUMNS = ("what", "plain", "fast", "ratio (spread)", "target", "verdict", "same numbers")


@dataclass(frozen=True)
class Measured:
    """One measurement, all as text.

    Attributes:
        bench: which measured it.
        what: the two sides, in words; no other row of the bench has the same.
        plain_s, fast_s: median seconds of each side.
        ratio: median over neighbouring pairs: plain / fast, or fast / plain where the goal is `near`.
        ratio_low, ratio_high: smallest and largest pair; empty where there is one pair.
        goal: `faster` wants a ratio of at least `target`, `near` of at most `target`.
        target: empty where the ratio is for information.
        reached: yes or no; empty without a target.
        same_numbers: yes where both sides gave the same numbers.
        largest_difference: of these numbers; empty where they cannot be compared.
        tolerance: of that difference; empty where it was not noted.
        commit: with `-dirty` where something had changed on top of it.
        date: year-month-day.
    """

    bench: str
    what: str
    plain_s: str
    fast_s: str
    ratio: str
    ratio_low: str
    ratio_high: str
    goal: str
    target: str
    reached: str
    same_numbers: str
    largest_difference: str
    tolerance: str
    commit: str
    date: str


@dataclass(frozen=True)
class Detail:
    """A further value of one measurement: where its time goes, or what was counted."""

    bench: str
    what: str
    name: str
    value: str


@dataclass(frozen=True)
class About:
    """What a whole bench measured on.

    Attributes:
        part: run (its sides, seconds and end), size or machine.
    """

    bench: str
    part: str
    name: str
    value: str


@dataclass(frozen=True)
class Data:
    """Everything measured: rows in the order of their benches, and inside a bench in its own."""

    rows: tuple[Measured, ...] = ()
    details: tuple[Detail, ...] = ()
    runs: tuple[About, ...] = ()

    def benches(self) -> list[str]:
        """Those that were measured, in their order."""
        return list(dict.fromkeys(one.bench for one in self.runs))

    def of(self, bench: str) -> Data:
        """What one bench gave."""
        return Data(*(tuple(one for one in part if one.bench == bench) for part in (self.rows, self.details, self.runs)))

    def about(self, part: str) -> dict[str, str]:
        """Name -> value of a part of `About`; of one bench, as `of` gives it."""
        return {one.name: one.value for one in self.runs if one.part == part}

    def detail(self, row: Measured) -> dict[str, str]:
        """Name -> value of what stands beside a measurement."""
        return {one.name: one.value for one in self.details if (one.bench, one.what) == (row.bench, row.what)}


def read(folder: Path = DATA) -> Data:
    """Everything measured; nothing where there are no files.

    Raises:
        ValueError: a file holds other rows.
    """
    made_by = "lobe bench all --page docs/performance.md"
    rows = data_rows.read(Measured, folder / ROWS, made_by)
    details = data_rows.read(Detail, folder / DETAILS, made_by)
    return Data(tuple(rows), tuple(details), tuple(data_rows.read(About, folder / RUNS, made_by)))


def write(data: Data, folder: Path) -> None:
    """Writes the three files."""
    data_rows.write(Measured, data.rows, folder / ROWS)
    data_rows.write(Detail, data.details, folder / DETAILS)
    data_rows.write(About, data.runs, folder / RUNS)


def cells(row: Measured) -> tuple[str, ...]:
    """A row under `COLUMNS`, as a reader sees it; a dash where there is no target."""
    spread = f" ({float(row.ratio_low):.3g} to {float(row.ratio_high):.3g})" if row.ratio_low else ""
    target = f"{'≥' if row.goal == 'faster' else '≤'} {float(row.target):g}" if row.target else "–"
    verdict = {"yes": "reached", "no": "not reached"}.get(row.reached, "–")
    return row.what, _seconds(row.plain_s), _seconds(row.fast_s), f"{float(row.ratio):.3g}{spread}", target, verdict, _sameness(row)


def view() -> str:
    """Every measurement in a table of HTML, and what each bench measured on."""
    data = read()
    shown = table("measurements", ("bench", *COLUMNS, "where the time goes"), _lines(data), choose=("bench", "verdict"))
    return "\n".join([shown, *(_run(bench, data.of(bench)) for bench in data.benches())])


def _lines(data: Data) -> Iterable[Sequence[Cell]]:
    for row in data.rows:
        what, plain, fast, ratio, target, verdict, same = map(escaped, cells(row))
        yield (
            Cell(f"<code>{escaped(row.bench)}</code>"),
            Cell(what),
            Cell(plain, row.plain_s),
            Cell(fast, row.fast_s),
            Cell(ratio, row.ratio),
            Cell(target, row.target),
            Cell(verdict),
            Cell(same, row.largest_difference),
            Cell(_folded(data.detail(row))),
        )


def _folded(details: dict[str, str]) -> str:
    if not details:
        return "–"
    n = "1 value" if len(details) == 1 else f"{len(details)} values"
    return f"<details><summary>{n}</summary>{_list(details)}</details>"


def _run(bench: str, data: Data) -> str:
    """What one bench measured on, folded."""
    run, title = data.about("run"), f"<code>{escaped(bench)}</code>"
    shown = {**run, **{f"size: {name}": value for name, value in data.about("size").items()}, **data.about("machine")}
    return f"<details><summary>{title}: its two sides, sizes and machine</summary>{_list(shown)}</details>"


def _list(values: dict[str, str]) -> str:
    return "<ul>" + "".join(f"<li>{escaped(name)}: {escaped(value)}</li>" for name, value in values.items()) + "</ul>"


def _sameness(row: Measured) -> str:
    if not row.largest_difference:
        return "no: a side failed or chose another epoch"
    difference = float(row.largest_difference)
    if row.same_numbers == "yes":
        return f"yes (largest difference {difference:.1g})"
    return f"no: {difference:.3g} > {float(row.tolerance):g}"


def _seconds(text: str) -> str:
    value = float(text)
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:,.3g} s" if value < 1000 else f"{value / 3600:,.1f} h"
