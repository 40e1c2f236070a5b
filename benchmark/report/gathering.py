"""Which jobs and records make a row: equal but for their seeds, under one set of names. What a row then says: `rows`; how rows of one name
are told apart: `variants`."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark import kinds
from benchmark.cards import SHARED_CARDS, Experiment, Job, Record, Role, canonical_json
from benchmark.cards.base import canonical_object
from benchmark.report.escape import one_line
from benchmark.report.resampling import Resampled, together
from benchmark.report.variants import Network, Variant, network_of, variants_of
from benchmark.statistics.difference import Scores
from benchmark.statistics.levels import RUNS

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
class Gathered:
    """The jobs and records of a row, before its interval is known.

    Attributes:
        names: backbone, task, split, protocol, scale, phantom.
        job: stands for all of them; a final one where there is one.
        finals: records of final runs, as `runs`.
        drawn: another run would draw something anew.
        spread: the runs in resamples of the test patients.
    """

    names: tuple
    members: list[Entry]
    variant: Variant
    job: Job
    runs: tuple[Run, ...]
    finals: list[Record]
    n_expected: int
    drawn: bool
    spread: Resampled | None
    n_with_finding: int | None

    @property
    def values(self) -> list[float]:
        return [run.value for run in self.runs if run.value is not None]

    @property
    def complete(self) -> bool:
        return len(self.values) == self.n_expected

    @property
    def scores(self) -> Scores:
        return scores_of(self.values, self.drawn, self.spread, self.n_with_finding)


def gather(records: Sequence[Record], planned: Iterable[Job], resampled: ResampledOf | None) -> list[Gathered]:
    """Members of every row, in the order of its first record; arguments as of `rows.rows_of`."""
    on_record, is_planned = {r.key for r in records}, set()
    entries: list[Entry] = [(r.job, r) for r in records]
    for job in planned:  # one by one: a plan makes its jobs as they are asked for, and those on record are not needed
        is_planned.add(job.key)
        if job.key not in on_record:
            entries.append((job, None))
    phantoms = {(r.job.labels.task, r.job.experiment.dataset.digest): r.phantom for r in records}
    identities = [identity(job.experiment) for job, _ in entries]
    searched_for = {key: known for (job, _), known in zip(entries, identities, strict=True) for key in job.depends_on}

    networks: dict[str, set[Network]] = defaultdict(set)
    groups: dict[tuple, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for (job, record), known in zip(entries, identities, strict=True):
        backbone = one_line(job.labels.backbone)  # as rows show it
        networks[backbone].add(network_of(job.experiment.backbone))
        scale = record.scale if record else "limited" if job.limited else "full"
        phantom = record.phantom if record else phantoms.get((job.labels.task, job.experiment.dataset.digest), False)
        names = (backbone, job.labels.task, job.experiment.dataset.split, job.labels.protocol, scale, phantom)
        # A learning-rate search belongs to the runs that wait for it, although its recipe (one rate, no grid) is another.
        groups[names][searched_for.get(job.key) or known].append((job, record))

    fullest: dict[tuple, int] = defaultdict(int)
    for names, variants in groups.items():
        for members in variants.values():
            place = _place(names, members)
            fullest[place] = max(fullest[place], sum(job.experiment.role is Role.FINAL for job, _ in members))
    found = []
    for names, variants in groups.items():
        told = variants_of([_representative(members).experiment for members in variants.values()], networks[names[0]])
        for members, variant in zip(variants.values(), told, strict=True):
            n_expected = 1 if any(job.key in is_planned for job, _ in members) else fullest[_place(names, members)]
            found.append(_gathered(names, members, variant, n_expected, resampled or _no_resamples))
    return found


def _place(names: tuple, members: Sequence[Entry]) -> tuple:
    """What rows have in common that need equally many runs: all of their names but the backbone, and the version of their task."""
    return (*names[1:], members[0][0].experiment.task_version)


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


def headline_value(record: Record) -> float | None:
    """The reported test metric as a fraction; None when it is absent or not finite."""
    value = record.metrics.get(record.job.experiment.report)
    return value if record.status == "ok" and value is not None and math.isfinite(value) else None


def scores_of(values: Sequence[float], drawn: bool, spread: Resampled | None, n_with_finding: int | None, unit: str = RUNS) -> Scores:
    resampled, n_clusters = (None, None) if spread is None else (spread.values, spread.n_clusters)
    return Scores(np.array(values), resampled, n_clusters, n_with_finding, drawn, unit)


def n_with_finding_in(records: Iterable[Record]) -> int | None:
    """The fewest of any run, where some images show a finding and others do not."""
    of_images = (r for r in records if (kind := kinds.known(r.job.experiment)) is not None and not kind.asks_every_image)
    known = [record.counts["test"]["positives"] for record in of_images if "positives" in record.counts.get("test", {})]
    return min(known, default=None)


def _gathered(names: tuple, members: list[Entry], variant: Variant, fullest: int, resampled: ResampledOf) -> Gathered:
    job = _representative(members)
    entries = sorted(((j, r) for j, r in members if j.experiment.role is Role.FINAL), key=lambda e: (e[0].labels.run, e[0].key))
    finals = [record for _, record in entries if record is not None]
    runs = tuple(
        Run(r.job.labels.run_number, r.key, r.job.experiment.head_seed, r.job.experiment.order_seed, headline_value(r)) for r in finals
    )
    drawn = is_random(job.experiment) or (job.experiment.words is None and _draws(job.experiment))
    # Fixed weights on a task that draws nothing are evaluated once, however many runs an untrained network has.
    n_expected = max(fullest if drawn else 1, len(entries), 1)
    whole = sum(run.value is not None for run in runs) == n_expected
    spread = together([resampled(record) for record in finals]) if whole and (n_expected > 1 or not drawn) else None
    return Gathered(names, members, variant, job, runs, finals, n_expected, drawn, spread, n_with_finding_in(finals))


def _draws(experiment: Experiment) -> bool:
    return kinds.draws_anew(experiment.head, experiment.fraction, experiment.switches)


def _no_resamples(record: Record) -> Resampled | None:
    return None


def _representative(members: Sequence[Entry]) -> Job:
    """A final job where there is one: it names recipe and grid; a search only names one rate of them."""
    return min((job for job, _ in members), key=lambda job: (job.experiment.role is not Role.FINAL, job.labels.run, job.key))
