"""Numbers printed in papers, as tidy tables with source and verified flag.

The files are `results/published/*.csv`; here they are only loaded and checked. A value stands exactly as it was printed (`printed`), and
`verified` says whether somebody read it in the source named: nothing unverified is ever turned into a target.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

from benchmark import registry
from benchmark.errors import CardError, UnknownName
from benchmark.files import open_regular

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
NUMBERS = ("value", "spread", "half_width_95")

# "yes": read in the source named. "own", "reprint", "as printed there": read in the source, which prints its own result, another
# paper's, or a number of unstated origin. "no": seen only second hand.
VERIFIED = ("yes", "own", "reprint", "as printed there", "no")

_RUNS = "_runs"


def papers() -> list[str]:
    """Names that `load` takes."""
    return sorted(p.stem for p in _folder().glob("*.csv") if not p.stem.endswith(_RUNS))


@cache
def load(paper: str) -> pd.DataFrame:
    """All published numbers of one file, in its order.

    Returns:
        The columns of `COLUMNS` as text, but `value`, `spread` and `half_width_95` as float64 (NaN where nothing was printed), and
        `printed`: the value as the source prints it. `spread` is whatever the source prints behind a ±, usually a standard deviation.

    Raises:
        UnknownName: no such file.
        CardError: a column is missing or unknown, or a cell is not what its column holds; names file and line.
    """
    if paper not in papers():
        raise UnknownName("paper", paper, papers())
    path = _folder() / f"{paper}.csv"
    frame = _text_table(path, COLUMNS)
    unknown = sorted(set(frame["verified"]) - set(VERIFIED))
    if unknown:
        raise CardError(f"{path.name}: verified is {unknown[0]!r}; known are {', '.join(VERIFIED)}.")
    frame["printed"] = frame["value"]
    for column in NUMBERS:
        frame[column] = _numbers(frame[column], path)
    return frame


@cache
def load_runs(paper: str) -> pd.DataFrame:
    """Values of single runs (fractions, `value` float64, `run` from 1), where the paper's authors released them; else an empty table."""
    path = _folder() / f"{paper}{_RUNS}.csv"
    if not path.is_file():
        return pd.DataFrame(columns=list(RUN_COLUMNS))
    frame = _text_table(path, RUN_COLUMNS)
    frame["value"] = _numbers(frame["value"], path)
    frame["run"] = frame["run"].astype(int)
    return frame


def _folder() -> Path:
    return registry.content("results") / "published"


def _text_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    with open_regular(path) as table:
        frame = pd.read_csv(table, dtype=str, keep_default_na=False, encoding="utf-8")
    if tuple(frame.columns) != columns:
        wrong = sorted(set(frame.columns) ^ set(columns)) or list(frame.columns)
        raise CardError(f"{path.name}: columns differ from the schema in {', '.join(wrong)}; expected {', '.join(columns)}.")
    return frame


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    numbers = pd.to_numeric(column.where(column != "", None), errors="coerce").astype("float64")
    bad = column.index[(column != "") & numbers.isna()]
    if len(bad):
        raise CardError(f"{path.name} line {bad[0] + 2}: {column.name} is {column[bad[0]]!r}, which is no number.")
    return numbers
