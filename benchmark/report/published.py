"""Numbers printed in papers, with source and verified flag, cut into the tables that the paper's card names.

The files are `published/<paper>.csv` beside the card; here they are loaded and checked against the card. A value stands exactly as it was
printed (`printed`), and `verified` says whether somebody read it in the source named: nothing unverified is ever turned into a target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark import registry
from benchmark.cards import Fact, PaperCard, PaperTable
from benchmark.errors import CardError, UsageError
from benchmark.files import open_regular
from benchmark.report import numbers
from benchmark.report.paper_grid import Grid, grid_of

COLUMNS = (
    "paper",
    "table",
    "task_id",
    "task",
    "dataset",
    "setting",
    "label_fraction",
    "method",
    "pretraining",
    "metric",
    "value",
    "spread",
    "half_width_95",
    "unit",
    "source",
    "verified",
    "origin_protocol",
    "note",
)
RUN_COLUMNS = ("paper", "task_id", "method", "pretraining", "metric", "run", "value", "unit", "source")
DEFAULT_ROWS: tuple[Fact, ...] = ("method", "pretraining")
NUMBERS = ("value", "spread", "half_width_95")

# "yes": read in the source named. "own", "reprint", "as printed there": read in the source, which prints its own result, another
# paper's, or a number of unstated origin. "no": seen only second hand.
VERIFIED = ("yes", "own", "reprint", "as printed there", "no")

PrintedValue = dict[str, Any]
"""One published number: the columns of `load`."""


@dataclass(frozen=True)
class PrintedTable:
    """A table as its source prints it, or what a source says outside of tables.

    Attributes:
        cards: what the paper's card says of its numbers, by their origin; empty where it does not name the table.
        grid: where each number stands.
    """

    title: str
    lines: tuple[PrintedValue, ...]
    cards: Mapping[str, PaperTable]
    grid: Grid

    def card_of(self, line: PrintedValue) -> PaperTable | None:
        return self.cards.get(line["origin_protocol"])

    def is_compared(self, line: PrintedValue) -> bool:
        """Whether a measured row may stand beside it: LOBE has a task for it, and the card says so."""
        card = self.card_of(line)
        return card is not None and card.compared and bool(line["task_id"])

    @property
    def compared(self) -> tuple[PrintedValue, ...]:
        return tuple(line for line in self.lines if self.is_compared(line))

    @property
    def origins(self) -> list[str]:
        """Whose procedures the numbers follow, the most frequent first; empty is the source's own."""
        return [origin for origin, _ in Counter(line["origin_protocol"] for line in self.lines).most_common()]

    @property
    def pages_only(self) -> bool:
        return any(card.pages_only for card in self.cards.values())


def load(paper: str) -> pd.DataFrame:
    """All published numbers of a paper, in the file's order.

    Returns:
        The columns of `COLUMNS` as text, but `value`, `spread` and `half_width_95` as float64 (NaN where nothing was printed), and
        `printed`: the value as the source prints it, `printed_spread`: what stands behind the ±. `spread` is usually a standard deviation.

    Raises:
        UnknownName: no such paper.
        CardError: the file is missing, a column is missing or unknown, or a cell is not what its column holds; names file and line.
    """
    path = file_of(registry.paper(paper))
    if not path.is_file():
        raise CardError(f"Paper {paper}: {path} is missing. It holds the paper's numbers, in the columns {', '.join(COLUMNS)}.")
    return _loaded(path)


def load_runs(paper: str) -> pd.DataFrame:
    """Values of single runs (fractions, `value` float64, `run` from 1), where the paper's authors released them; else an empty table."""
    path = file_of(registry.paper(paper))
    path = path.with_name(f"{path.stem}_runs.csv")
    return _loaded_runs(path) if path.is_file() else pd.DataFrame(columns=list(RUN_COLUMNS))


def tables(card: PaperCard, wanted: str | None = None, methods: str | None = None) -> list[PrintedTable]:
    """Every published number of the paper once, in the tables that it was printed in, in the order of the file.

    Args:
        wanted: only tables of this title, or of one that holds it; `*` and `?` as in a shell.
        methods: only lines of such a method.

    Raises:
        CardError: card and file contradict each other; names the file and what is wrong.
        UsageError: no such table or method.
    """
    named: dict[str, dict[str, PaperTable]] = {}
    for table in card.tables:
        named.setdefault(table.title, {})[table.origin] = table
    groups: dict[tuple[str, str], list[PrintedValue]] = {}
    numbers_of_paper = load(card.name)
    one_source = numbers_of_paper["source"].nunique() == 1
    for line in numbers_of_paper.to_dict("records"):
        source = "" if one_source or line["table"] in named else line["source"]
        groups.setdefault((source, line["table"]), []).append(line)
    _require_agreement(card, [(named.get(title, {}), lines) for (_, title), lines in groups.items()])
    titles = {key: ", ".join(filter(None, key)) for key in groups}
    chosen = [key for key in groups if wanted is None or _fits(titles[key], wanted)]
    if not chosen:
        raise UsageError(f"No table of {card.name} is called {wanted!r}. There are: {'; '.join(titles.values())}.")
    kept = {key: [line for line in groups[key] if methods is None or _fits(line["method"], methods)] for key in chosen}
    if not any(kept.values()):
        known = dict.fromkeys(line["method"] for key in chosen for line in groups[key])
        raise UsageError(f"No line is of the method {methods!r}. There are: {', '.join(known)}.")
    return [_table(titles[key], lines, named.get(key[1], {})) for key, lines in kept.items() if lines]


