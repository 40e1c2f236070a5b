"""From records to tidy rows: one per backbone, task, split, protocol, scale and kind of data.

Only what belongs together is summarised: runs of one row differ in their seeds and in nothing else, and a row with a gap has no mean.
How rows look on paper or screen is `tables`; nothing is recomputed from predictions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from benchmark import kinds, registry
from benchmark.cards import BackboneCard, Job, Record
from benchmark.encoders import naming
from benchmark.report import numbers
from benchmark.report.covered import covered
from benchmark.report.escape import one_line
from benchmark.report.gathering import Gathered, Run, gather, headline_value, scores_of
from benchmark.report.gathering import ResampledOf as ResampledOf
from benchmark.report.gathering import identity as identity
from benchmark.report.resampling import Resampled
from benchmark.report.row_costs import Cost, cost_of
from benchmark.report.row_texts import why_no_mean
from benchmark.report.row_warnings import contamination_of, is_floor, warnings_about
from benchmark.report.tracks import geometry_of, track_of
from benchmark.statistics.difference import Cell, Scores, cells
from benchmark.statistics.levels import RUNS
from benchmark.submission.trust import Trust, lowest

LOVT_SPLIT = "lovt"


@dataclass(frozen=True)
class Row:
    """One cell of a leaderboard with everything needed to judge it.

    Attributes:
        variant: what tells this row from others of the same names (for example "threads=2"), and its network from others of its name on
            any task; mostly empty.
        target: ground truth that the metric scores against, as in a task card.
        shows_classes: its kind of task shows metrics of single classes.
        random: the backbone is untrained.
        drawn: another run would draw something anew; False for fixed weights on a task that trains nothing.
        runs: final runs on record, by run number.
        cell: mean over all expected runs with its 95 % interval and the sources of chance that it covers, fractions; None with a gap.
        resampled: the runs in resamples of the test patients; None where that cannot be had.
        missing: why there is no mean; empty when there is one.
        contamination: what pretraining saw of the dataset: none, source, images, labels or unknown.
        anchors: (name, fraction) of scores on the same test images that need no model, under the reported metric.
        custom: what of it came from a user's own cards (`Labels.custom`).
        box_masks: its masks are filled boxes.
        n_with_finding: test images that show the finding; None where the records do not say.
        suite: that its jobs were planned for; empty for tasks that were named one by one.
        track, geometry: what it may be ranked with (`report.tracks`).
        cost: what it took and how large the networks are; None without a record.
        n_images: split -> images as the first run used them; empty where the records do not say.
        unit: what `runs` are: runs, or checkpoints of a recipe (`report.recipes`).
        trust: the lowest level of its final runs; a search has no number that stands in a table.
        dataset_digest: of the images and labels that its runs used.
        settings: the part of `variant` that is not the backbone's.
        task_version: of the task's card that its jobs were planned from; rows of two versions are never compared.
    """

    backbone: str
    variant: str
    task: str
    task_title: str
    dataset: str
    split: str
    head: str
    encoder: str
    fraction_text: str
    fraction: float
    metric: str
    metric_title: str
    target: str
    shows_classes: bool
    protocol: str
    scale: Literal["full", "limited"]
    phantom: bool
    random: bool
    architecture: str
    drawn: bool
    runs: tuple[Run, ...]
    n_expected: int
    n_ok: int
    n_failed: int
    cell: Cell | None
    resampled: Resampled | None
    missing: str
    warnings: tuple[str, ...]
    contamination: str = "unknown"
    anchors: tuple[tuple[str, float], ...] = ()
    custom: tuple[str, ...] = ()
    box_masks: bool = False
    n_with_finding: int | None = None
    suite: str = ""
    track: str = ""
    geometry: str = ""
    cost: Cost | None = None
    n_images: Mapping[str, int] = field(default_factory=dict)
    unit: str = RUNS
    trust: Trust = Trust.LOCAL
    dataset_digest: str = ""
    settings: str = ""
    task_version: int = 0

    @property
    def n_missing(self) -> int:
        return self.n_expected - self.n_ok - self.n_failed

    @property
    def label(self) -> str:
        return f"{self.backbone} [{self.variant}]" if self.variant else self.backbone

    @property
    def network(self) -> str:
        """The part of `variant` that is the backbone's."""
        return self.variant.removesuffix(self.settings).removesuffix(", ")

    @property
    def values(self) -> list[float]:
        return [run.value for run in self.runs if run.value is not None]

    @property
    def mean(self) -> float | None:
        return None if self.cell is None else self.cell.value

    @property
    def half_width(self) -> float | None:
        """Of the 95 % interval; None with a gap, and for one run of something that is drawn."""
        return None if self.cell is None else self.cell.half_width

    @property
    def seeds(self) -> tuple[tuple[int, int, int], ...]:
        """(run, head seed, order seed) of each run: rows that agree in them were given the same draws by their protocol."""
        return tuple((run.run, run.head_seed, run.order_seed) for run in self.runs)

    @property
    def scores(self) -> Scores:
        """What a complete row is compared by."""
        return scores_of(self.values, self.drawn, self.resampled, self.n_with_finding, self.unit)

    @property
    def covers(self) -> str:
        """What the interval covers; empty where there is none."""
        if self.cell is None:
            return ""
        return " and ".join(covered(self.cell.levels, self.cell.n_clusters, self.resampled is None or self.resampled.by_patient))

    @property
    def text(self) -> str:
        """`16.4 ± 1.3` in per cent, or a dash."""
        return numbers.DASH if self.mean is None else numbers.percent(self.mean, self.half_width)


