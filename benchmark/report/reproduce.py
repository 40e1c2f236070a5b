"""A paper's tables with what was measured here beside them.

A difference is printed only where it means something: the protocol that repeats the paper, full run, real data, the paper's own images,
every run present. What a paper's numbers mean is on its card (`results/papers.yaml`). How the tables are written: `reproduce_pages`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from benchmark import registry
from benchmark.cards import Job, PaperCard, PaperMethod, PaperTable, PrintedMetric, Record
from benchmark.report import numbers, published
from benchmark.report.admission import admit, awaited
from benchmark.report.rows import ResampledOf, Row, rows_of
from benchmark.statistics.levels import RUNS, Level, two_parts
from benchmark.statistics.two_part import two_part_half_width
from benchmark.statistics.verdict import ReproductionVerdict, reproduction_verdict

Method = tuple[str, str]
"""(method, pre-training): a line of a paper's tables."""


@dataclass(frozen=True)
class Spread:
    """What is known of a published mean: distinct runs known, their standard deviation in points (None when unknown)."""

    deviation: float | None
    n: int
    lower_bound: bool


@dataclass(frozen=True)
class Cell:
    """One published number and what stands beside it, in per cent and percentage points.

    Attributes:
        line: the number with all that its file says of it.
        compared: a measured row may stand beside it.
        margin: of equivalence, in points; None where nothing is compared.
        measured: the row measured here, None where there is none.
        difference: None unless the comparison is fair; `why_not` then says why.
        lower_bound: the interval of the difference leaves out variance nobody published.
    """

    line: published.PrintedValue
    compared: bool
    margin: float | None = None
    measured: Row | None = None
    difference: numbers.Difference | None = None
    verdict: ReproductionVerdict | None = None
    lower_bound: bool = False
    why_not: str = ""

    @property
    def task(self) -> str:
        """Id of the task that measures it again; empty where there is none."""
        return str(self.line["task_id"])

    @property
    def method(self) -> Method:
        return (self.line["method"], self.line["pretraining"])

    @property
    def published(self) -> float:
        """NaN where nothing was printed."""
        return float(self.line["value"])

    @property
    def printed(self) -> str:
        """As the source prints it."""
        return published.printed(self.line)


@dataclass(frozen=True)
class ReproducedTable:
    """A table of the paper with what was measured beside its numbers.

    Attributes:
        cells: of each printed number, in the order of the file; `printed.grid` says where it stands.
    """

    printed: published.PrintedTable
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        return self.printed.title

    @property
    def is_compared(self) -> bool:
        return any(cell.compared for cell in self.cells)

    @property
    def verified(self) -> str:
        n = sum(cell.line["verified"] != "no" for cell in self.cells)
        return f"{n} of {len(self.cells)} numbers were read in the source itself."

    def measured_cells(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.measured is not None]


@dataclass(frozen=True)
class Refusal:
    """Records that must not stand beside published numbers, for one reason.

    Attributes:
        first: one of them, by task, backbone and run.
    """

    reason: str
    n_records: int
    first: str


@dataclass(frozen=True)
class Reproduction:
    """Everything `lobe reproduce` prints.

    Attributes:
        custom: the paper's card is the user's own.
        others: rows measured here for backbones the paper does not list.
        refused: by reason, the most frequent first.
    """

    card: PaperCard
    custom: bool
    tables: tuple[ReproducedTable, ...]
    others: tuple[Row, ...] = ()
    refused: tuple[Refusal, ...] = ()

    @property
    def compares(self) -> bool:
        return any(table.is_compared for table in self.tables)

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(cell.line["source"] for table in self.tables for cell in table.cells))


def reproduce(
    paper: str,
    records: Iterable[Record] = (),
    *,
    planned: Iterable[Job] = (),
    not_believed: Collection[str] = (),
    resampled: ResampledOf | None = None,
    table: str | None = None,
    method: str | None = None,
) -> Reproduction:
    """Published beside measured.

    Args:
        paper: name of a paper's card.
        records: of any kind; those of the paper's tasks that may not stand beside published numbers are counted with the reason.
        planned: jobs that were to run, of any kind; a row that was begun needs all of its own.
        not_believed: keys of stored records that may not be among `records`.
        resampled: record -> its test score in resamples of the patients; None: intervals cover runs only.
        table, method: only tables of that title, only lines of that method (`published.tables`).

    Raises:
        UnknownName: no such paper.
        UsageError: no such table or method.
        CardError: the paper's card and its file of numbers contradict each other.
    """
    card = registry.paper(paper)
    printed = published.tables(card, table, method)
    places = {(line["method"], line["pretraining"], line["task_id"]) for one in printed for line in one.compared}
    tasks = {task for _, _, task in places}
    if table is not None or method is not None:
        records = (record for record in records if record.job.labels.task in tasks)
    records = list(records)
    admitted, refused = admit(records, card, tasks)
    left_out = {*not_believed, *(record.key for record in records)}.difference(record.key for record in admitted)
    rows = rows_of(admitted, planned=awaited(planned, admitted), resampled=resampled, refused=left_out)
    measured: dict[tuple[Method, str], Row] = {}
    others = []
    for row in sorted(rows, key=lambda row: not row.runs):  # what was only planned takes no place from what was run
        line = method_of(row, card.methods)
        if line is None or (line, row.task) in measured or (*line, row.task) not in places:
            others.append(row)
        else:
            measured[line, row.task] = row
    return Reproduction(
        card=card,
        custom=registry.is_custom(card.name, "papers"),
        tables=tuple(ReproducedTable(one, tuple(_cell(line, card, one, measured) for line in one.lines)) for one in printed),
        others=tuple(others) if method is None else (),
        refused=refusals(refused),
    )


