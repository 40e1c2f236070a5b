"""A paper's tables with what was measured here beside them.

A difference is printed only where it means something: same released procedure (`published`), full run, real data, the published test split,
every run present. The margin of equivalence was fixed beforehand. How the tables are written: `reproduce_pages`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from benchmark import registry
from benchmark.cards import Record, Role
from benchmark.metrics.uncertainty import half_width
from benchmark.readers.lists import NAME as LISTS
from benchmark.report import numbers, published
from benchmark.report.rows import ResampledOf, Row, rows_of, variance_components

# Percentage points within which two results count as the same, fixed before anything was measured (docs/reading-the-leaderboard.md).
MARGINS = {"mAP": 2.0, "fROC": 2.0, "Dice": 1.5, "Avg Dice": 1.5}

# What LoVT's tables call each metric a task reports. The mean over one target, on Object-CXR, is printed as plain Dice.
PRINTED_AS = {
    "mAP": ("mAP",),
    "froc": ("fROC",),
    "opacity_dice": ("Dice",),
    "pneumothorax_dice": ("Dice",),
    "avg_dice": ("Dice", "Avg Dice"),
}

ORIGIN = "lovt"
MAIN_TABLES = ("Main results, tasks 1-9", "Main results, tasks 10-18")

Verdict = Literal["equivalent", "different", "undecided"]
Method = tuple[str, str]

_PRETRAINING = {"30": "30% of frontal MIMIC-CXR", "100": "100% of frontal MIMIC-CXR"}
_FROM_MIMIC = ("CheXpert", "BYOL", "SimCLR", "PixelPro", "ConVIRT", "CLIP*", "LoVT")

TITLES = {
    "lovt": "LoVT (Müller et al., ECCV 2022)",
    "gloria": "GLoRIA (Huang et al., ICCV 2021)",
    "prior": "PRIOR (Cheng et al., ICCV 2023)",
    "g2d": "G2D (Liu et al., NeurIPS 2024)",
    "lrclr": "LRCLR (arXiv 2303.14153)",
    "mgca": "MGCA's protocol, as reprinted by G2D",
    "benchx": "BenchX (Zhou et al., NeurIPS 2024)",
    "cxr_other": "Other chest X-ray results",
}

UNKNOWN = {
    "prior": (
        "Of PRIOR (ICCV 2023) only the model, its released weights' layout and the released zero-shot procedure are known.",
        "None of the paper's own tables could be read, and its supervised downstream code was never released: head, splits, learning rates "
        "and the definition of its detection AP are unknown. LOBE therefore reproduces none of its supervised numbers.",
        "The values below come from other papers that list PRIOR, or from an aggregator; each carries its source, and `verified` refers to "
        "that source. They are no targets.",
    ),
    "gloria": (
        "GLoRIA's text was not readable, its own 5x200 list and reports were never released, and no prompts for RSNA. Its linear probes, "
        "zero-shot rule and U-Net run here on LOBE's padded frame (suite gloria), so no measured number stands beside a published one.",
    ),
    "mgca": (
        "MGCA's linear probes, U-Net and YOLOv3 run here with its splits and optimiser, but on LOBE's padded frame, without its crops and "
        "with a frozen encoder in evaluation mode (suite mgca), so no measured number stands beside a published one.",
    ),
    "g2d": (
        "G2D does not state which RSNA split, threshold or normalisation its zero-shot scores used, nor what its grounding recall means. "
        "Its linear probes, U-Net, YOLOv3 and zero-shot prompts run here (suite g2d); no measured number stands beside a published one.",
    ),
    "lrclr": (
        "Of LRCLR (arXiv 2303.14153) only name and abstract are known: no code, no weights, no readable table, no number.",
        "`local_region_clip` in LOBE is our own reconstruction of the idea in the abstract. It is never listed or ranked as LRCLR.",
    ),
}

HOW_TO_READ = (
    "Difference = measured - published, in percentage points, with its 95 % interval (Satterthwaite's t). It covers the runs of both sides "
    "and, where per-image statistics are stored, how far the measured mean moves with other test patients. The paper tested on the same "
    "patients, so part of that cancels, by how much cannot be known without its predictions: the interval is rather too wide.",
    "Verdict: equivalent when the whole interval lies within the margin (2 points mAP or FROC, 1.5 points Dice, fixed beforehand), "
    "different when it lies wholly outside, undecided otherwise.",
    "The published intervals are those the paper prints. Where the authors released single runs, the difference uses their distinct "
    "values, because released runs repeat exactly. Elsewhere the published spread, and with it the interval of the difference, is a "
    "lower bound (marked ≥).",
)


@dataclass(frozen=True)
class Spread:
    """What is known of a published mean: points, distinct runs known, their standard deviation (None when unknown)."""

    deviation: float | None
    n: int
    lower_bound: bool


@dataclass(frozen=True)
class Cell:
    """One published number and what stands beside it, in per cent and percentage points.

    Attributes:
        published, published_half_width: as printed.
        measured: the row measured here, None where there is none.
        difference: None unless the comparison is fair; `why_not` then says why.
        lower_bound: the interval of the difference leaves out variance nobody published.
    """

    task: str
    metric: str
    method: str
    pretraining: str
    published: float
    published_half_width: float
    verified: str
    source: str
    measured: Row | None = None
    difference: numbers.Difference | None = None
    verdict: Verdict | None = None
    lower_bound: bool = False
    why_not: str = ""


@dataclass(frozen=True)
class PaperTable:
    """Tasks in the paper's order as columns, methods as lines."""

    title: str
    tasks: tuple[str, ...]
    task_titles: tuple[str, ...]
    methods: tuple[Method, ...]
    cells: Mapping[tuple[Method, str], Cell]

    @property
    def verified(self) -> str:
        n = sum(cell.verified != "no" for cell in self.cells.values())
        return f"{n} of {len(self.cells)} numbers were read in the source itself."

    def measured_cells(self) -> list[Cell]:
        return [cell for cell in self.cells.values() if cell.measured is not None]