def printed(line: PrintedValue) -> str:
    """A number as its source prints it, `16.4 ± 1.3`; a dash where it prints none."""
    return (line["printed"] or numbers.DASH) + (f" ± {line['printed_spread']}" if line["printed_spread"] else "")


def file_of(card: PaperCard) -> Path:
    """The paper's file of numbers."""
    origin = registry.file_of(card.name, "papers")
    assert origin is not None  # a card that was read stands in a file
    return origin.parent / "published" / f"{card.name}.csv"


@cache
def _loaded(path: Path) -> pd.DataFrame:
    frame = _text_table(path, COLUMNS)
    unknown = sorted(set(frame["verified"]) - set(VERIFIED))
    if unknown:
        raise CardError(f"{path.name}: verified is {unknown[0]!r}; known are {', '.join(VERIFIED)}.")
    frame["printed"] = frame["value"]
    frame["printed_spread"] = frame["half_width_95"].where(frame["spread"] == "", frame["spread"])
    for column in NUMBERS:
        frame[column] = _numbers(frame[column], path)
    return frame


@cache
def _loaded_runs(path: Path) -> pd.DataFrame:
    frame = _text_table(path, RUN_COLUMNS)
    frame["value"] = _numbers(frame["value"], path)
    frame["run"] = frame["run"].astype(int)
    return frame


def _table(title: str, lines: list[PrintedValue], cards: Mapping[str, PaperTable]) -> PrintedTable:
    rows = next((card.rows for card in cards.values()), DEFAULT_ROWS)
    return PrintedTable(title, tuple(lines), cards, grid_of(lines, rows))


def _fits(text: str, pattern: str) -> bool:
    text, pattern = text.lower(), pattern.lower()
    return fnmatchcase(text, f"*{pattern}*")


def _require_agreement(card: PaperCard, groups: list[tuple[Mapping[str, PaperTable], list[PrintedValue]]]) -> None:
    """A misspelt title, method, metric or task on a card would silently take numbers out of the comparison."""
    there = {(line["table"], line["origin_protocol"]) for _, lines in groups for line in lines}
    faults = [f"no line is of the table {t.title!r}, origin {t.origin!r}." for t in card.tables if (t.title, t.origin) not in there]
    compared = [
        [line for line in lines if line["task_id"] and (one := cards.get(line["origin_protocol"])) is not None and one.compared]
        for cards, lines in groups
    ]
    lines = [line for each in compared for line in each]
    printed = {(line["method"], line["pretraining"]) for line in lines}
    methods = [(method.method, method.pretraining) for method in card.methods]
    faults += [f"no compared line is of method {m!r}, pre-training {p!r}." for m, p in methods if (m, p) not in printed]
    faults += [f"no compared line has the metric {name!r}." for name in card.metrics if name not in {line["metric"] for line in lines}]
    for name, metric in card.metrics.items():
        reports = {
            registry.tasks()[line["task_id"]].report for line in lines if line["metric"] == name and line["task_id"] in registry.tasks()
        }
        if reports and reports.isdisjoint(metric.reported):
            faults.append(f"{name!r} is {' or '.join(metric.reported)}, but its tasks report {', '.join(sorted(reports))}.")
    unknown = dict.fromkeys(line["task_id"] for line in lines if line["task_id"] not in registry.tasks())
    faults += [f"task_id is {name!r}, and there is no such task." for name in unknown]
    for each in compared:
        cells = Counter((line["method"], line["pretraining"], line["task_id"], line["metric"]) for line in each)
        faults += [f"{', '.join(filter(None, cell))} stands {n} times in {each[0]['table']!r}." for cell, n in cells.items() if n > 1]
    if faults:
        told = f"Paper {card.name}: its card and {file_of(card).name} contradict each other:"
        raise CardError("\n".join([told, *(f"  - {fault}" for fault in faults)]))


def _text_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    with open_regular(path) as table:
        frame = pd.read_csv(table, dtype=str, keep_default_na=False, encoding="utf-8")
    if tuple(frame.columns) != columns:
        wrong = sorted(set(frame.columns) ^ set(columns)) or list(frame.columns)
        raise CardError(f"{path.name}: columns differ from the schema in {', '.join(wrong)}; expected {', '.join(columns)}.")
    return frame


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    parsed = pd.to_numeric(column.where(column != "", None), errors="coerce").astype("float64")
    bad = column.index[(column != "") & parsed.isna()]
    if len(bad):
        raise CardError(f"{path.name} line {bad[0] + 2}: {column.name} is {column[bad[0]]!r}, which is no number.")
    return parsed
