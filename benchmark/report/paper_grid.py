"""Printed numbers as the table they stood in: lines and columns in the paper's order, heads over groups of columns.

A file of numbers holds a line per number with everything that tells it from others. Which of these facts head the lines is on the paper's
card (`PaperTable.rows`); all others head the columns, as far as they differ. Nothing here knows a paper or what was measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.cards import Fact

FACTS: tuple[Fact, ...] = ("task", "dataset", "setting", "metric", "unit", "label_fraction", "method", "pretraining")
"""What tells numbers apart, the outermost head of columns first."""
NAMES: Mapping[str, str] = {
    "task": "Task",
    "dataset": "Dataset",
    "metric": "Metric",
    "unit": "Unit",
    "setting": "Setting",
    "label_fraction": "Labels",
    "method": "Method",
    "pretraining": "Pre-training",
}
WIDEST = 8  # columns of a table of one line, which then stands upright
PERCENT = "percent"
_NAMED = re.compile(r"\w+(?:=|: )")
_SHARE = re.compile(r"(\d+(?:\.\d+)?) ?%")

Line = Mapping[str, object]


@dataclass(frozen=True)
class Grid:
    """The shape of a table.

    Attributes:
        row_heads: names of the facts that head the lines.
        rows: of each line, these facts.
        levels: from the outermost, of each column, the head; neighbours with the same heads so far stand under one.
        at: (row, column) of each number, in the order they were given.
        shared: what all numbers have in common, by name of the fact.
    """

    row_heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    levels: tuple[tuple[str, ...], ...]
    at: tuple[tuple[int, int], ...]
    shared: Mapping[str, str]

    @property
    def n_columns(self) -> int:
        return len(self.levels[0])

    @property
    def titles(self) -> list[str]:
        """Of each column, its heads in one text."""
        return [" · ".join(dict.fromkeys(filter(None, heads))) for heads in zip(*self.levels, strict=True)]

    @property
    def spans(self) -> list[list[tuple[str, int]]]:
        """Of each level, (head, columns below it)."""
        found: list[list[tuple[str, int]]] = []
        for depth, level in enumerate(self.levels):
            prefixes = list(zip(*self.levels[: depth + 1], strict=True))
            starts = [i for i in range(len(level)) if i == 0 or prefixes[i] != prefixes[i - 1] or depth == len(self.levels) - 1]
            found.append([(level[i], end - i) for i, end in zip(starts, [*starts[1:], len(level)], strict=True)])
        return found


def grid_of(lines: Sequence[Line], rows: Sequence[Fact]) -> Grid:
    """The table of some printed numbers.

    Lines and columns stand as they first appear; columns of a group together, shares of labels rising, also where they head lines. Numbers
    that nothing else tells apart stand under the ids of their tasks.

    Args:
        lines: one or more, each with all of `FACTS` and `task_id`.
        rows: facts that head the lines.
    """
    facts, shared = _told_apart([{name: str(line[name]) for name in (*FACTS, "task_id")} for line in lines])
    varying = [name for name in FACTS if len({one[name] for one in facts}) > 1]
    heading = [name for name in rows if name in varying] or list(rows[:1])
    of_rows = [_pick(one, heading) for one in facts]
    if len(set(of_rows)) > 1:  # what each line has alone heads the line too
        heading += [name for name in varying if name not in heading and _follows([one[name] for one in facts], of_rows)]
    below: list[str] = [name for name in varying if name not in heading]
    if len({_pick(one, [*heading, *below]) for one in facts}) < len(facts):
        below.append("task_id")
    keys = [(_pick(one, heading), _pick(one, below)) for one in facts]
    row_keys, column_keys = list(dict.fromkeys(row for row, _ in keys)), _ordered([column for _, column in keys], below)
    if heading[0] == "label_fraction":
        row_keys = _ordered(row_keys, heading)
    if len(row_keys) == 1 and len(column_keys) > WIDEST:
        return grid_of(lines, [name for name in varying if name not in heading])
    n_row, n_column = ({key: i for i, key in enumerate(found)} for found in (row_keys, column_keys))
    return Grid(
        tuple(NAMES[name] for name in heading),
        tuple(row_keys),
        _levels(column_keys, below) or ((shared.get("metric") or "Value",),),
        tuple((n_row[row], n_column[column]) for row, column in keys),
        {NAMES[name]: text for name, text in shared.items() if text and name not in heading},
    )


def _told_apart(facts: list[dict[str, str]]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Facts, and what all of them share. A setting says several things, separated by semicolons: what is shared of it goes out of it."""
    shared: dict[str, str] = {name: facts[0][name] for name in FACTS if len({one[name] for one in facts}) == 1}
    if "setting" in shared:
        return facts, shared
    parts = [one["setting"].split("; ") for one in facts]
    common = [part for part in parts[0] if all(part in other for other in parts)]
    own = ["; ".join(part for part in each if part not in common) for each in parts]
    named = {text[: match.end()] if (match := _NAMED.match(text)) else "" for text in own}  # `class=Edema`, `recipe: plain`
    own = [text.removeprefix(name) for name in named for text in own] if len(named) == 1 else own
    return [one | {"setting": text} for one, text in zip(facts, own, strict=True)], shared | {"setting": "; ".join(common)}


def _pick(one: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(one[name] for name in names)


def _ordered(keys: Sequence[tuple[str, ...]], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Distinct keys, grouped by their first fact, then by the second; each as it first appears, shares of labels rising."""
    first: dict[tuple[str, ...], int] = {}
    for key in keys:
        for depth in range(1, len(key) + 1):
            first.setdefault(key[:depth], len(first))

    def place(key: tuple[str, ...]) -> list[tuple[float, int]]:
        shares = [_SHARE.match(text) if name == "label_fraction" else None for name, text in zip(names, key, strict=True)]
        return [(float(share[1]) if share else 0.0, first[key[: depth + 1]]) for depth, share in enumerate(shares)]

    return sorted(dict.fromkeys(keys), key=place)


def _levels(columns: Sequence[tuple[str, ...]], names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Heads of columns. A fact that follows from those above it needs no level: it stands with the first of them that it follows from."""
    raw: list[list[tuple[str, ...]]] = []  # of each level, of each column, the facts so far
    shown: list[list[list[str]]] = []  # of each level, of each column, its head and what stands with it
    for i, name in enumerate(names):
        values = [column[i] for column in columns]
        known = next((depth for depth, above in enumerate(raw) if _follows(values, above)), None)
        if known is None:
            raw.append([(*above, value) for above, value in zip(raw[-1] if raw else [()] * len(values), values, strict=True)])
            shown.append([[value] for value in values])
            continue
        for heads, value in zip(shown[known], values, strict=True):
            if value and not (name == "unit" and value == PERCENT) and value.lower() not in " ".join(heads).lower():
                heads.append(value)
    return tuple(tuple(_head(*heads) for heads in level) for level in shown)


def _head(first: str, *more: str) -> str:
    return f"{first} ({', '.join(more)})" if more else first


def _follows(values: Sequence[str], above: Sequence[tuple[str, ...]]) -> bool:
    return len(set(zip(above, values, strict=True))) == len(set(above))