@dataclass(frozen=True)
class Listing:
    """Published numbers LOBE has no task for, one source's table and one origin at a time; lines have the columns of `published`."""

    title: str
    origin_protocol: str
    lines: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Reproduction:
    """Everything `lobe reproduce` prints.

    Attributes:
        unknown: what is not known of this paper, as sentences.
        others: rows measured here for backbones the paper does not list.
        refused: (job, reason) of records that must not stand beside published numbers.
    """

    paper: str
    unknown: tuple[str, ...]
    tables: tuple[PaperTable, ...]
    listings: tuple[Listing, ...]
    others: tuple[Row, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        return TITLES.get(self.paper, self.paper)

    @property
    def sources(self) -> list[str]:
        found = [cell.source for table in self.tables for cell in table.cells.values()]
        found += [line["source"] for listing in self.listings for line in listing.lines]
        return list(dict.fromkeys(found))


def reproduce(
    paper: str,
    records: Iterable[Record] = (),
    *,
    same_split: Callable[[Record], bool] | None = None,
    method_of: Callable[[Record], Method | None] | None = None,
    resampled: ResampledOf | None = None,
) -> Reproduction:
    """Published beside measured.

    Args:
        paper: a file of `results/published` ("lovt", "gloria", "prior", ...).
        records: of any kind; those that may not stand beside published numbers are listed with the reason.
        same_split: whether a record used the paper's images; default `on_published_split`.
        method_of: which line of the paper's table a record measures, None for none; default `lovt_method`.
        resampled: record -> its test score in resamples of the patients; None: intervals cover runs only.

    Raises:
        UnknownName: no such paper.
    """
    frame = published.load(paper)
    unknown = UNKNOWN.get(paper, ())
    if paper != ORIGIN:
        return Reproduction(paper, unknown, (), tuple(_listings(frame)), refused=tuple(_all_refused(paper, records)))

    admitted, refused = _admit(list(records), same_split or on_published_split)
    method_of = method_of or lovt_method
    rows = rows_of(admitted, resampled=resampled)
    by_key = {record.key: record for record in admitted}
    measured: dict[tuple[Method, str], Row] = {}
    others = []
    for row in rows:
        method = next((m for run in row.runs if (m := method_of(by_key[run.key])) is not None), None)
        if method is None or (method, row.task) in measured:
            others.append(row)
        else:
            measured[method, row.task] = row
    tables = tuple(_paper_table(frame[frame["table"] == title], title, measured) for title in MAIN_TABLES)
    rest = frame[~frame["table"].isin(MAIN_TABLES)]
    listings = tuple(Listing(title, ORIGIN, tuple(group.to_dict("records"))) for title, group in rest.groupby("table", sort=False))
    return Reproduction(paper, unknown, tables, listings, tuple(others), tuple(refused))


def verdict(difference: numbers.Difference, margin: float) -> Verdict:
    """Equivalent: the 95 % interval lies within ±margin. Different: it lies wholly outside. Undecided: all else, or no interval."""
    low, high = difference.low, difference.high
    if low is None or high is None:
        return "undecided"
    if -margin <= low and high <= margin:
        return "equivalent"
    return "different" if low > margin or high < -margin else "undecided"


def on_published_split(record: Record) -> bool:
    """Whether a record was trained, selected and tested on the paper's images: its ids digest to what the dataset card gives for them.

    Training and validation count too: a patient-disjoint split keeps the test images and is not what the paper did.
    """
    experiment = record.job.experiment
    card = registry.datasets().get(experiment.dataset.name)
    if card is None or "lovt" not in card.splits or experiment.dataset.split not in ("lovt", LISTS):
        return False
    expected = card.splits["lovt"].expected
    shares = {"train": experiment.fraction, "validation": experiment.recipe.validation_subset, "test": 1.0}
    known = {split: expected.get(split if share == 1 else f"{split}_{round(100 * share)}pct") for split, share in shares.items()}
    return all(
        counts is not None and counts.sha256_sorted is not None and counts.sha256_sorted == record.sample_digests.get(f"{split} sorted")
        for split, counts in known.items()
    )


def lovt_method(record: Record) -> Method | None:
    """The line of LoVT's tables a record measures.

    Untrained and ImageNet ResNet-50 are told by model and label; the rest by card names such as "lovt-100", "lovt-convirt-30" or
    "lovt-clip-100", with anything after `@` ignored.
    """
    ref = record.job.experiment.backbone
    if ref.model != "resnet50":
        return None
    if ref.digest is None:
        return ("Random", "none")
    label = record.job.labels.backbone.partition("@")
    if record.job.labels.backbone == "resnet50 (IMAGENET1K_V1)" or (label[0].endswith("resnet50") and label[2] == "IMAGENET1K_V1"):
        return ("ImageNet", "none")
    name, _, share = label[0].lower().replace("_", "-").removeprefix("lovt-").rpartition("-")
    for method in _FROM_MIMIC:
        if share in _PRETRAINING and (name or "lovt") == method.lower().rstrip("*"):
            return (method, _PRETRAINING[share])
    return None


def published_spread(task: str, printed_metric: str, method: Method, half_width: float) -> Spread:
    """Standard deviation behind a published interval: of the distinct released runs, else back from `1.96 s / sqrt(5)`."""
    runs = published.load_runs(ORIGIN)
    reported = [name for name, printed in PRINTED_AS.items() if printed_metric in printed]
    mine = (runs["task_id"] == task) & (runs["method"] == method[0]) & (runs["pretraining"] == method[1]) & runs["metric"].isin(reported)
    distinct = sorted(set(100 * runs[mine]["value"]))
    if distinct:
        return Spread(numbers.standard_deviation(distinct) if len(distinct) > 1 else None, len(distinct), lower_bound=False)
    return Spread(half_width * math.sqrt(5) / 1.96, 5, lower_bound=True)


def _admit(records: Sequence[Record], same_split: Callable[[Record], bool]) -> tuple[list[Record], list[tuple[str, str]]]:
    admitted, refused = [], []
    for record in records:
        reason = _why_refused(record, same_split)
        if reason is None:
            admitted.append(record)
        else:
            labels = record.job.labels
            refused.append((f"{labels.task}, {labels.backbone}, run {labels.run_number}", reason))
    return admitted, refused


def _all_refused(paper: str, records: Iterable[Record]) -> Iterable[tuple[str, str]]:
    """What was measured of the paper's suite: none of its tasks names a published cell, so each record has a reason to stand apart."""
    tasks = registry.suites()[paper].tasks if paper in registry.suites() else ()
    for record in records:
        labels = record.job.labels
        if labels.task in tasks:
            reason = _why_refused(record, lambda _: True)
            yield (
                f"{labels.task}, {labels.backbone}, run {labels.run_number}",
                reason or "no published cell has this task's images and protocol",
            )


def _why_refused(record: Record, same_split: Callable[[Record], bool]) -> str | None:
    if record.phantom:
        return "phantom data never stands beside published numbers"
    if record.scale == "limited":
        partial = record.job.experiment.dataset.partial
        return f"{f'partial releases ({partial})' if partial else 'limited runs'} never stand beside published numbers"
    if record.job.labels.protocol != "published":
        return f"protocol {record.job.labels.protocol!r}; only 'published' repeats what the paper did"
    # Searches and failures have no test result to compare: they only explain a dash.
    if record.status == "ok" and record.job.experiment.role is Role.FINAL and not same_split(record):
        return f"its images are not those of the published lists (split {record.job.experiment.dataset.split!r})"
    return None


def _paper_table(frame: pd.DataFrame, title: str, measured: Mapping[tuple[Method, str], Row]) -> PaperTable:
    cells = {}
    for line in frame.to_dict("records"):
        method = (line["method"], line["pretraining"])
        cells[method, line["task_id"]] = _cell(line, method, measured.get((method, line["task_id"])))
    methods = tuple(dict.fromkeys(method for method, _ in cells))
    tasks = dict(zip(frame["task_id"], frame["task"], strict=True))
    return PaperTable(title, tuple(tasks), tuple(tasks.values()), methods, cells)


def _cell(line: Mapping, method: Method, row: Row | None) -> Cell:
    facts = {
        "task": line["task_id"],
        "metric": line["metric"],
        "method": method[0],
        "pretraining": method[1],
        "published": line["value"],
        "published_half_width": line["half_width_95"],
        "verified": line["verified"],
        "source": line["source"],
        "measured": row,
    }
    if row is None:
        return Cell(**facts, why_not="not measured")
    if row.mean is None:
        return Cell(**facts, why_not=row.missing)
    if line["metric"] not in PRINTED_AS.get(row.metric, ()):
        return Cell(**facts, why_not=f"measured {row.metric}, published {line['metric']}")
    if line["verified"] == "no" or line["origin_protocol"] != ORIGIN:
        return Cell(**facts, why_not="the published number is not verified or of another protocol")
    spread = published_spread(line["task_id"], line["metric"], method, line["half_width_95"])
    difference = _difference(row, line["value"], spread)
    return Cell(
        **facts,
        difference=difference,
        verdict=verdict(difference, MARGINS[line["metric"]]),
        lower_bound=spread.lower_bound,
        why_not="" if difference.half_width is not None else "no interval: one run",
    )


def _difference(row: Row, value: float, spread: Spread) -> numbers.Difference:
    """Measured minus published, in points: variances of both sides with Satterthwaite's degrees of freedom; no interval when a side has no
    spread. The patients' part is the measured side's, since the paper's per-image results are not known."""
    difference = 100 * numbers.mean(row.values) - value
    if len(row.values) < 2 or spread.deviation is None or spread.n < 2:
        return numbers.Difference(difference, None)
    measured = [(100**2 * variance, freedom) for variance, freedom in variance_components(row.values, row.resampled)]
    return numbers.Difference(difference, half_width([*measured, (spread.deviation**2 / spread.n, spread.n - 1)]))


def _listings(frame: pd.DataFrame) -> Iterable[Listing]:
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in frame.to_dict("records"):
        groups.setdefault((line["source"], line["table"], line["origin_protocol"]), []).append(line)
    for (source, table, origin), lines in groups.items():
        yield Listing(f"{source}, {table}" if table else source, origin, tuple(lines))