def is_of(row: Row, card: BackboneCard) -> bool:
    """Whether a row is of the weights that a card names, under the card's title or the library's own name."""
    family, _, model = row.architecture.partition(":")
    is_other_card = "backbone" in row.custom and not registry.is_custom(card.name, "backbones")
    is_other_model = family in naming.SOURCES and model != card.model
    return not row.random and family == card.family and not is_other_model and not is_other_card and row.backbone in naming.labels_of(card)


def rows_of(
    records: Iterable[Record],
    *,
    planned: Iterable[Job] = (),
    resampled: ResampledOf | None = None,
    refused: Collection[str] = (),
    trust: Mapping[str, Trust] | None = None,
) -> list[Row]:
    """Tidy rows in a stable order: by dataset, head, encoder mode, fraction, then backbone (random first, then by name).

    Args:
        planned: the jobs that were to run; those without a record count as missing. A row of which nothing is planned is taken to need
            as many runs as the fullest row of its task.
        resampled: record -> its test score in resamples of the patients. None: intervals cover runs only.
        refused: keys of stored records that may not be believed; where planned, they are gaps with that reason.
        trust: level of each record by key; those that it does not name are one's own.
    """
    records = list(records)
    gathered = gather(records, planned, resampled)
    failures = {record.key: record for record in records if record.status == "failed"}
    measured = [one for one in gathered if one.complete]
    # All intervals at once: one alone takes as long as a hundred.
    found = cells([one.scores for one in measured])
    cell_of = {id(one): cell for one, cell in zip(measured, found, strict=True)}
    return sorted((_row(one, cell_of.get(id(one)), failures, refused, trust or {}) for one in gathered), key=_order)


def metric_title(job: Job) -> str:
    """The metric's name as people see it; Dice against filled boxes is called box-mask Dice, never plain Dice."""
    title = job.labels.metric_title or job.experiment.report
    return title if "box-mask" in title or not has_box_masks(job) else title.replace("Dice", "box-mask Dice")


def has_box_masks(job: Job) -> bool:
    """Whether the job's masks are filled boxes, by the card it was planned with; by today's where an older record does not say."""
    if job.labels.mask_source is not None:
        return job.labels.mask_source == "boxes"
    card = registry.datasets().get(job.experiment.dataset.name)
    return card is not None and card.mask_source == "boxes"


def _row(gathered: Gathered, cell: Cell | None, failures: dict[str, Record], refused: Collection[str], trust: Mapping[str, Trust]) -> Row:
    backbone, task, split, protocol, scale, phantom = gathered.names
    members, runs = gathered.members, gathered.runs
    experiment, labels = gathered.job.experiment, gathered.job.labels
    jobs, records = [job for job, _ in members], [record for _, record in members if record is not None]
    n_ok = len(gathered.values)
    n_failed = len(runs) - n_ok
    unusable = {record.key for record in records if headline_value(record) is None}
    return Row(
        backbone=backbone,
        variant=gathered.variant.text,
        task=task,
        task_title=labels.task_title or task,
        dataset=experiment.dataset.name,
        split=split,
        head=experiment.head,
        encoder=experiment.encoder.value,
        fraction_text=labels.fraction_text,
        fraction=experiment.fraction,
        metric=experiment.report,
        metric_title=metric_title(gathered.job),
        target=experiment.dataset.target,
        shows_classes=(kind := kinds.known(experiment)) is not None and kind.shows_classes,
        protocol=protocol,
        scale=scale,
        phantom=phantom,
        random=is_floor(experiment, jobs),
        architecture=f"{experiment.backbone.family}:{experiment.backbone.model}",
        drawn=gathered.drawn,
        runs=runs,
        n_expected=gathered.n_expected,
        n_ok=n_ok,
        n_failed=n_failed,
        cell=cell,
        resampled=gathered.spread,
        missing="" if cell is not None else why_no_mean(members, n_ok, n_failed, gathered.n_expected, unusable, failures, refused),
        warnings=tuple(
            warnings_about(experiment, jobs, records, runs, gathered.spread, cell, drawn=gathered.drawn, scale=scale, phantom=phantom)
        ),
        contamination=contamination_of(experiment, jobs).value,
        anchors=_anchors(gathered.finals),
        custom=tuple(dict.fromkeys(part for job in jobs for part in job.labels.custom)),
        box_masks=has_box_masks(gathered.job),
        n_with_finding=gathered.n_with_finding,
        suite=labels.suite or "",
        track=track_of(experiment),
        geometry=geometry_of(protocol),
        cost=cost_of(records),
        n_images={split: counts.get("images", 0) for split, counts in next((r.counts for r in gathered.finals if r.counts), {}).items()},
        trust=lowest(trust.get(record.key, Trust.LOCAL) for record in gathered.finals or records),
        dataset_digest=experiment.dataset.digest,
        settings=gathered.variant.settings,
        task_version=experiment.task_version,
    )


def _anchors(records: Iterable[Record]) -> tuple[tuple[str, float], ...]:
    """Of the first run that has some: all runs of a row read the same test images."""
    for record in records:
        found = [(name, scores.get(record.job.experiment.report)) for name, scores in record.anchors.items()]
        if found:
            return tuple((one_line(name), value) for name, value in found if value is not None and math.isfinite(value))
    return ()


def _order(row: Row) -> tuple:
    kind = (row.phantom, row.scale == "limited", row.protocol)
    what = (row.dataset, row.head, row.encoder, row.fraction, row.task, row.split != LOVT_SPLIT, row.split)
    return (*kind, *what, not row.random, row.backbone.lower(), row.variant)