def refusals(told: Iterable[tuple[str, str]]) -> tuple[Refusal, ...]:
    """(record, reason) of many by reason, the most frequent first."""
    told = list(told)
    first = {reason: record for record, reason in reversed(told)}
    return tuple(Refusal(reason, n, first[reason]) for reason, n in Counter(reason for _, reason in told).most_common())


def how_to_read(reproduction: Reproduction) -> list[str]:
    """What difference and verdict mean, in sentences; none where nothing can be compared."""
    if not reproduction.compares:
        return []
    margins: dict[float, list[str]] = {}
    for name, metric in reproduction.card.metrics.items():
        margins.setdefault(metric.margin, []).append(name)
    told = ", ".join(f"{margin:g} points {' or '.join(names)}" for margin, names in margins.items())
    return [
        "Difference = measured - published, in percentage points, with its 95 % interval (each part with its own t): the runs of both "
        "sides and, where per-image statistics are stored, how far the measured mean moves with other test patients. The paper tested on "
        "the same patients, so part of that cancels, by how much cannot be known without its predictions: the interval is rather too wide.",
        f"Verdict: equivalent when the whole interval lies within the margin ({told}, fixed beforehand), covers test patients and is no "
        "lower bound; different when it lies wholly outside; undecided otherwise.",
        "The published intervals are those the paper prints. Where the authors released single runs, the difference uses their distinct "
        "values, because released runs repeat exactly. Elsewhere the published spread, and with it the interval of the difference, is a "
        "lower bound (marked ≥).",
    ]


def method_of(row: Row, methods: Sequence[PaperMethod]) -> Method | None:
    """The line of the paper's tables that a row measures, told by architecture and by the name that tables give its weights."""
    _, _, model = row.architecture.partition(":")
    label = _plain(row.backbone)
    names = (label, label.partition("@")[0])
    for line in methods:
        named = any(fnmatchcase(name, _plain(pattern)) for pattern in line.backbones for name in names)
        if model == line.model and (named if line.backbones else row.random):
            return (line.method, line.pretraining)
    return None


def published_spread(paper: str, table: PaperTable, metric: PrintedMetric, line: published.PrintedValue) -> Spread:
    """Standard deviation behind a published mean: of the distinct released runs, else back from the interval or spread that is printed."""
    runs = published.load_runs(paper)
    same = (runs["task_id"] == line["task_id"]) & (runs["method"] == line["method"]) & (runs["pretraining"] == line["pretraining"])
    distinct = sorted(set(100 * runs[same & runs["metric"].isin(metric.reported)]["value"]))
    if distinct:
        return Spread(numbers.standard_deviation(distinct) if len(distinct) > 1 else None, len(distinct), lower_bound=False)
    if table.runs is None:
        return Spread(None, 1, lower_bound=False)
    deviation = line["half_width_95"] * math.sqrt(table.runs) / table.quantile
    deviation = line["spread"] if math.isnan(deviation) else deviation
    return Spread(None if math.isnan(deviation) else deviation, table.runs, lower_bound=True)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _cell(
    line: published.PrintedValue, card: PaperCard, printed: published.PrintedTable, measured: Mapping[tuple[Method, str], Row]
) -> Cell:
    table = printed.card_of(line)
    if table is None or not printed.is_compared(line):
        return Cell(line, compared=False, why_not="listed only" if line["task_id"] else "no task of LOBE")
    metric = card.metrics.get(line["metric"])
    row = measured.get(((line["method"], line["pretraining"]), line["task_id"]))
    cell = Cell(line, compared=True, margin=None if metric is None else metric.margin, measured=row)
    if row is None:
        return replace(cell, why_not="not measured")
    if row.cell is None:
        return replace(cell, why_not=row.missing)
    if metric is None or row.metric not in metric.reported:
        return replace(cell, why_not=f"measured {row.metric}, published {line['metric']}")
    if line["verified"] == "no":
        return replace(cell, why_not="nobody read the published number in its source")
    if math.isnan(line["value"]) or line["unit"] != "percent":
        return replace(cell, why_not="the published number is not in per cent")
    spread = published_spread(card.name, table, metric, line)
    difference = _difference(row, line["value"], spread)
    no_interval = "one run" if len(row.values) < 2 else "the published spread is not known"
    word = reproduction_verdict(
        difference.value,
        difference.half_width,
        metric.margin,
        covers_patients=row.cell.covers_patients,
        lower_bound=spread.lower_bound,
    )
    why_not = "" if difference.half_width is not None else f"no interval: {no_interval}"
    return replace(cell, difference=difference, verdict=word, lower_bound=spread.lower_bound, why_not=why_not)


def _difference(row: Row, value: float, spread: Spread) -> numbers.Difference:
    """Measured minus published, in points: the runs of both sides and the measured side's patients, since the paper's per-image results are
    not known. No interval when a side has no spread."""
    assert row.cell is not None  # an incomplete row is never compared
    difference = 100 * row.cell.value - value
    if row.cell.half_width is None or spread.deviation is None or spread.n < 2:
        return numbers.Difference(difference, None)
    measured = [Level(level.name, 100**2 * level.variance, level.freedom) for level in row.cell.levels]
    published = Level(RUNS, spread.deviation**2 / spread.n, spread.n - 1)
    return numbers.Difference(difference, float(two_part_half_width(*two_parts([*measured, published]))))
