"""From records to tidy rows: one per backbone, task, split, protocol, scale and kind of data.

Only what belongs together is summarised: runs of one row differ in their seeds and in nothing else, and a row with a gap has no mean.
How rows look on paper or screen is `tables`; nothing is recomputed from predictions.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmark import kinds, registry
from benchmark.cards import SHARED_CARDS, Experiment, Job, Record, Role, canonical_json
from benchmark.cards.base import canonical_object
from benchmark.report import numbers
from benchmark.report.escape import one_line
from benchmark.report.resampling import Resampled, mean_of
from benchmark.report.row_warnings import sentence_of, warnings_about
from benchmark.statistics.uncertainty import half_width
from benchmark.submission.trust import Trust, lowest

LOVT_SPLIT = "lovt"
ResampledOf = Callable[[Record], Resampled | None]
Entry = tuple[Job, Record | None]


@dataclass(frozen=True)
class Run:
    """One final run: its number from 1, its seeds and its test value as a fraction, None where there is none."""

    run: int
    key: str
    head_seed: int
    order_seed: int
    value: float | None


@dataclass(frozen=True)
class Row:
    """One cell of a leaderboard with everything needed to judge it.

    Attributes:
        variant: what tells this row from others of the same names (for example "limit=32"); mostly empty.
        target: ground truth that the metric scores against, as in a task card.
        shows_classes: its kind of task shows metrics of single classes.
        random: the backbone is untrained.
        runs: final runs on record, by run number.
        mean, half_width: of the test metric over all expected runs, fractions; half width of the 95 % t interval, None for one run.
        resampled: the mean over runs in resamples of the test patients; None where that cannot be had.
        missing: why there is no mean; empty when there is one.
        anchors: (name, fraction) of scores on the same test images that need no model, under the reported metric.
        custom: what of it came from a user's own cards (`Labels.custom`).
        box_masks: its masks are filled boxes.
        n_with_finding: test images that show the finding; None where the records do not say.
        trust: the lowest level of its records.
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
    runs: tuple[Run, ...]
    n_expected: int
    n_ok: int
    n_failed: int
    mean: float | None
    half_width: float | None
    resampled: Resampled | None
    missing: str
    warnings: tuple[str, ...]
    anchors: tuple[tuple[str, float], ...] = ()
    custom: tuple[str, ...] = ()
    box_masks: bool = False
    n_with_finding: int | None = None
    trust: Trust = Trust.LOCAL

    @property
    def n_missing(self) -> int:
        return self.n_expected - self.n_ok - self.n_failed

    @property
    def label(self) -> str:
        return f"{self.backbone} [{self.variant}]" if self.variant else self.backbone

    @property
    def values(self) -> list[float]:
        return [run.value for run in self.runs if run.value is not None]

    @property
    def covers(self) -> str:
        """What the interval covers; empty where there is none."""
        if self.half_width is None:
            return ""
        if self.resampled is None or self.resampled.variance is None:
            return "runs"
        return f"runs and {self.resampled.n_clusters} test {'patients' if self.resampled.by_patient else 'images'}"

    @property
    def text(self) -> str:
        """`16.4 ± 1.3` in per cent, or a dash."""
        return numbers.DASH if self.mean is None else numbers.percent(self.mean, self.half_width)


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
    on_record, is_planned = {r.key for r in records}, set()
    entries: list[Entry] = [(r.job, r) for r in records]
    for job in planned:  # one by one: a plan makes its jobs as they are asked for, and those on record are not needed
        is_planned.add(job.key)
        if job.key not in on_record:
            entries.append((job, None))
    phantoms = {(r.job.labels.task, r.job.experiment.dataset.digest): r.phantom for r in records}
    searched_for = {key: identity(job.experiment) for job, _ in entries for key in job.depends_on}

    groups: dict[tuple, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for job, record in entries:
        scale = record.scale if record else "limited" if job.limited else "full"
        phantom = record.phantom if record else phantoms.get((job.labels.task, job.experiment.dataset.digest), False)
        names = (job.labels.backbone, job.labels.task, job.experiment.dataset.split, job.labels.protocol, scale, phantom)
        # A learning-rate search belongs to the runs that wait for it, although its recipe (one rate, no grid) is another.
        groups[names][searched_for.get(job.key) or identity(job.experiment)].append((job, record))

    fullest: dict[tuple, int] = defaultdict(int)
    for names, variants in groups.items():
        for members in variants.values():
            fullest[names[1:]] = max(fullest[names[1:]], sum(job.experiment.role is Role.FINAL for job, _ in members))
    failures = {r.key: r for r in records if r.status == "failed"}
    rows = []
    for names, variants in groups.items():
        texts = _variant_texts([_representative(members).experiment for members in variants.values()])
        for members, text in zip(variants.values(), texts, strict=True):
            n_expected = 1 if any(job.key in is_planned for job, _ in members) else fullest[names[1:]]
            row = _row(names, members, text, n_expected, failures, resampled or _no_resamples, refused)
            rows.append(replace(row, trust=_trust_of(members, trust)) if trust else row)
    return sorted(rows, key=_order)


def identity(experiment: Experiment) -> str:
    """Digest of everything but the seeds and the place in the search: equal for runs that may be averaged."""
    backbone = experiment.backbone.model_dump(mode="json", exclude={"init_seed"})
    # Put together from the texts of what other runs share, as a job's key is.
    texts = {name: getattr(experiment, name).canonical for name in SHARED_CARDS} | {"backbone": canonical_json(backbone)}
    own = experiment.model_dump(mode="json", exclude={"head_seed", "order_seed", "role", "learning_rate", *SHARED_CARDS})
    text = canonical_object(texts | {name: canonical_json(value) for name, value in own.items()})
    return hashlib.sha256(text.encode()).hexdigest()


def is_random(experiment: Experiment) -> bool:
    return experiment.backbone.digest is None


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


def headline_value(record: Record) -> float | None:
    """The reported test metric as a fraction; None when it is absent or not finite."""
    value = record.metrics.get(record.job.experiment.report)
    return value if record.status == "ok" and value is not None and math.isfinite(value) else None


def _row(
    names: tuple,
    members: list[Entry],
    variant: str,
    fullest: int,
    failures: dict[str, Record],
    resampled: ResampledOf,
    refused: Collection[str],
) -> Row:
    backbone, task, split, protocol, scale, phantom = names
    job = _representative(members)
    experiment, labels = job.experiment, job.labels
    finals = sorted(((j, r) for j, r in members if j.experiment.role is Role.FINAL), key=lambda e: (e[0].labels.run, e[0].key))
    runs = tuple(
        Run(j.labels.run_number, r.key, j.experiment.head_seed, j.experiment.order_seed, headline_value(r))
        for j, r in finals
        if r is not None
    )
    values = [run.value for run in runs if run.value is not None]
    n_expected = max(fullest, len(finals), 1)
    n_failed = len(runs) - len(values)
    complete = len(values) == n_expected
    spread = mean_of([resampled(r) for _, r in finals if r is not None]) if complete and len(values) > 1 else None
    return Row(
        backbone=one_line(backbone),
        variant=variant,
        task=task,
        task_title=labels.task_title or task,
        dataset=experiment.dataset.name,
        split=split,
        head=experiment.head,
        encoder=experiment.encoder.value,
        fraction_text=labels.fraction_text,
        fraction=experiment.fraction,
        metric=experiment.report,
        metric_title=metric_title(job),
        target=experiment.dataset.target,
        shows_classes=(kind := kinds.known(experiment)) is not None and kind.shows_classes,
        protocol=protocol,
        scale=scale,
        phantom=phantom,
        random=is_random(experiment),
        architecture=f"{experiment.backbone.family}:{experiment.backbone.model}",
        runs=runs,
        n_expected=n_expected,
        n_ok=len(values),
        n_failed=n_failed,
        mean=numbers.mean(values) if complete else None,
        half_width=_half_width(values, spread) if complete else None,
        resampled=spread,
        missing="" if complete else _reason(members, len(values), n_failed, n_expected, failures, refused),
        warnings=tuple(
            warnings_about(
                experiment,
                [member for member, _ in members],
                [record for _, record in members if record is not None],
                runs,
                spread if complete else None,
                scale=scale,
                phantom=phantom,
                complete=complete,
            )
        ),
        anchors=_anchors(record for _, record in finals if record is not None),
        custom=tuple(dict.fromkeys(part for member, _ in members for part in member.labels.custom)),
        box_masks=has_box_masks(job),
        n_with_finding=_n_with_finding(record for _, record in finals if record is not None),
    )


def _trust_of(members: Iterable[Entry], trust: Mapping[str, Trust]) -> Trust:
    return lowest(trust.get(record.key, Trust.LOCAL) for _, record in members if record is not None)


def _n_with_finding(records: Iterable[Record]) -> int | None:
    """The fewest of any run, where some images show a finding and others do not."""
    of_images = (r for r in records if (kind := kinds.known(r.job.experiment)) is not None and not kind.asks_every_image)
    known = [record.counts["test"]["positives"] for record in of_images if "positives" in record.counts.get("test", {})]
    return min(known, default=None)


def _anchors(records: Iterable[Record]) -> tuple[tuple[str, float], ...]:
    """Of the first run that has some: all runs of a row read the same test images."""
    for record in records:
        found = [(name, scores.get(record.job.experiment.report)) for name, scores in record.anchors.items()]
        if found:
            return tuple((one_line(name), value) for name, value in found if value is not None and math.isfinite(value))
    return ()


def _half_width(values: Sequence[float], spread: Resampled | None) -> float | None:
    """Of the mean over runs: V_seed + V_patient; V_seed alone without resamples, None for one run."""
    return half_width(variance_components(values, spread)) if len(values) > 1 else None


def variance_components(values: Sequence[float], spread: Resampled | None) -> list[tuple[float, int]]:
    """(variance, degrees of freedom) of the mean over at least two runs: V_seed, and V_patient where there are resamples."""
    components = [(numbers.standard_deviation(values) ** 2 / len(values), len(values) - 1)]
    v_patient = None if spread is None else spread.variance
    if spread is not None and v_patient is not None and spread.n_clusters > 1:
        components.append((v_patient, spread.n_clusters - 1))
    return components


def _no_resamples(record: Record) -> Resampled | None:
    return None


def _reason(members: list[Entry], n_ok: int, n_failed: int, n_expected: int, failures: dict[str, Record], refused: Collection[str]) -> str:
    """What a dash stands for, in one sentence without a full stop."""
    counts = f"{n_ok} of {n_expected} runs"
    if n_failed:
        counts += f", {n_failed} failed"
    if n_expected - n_ok - n_failed:
        counts += f", {n_expected - n_ok - n_failed} missing"
    for job, record in members:
        if record is not None and record.status == "ok" and job.experiment.role is Role.FINAL and headline_value(record) is None:
            return f"{counts}: {job.experiment.report} of run {job.labels.run_number} is absent or not finite"
    causes = [r for _, r in members if r is not None and r.status == "failed"]
    causes += [failures[key] for job, _ in members for key in job.depends_on if key in failures]
    if causes:
        role = "learning-rate search" if causes[0].job.experiment.role is Role.SELECTION else f"run {causes[0].job.labels.run_number}"
        return f"{counts}: {role}: {sentence_of(causes[0])}".rstrip(".")
    if not_believed := [job for job, record in members if record is None and job.key in refused]:
        return f"{counts}: the stored record {not_believed[0].key} is refused"
    if n_ok == 0 and any(job.experiment.role is Role.SELECTION and record is not None for job, record in members):
        return f"{counts}: so far only the learning-rate search is on record"
    return f"{counts}: not run yet"


def _representative(members: Sequence[Entry]) -> Job:
    """A final job where there is one: it names recipe and grid; a search only names one rate of them."""
    return min((job for job, _ in members), key=lambda job: (job.experiment.role is not Role.FINAL, job.labels.run, job.key))


def _variant_texts(experiments: Sequence[Experiment]) -> list[str]:
    """What differs between experiments that carry the same names; empty texts for a single one."""
    if len(experiments) == 1:
        return [""]
    flat = [_flatten(e.model_dump(mode="json", exclude={"head_seed", "order_seed", "role", "learning_rate"})) for e in experiments]
    paths = [p for p in sorted(set().union(*flat)) if p != "backbone.init_seed" and len({f.get(p) for f in flat}) > 1]
    return [", ".join(f"{path}={_short(values.get(path))}" for path in paths[:3]) for values in flat]


def _flatten(value: object, path: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        return {p: v for key, inner in value.items() for p, v in _flatten(inner, f"{path}.{key}" if path else str(key)).items()}
    return {path: str(value)}


def _short(text: str | None) -> str:
    return "none" if text is None else text if len(text) <= 16 else f"{text[:8]}…"


def _order(row: Row) -> tuple:
    kind = (row.phantom, row.scale == "limited", row.protocol)
    what = (row.dataset, row.head, row.encoder, row.fraction, row.task, row.split != LOVT_SPLIT, row.split)
    return (*kind, *what, not row.random, row.backbone.lower(), row.variant)
