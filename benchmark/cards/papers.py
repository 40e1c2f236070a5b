"""Papers: which of their printed tables LOBE measures again, by which backbones, and within which margin two results count as the same."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from benchmark.cards.base import Card

Fact = Literal["task", "dataset", "setting", "metric", "unit", "label_fraction", "method", "pretraining"]
"""What tells one printed number from another: columns of a paper's file of numbers."""


class PrintedMetric(Card):
    """A metric under the name that a paper prints.

    Attributes:
        reported: test metrics of records that are the same number.
        margin: margin of equivalence in percentage points, fixed before anything is measured.
    """

    reported: tuple[str, ...]
    margin: float = Field(gt=0)


class PaperMethod(Card):
    """A line of a paper's tables, and the backbones that measure it again.

    Attributes:
        method, pretraining: the columns of these names in the paper's file of numbers.
        model: architecture of the backbones.
        backbones: shell patterns of the names that tables give them, with or without what follows an `@`. Letter case does not matter, and
            underscores count as hyphens. Empty: the untrained network.
    """

    method: str
    pretraining: str = ""
    model: str
    backbones: tuple[str, ...] = ()


class PaperTable(Card):
    """A table in the paper's file of numbers: the lines that share `table` and `origin_protocol`.

    Attributes:
        title, origin: the values of these two columns.
        meaning: what a number of the table is, to be read after "Published, in per cent,".
        rows: facts that head the lines of the printed table; all others head its columns.
        compared: beside lines that name a task stand measured rows.
        runs: number of runs behind each printed mean; None: unknown, and no difference has an interval.
        quantile: the printed half width of an interval is `quantile * s / sqrt(runs)`. A printed spread is s itself.
        pages_only: the table stands on the written pages and in JSON, but not in the terminal.
    """

    title: str
    origin: str = ""
    meaning: str
    rows: tuple[Fact, ...] = ("method", "pretraining")
    compared: bool = False
    runs: int | None = Field(default=None, ge=2)
    quantile: float = Field(default=1.96, gt=0)
    pages_only: bool = False


class PaperCard(Card):
    """A paper. Its numbers stand in `published/<name>.csv` beside the card's file; tables that are not named here have methods as lines.

    Attributes:
        suite: suite of the paper's tasks. Records of these tasks are named on the paper's page even where no number can stand beside them.
        protocol: protocol that repeats what the paper did; records of any other are not compared.
        unknown: what is not known of the paper, as sentences.
        metrics: name as printed -> what it measures.
        shortened: text in compared tables -> what the terminal, too narrow for it, shows instead.
    """

    name: str
    title: str
    citation: str
    suite: str | None = None
    protocol: str = "published"
    unknown: tuple[str, ...] = ()
    metrics: dict[str, PrintedMetric] = {}
    methods: tuple[PaperMethod, ...] = ()
    tables: tuple[PaperTable, ...] = ()
    shortened: dict[str, str] = {}
