"""Scores of a study: each contender on each measure, from every pretraining seed, with resamples of the test patients.

A contender is a member without its seed, after so many pairs. Its unit is the pretraining seed: a seed's score is the mean over its runs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmark.api import Evaluation
from benchmark.cards.studies import RETRIEVAL, START
from benchmark.report import resampling
from benchmark.report.resampling import Resampled
from benchmark.report.rows import Row, rows_of
from benchmark.statistics.bootstrap import cluster_bootstrap
from benchmark.statistics.difference import Difference, Scores, difference
from benchmark.statistics.levels import CHECKPOINTS, FEWEST_CHECKPOINTS, PATIENTS, RUNS
from benchmark.study.caveats import Caveats, caveats_of
from benchmark.study.making import MadeMember
from benchmark.study.running import Study

Contender = tuple[str, int]  # name of a member, pairs after which it was kept


@dataclass(frozen=True)
class Score:
    """One contender on one measure.

    Attributes:
        by_seed: pretraining seed -> score of each run, fractions; of what was not pretrained, the seed is 0.
        resampled: (R, units) in resamples of the test patients; None where that cannot be had.
        n_clusters, n_with_finding: as `benchmark.statistics.difference.Scores`.
        unit: `CHECKPOINTS`, a unit for each pretraining seed; `RUNS` of what was not pretrained, where each run is a unit.
        test: digest of what was resampled: equal for scores that saw the same resamples.
    """

    by_seed: dict[int, tuple[float, ...]]
    resampled: np.ndarray | None
    n_clusters: int | None
    n_with_finding: int | None
    unit: str = CHECKPOINTS
    test: str = ""

    @property
    def units(self) -> np.ndarray:
        """(units,) float64."""
        return np.array([np.mean(runs) for runs in self.by_seed.values()] if self.unit == CHECKPOINTS else self.by_seed[0])

    @property
    def value(self) -> float:
        return float(self.units.mean())

    @property
    def too_few(self) -> str:
        """Why there is no interval; empty where there is one."""
        n = len(self.by_seed)
        if self.unit == RUNS or n >= FEWEST_CHECKPOINTS:
            return ""
        return f"not tested: {n} pretraining seed{'s' * (n != 1)}, a sentence about a method needs {FEWEST_CHECKPOINTS}"

    @property
    def runs_variance(self) -> float:
        """Part of the value's variance that the seeds of the runs have, where a unit is a pretraining seed."""
        if self.unit == RUNS:
            return 0.0
        each = [float(np.var(runs, ddof=1)) / len(runs) for runs in self.by_seed.values() if len(runs) > 1]
        return sum(each) / len(each) / len(self.by_seed) if each else 0.0

    @property
    def scores(self) -> Scores:
        return Scores(self.units, self.resampled, self.n_clusters, self.n_with_finding, unit=self.unit)


@dataclass(frozen=True)
class Compared:
    """First minus second on one measure.

    Attributes:
        difference: with its interval; None where too few pretraining seeds are there.
        untested: why there is no p-value; empty where there is one.
        sd_pretraining, sd_runs, sd_patients: standard deviations that the interval is made of, fractions; None where unknown.
    """

    value: float
    difference: Difference | None
    untested: str
    sd_pretraining: float | None
    sd_runs: float | None
    sd_patients: float | None

    @property
    def half_width(self) -> float | None:
        return None if self.difference is None else self.difference.half_width

    @property
    def p_value(self) -> float | None:
        return None if self.difference is None else self.difference.p_value


@dataclass(frozen=True)
class Table:
    """All scores of a study.

    Attributes:
        measures: tasks in the order of the evaluation, then retrieval.
        titles: measure -> as people see it.
        missing: contender and measure -> why it has no score.
        caveats: of the rows that the scores are from.
    """

    measures: tuple[str, ...]
    titles: dict[str, str]
    scores: dict[tuple[Contender, str], Score]
    missing: dict[tuple[Contender, str], str]
    caveats: Caveats = field(default_factory=Caveats)

    def get(self, name: str, pairs: int, measure: str) -> Score | None:
        return self.scores.get(((name, pairs), measure))


def table(study: Study) -> Table:
    """Scores of all members that were made and judged, and of `start`, the network that all methods begin from."""
    rows = [row for one in study.evaluations for row in _rows(one)]
    titles = {row.task: f"{row.task_title}, {row.metric_title}" for row in rows}
    tasks = tuple(task for one in study.evaluations for task in one.planned.tasks if task in titles)
    found: dict[tuple[Contender, str], dict[int, Row]] = {}
    missing: dict[tuple[Contender, str], str] = {}
    scores: dict[tuple[Contender, str], Score] = {}
    for row in rows:
        member, pairs = study.places.get(row.backbone, (None, 0))
        contender = (START, 0) if member is None else (member.name, pairs)
        if row.cell is None and row.missing:
            missing[contender, row.task] = row.missing
        elif member is None:
            scores[contender, row.task] = _of_start(row)
        else:
            found.setdefault((contender, row.task), {})[member.seed] = row
    scores |= {place: of_rows(by_seed) for place, by_seed in found.items()} | _retrieval(study)
    titles |= {RETRIEVAL: "Retrieval of held-out reports, mean percentile"}
    return Table((*tasks, RETRIEVAL), titles, scores, missing, caveats_of(rows))


def _rows(evaluation: Evaluation) -> list[Row]:
    planned = evaluation.planned
    resampled = resampling.of_records(evaluation.results, planned.request.out)
    return rows_of(evaluation.results, planned=planned.jobs, resampled=resampled)


def _of_start(row: Row) -> Score:
    one = row.resampled
    values, n, test = (None, None, "") if one is None else (one.values.astype(np.float64), one.n_clusters, one.test)
    return Score({0: tuple(row.values)}, values, n, row.n_with_finding, unit=RUNS, test=test)


def of_rows(by_seed: Mapping[int, Row]) -> Score:
    """Pretraining seed -> its complete row on one task."""
    rows = [by_seed[seed] for seed in sorted(by_seed)]
    together = _together([row.resampled for row in rows])
    with_finding = [row.n_with_finding for row in rows if row.n_with_finding is not None]
    first = rows[0].resampled if together is not None else None
    return Score(
        {seed: tuple(by_seed[seed].values) for seed in sorted(by_seed)},
        together,
        None if first is None else first.n_clusters,
        min(with_finding) if with_finding else None,
        test="" if first is None else first.test,
    )


def compared(first: Score, second: Score) -> Compared:
    """First minus second, as methods: their pretraining seeds are independent.

    The interval covers patients where both were measured on the same ones: resamples of other patients cannot be subtracted.
    """
    if why := first.too_few or second.too_few:
        return Compared(first.value - second.value, None, why, None, None, None)
    one, other = first.scores, second.scores
    if (one.resampled is None) != (other.resampled is None) or first.test != second.test:
        one, other = (replace(each, resampled=None, n_clusters=None) for each in (one, other))
    found = difference(one, other, "independent")
    of = {name: [level.variance for level in found.levels if level.name == name] for name in (CHECKPOINTS, RUNS, PATIENTS)}
    runs = first.runs_variance + second.runs_variance
    return Compared(
        found.value,
        found,
        found.untested,
        max(sum(of[CHECKPOINTS]) - runs, 0.0) ** 0.5,
        (runs + sum(of[RUNS])) ** 0.5,
        of[PATIENTS][0] ** 0.5 if of[PATIENTS] else None,
    )


def _together(each: Sequence[Resampled | None]) -> np.ndarray | None:
    known = [one for one in each if one is not None]
    if len(known) < len(each) or len({one.test for one in known}) > 1:
        return None
    return np.stack([one.mean for one in known], axis=1)


def _retrieval(study: Study) -> dict[tuple[Contender, str], Score]:
    """Of held-out pairs, at every count of pairs at which all seeds of a member looked. A start is the method's own: its towers are."""
    found: dict[Contender, dict[int, tuple[list[float], MadeMember]]] = {}
    for member in study.members:
        made = study.making.made.get(member.label)
        if made is not None:
            for pairs, shares in made.held_out.items():
                found.setdefault((member.name, pairs), {})[member.seed] = (shares, made)
    return {(contender, RETRIEVAL): _of_shares(by_seed) for contender, by_seed in found.items()}


def _of_shares(by_seed: Mapping[int, tuple[list[float], MadeMember]]) -> Score:
    """Held-out images are resampled by patient; each keeps the reports that it was compared with.

    Patients are numbers within their own pairs: seeds that held out other images cannot be resampled together, even where numbers agree.
    """
    scores: dict[int, tuple[float, ...]] = {seed: (float(np.mean(shares)),) for seed, (shares, _) in by_seed.items()}
    held_out = [(made.ids, made.patients) for _, made in by_seed.values()]
    ids, patients = held_out[0]
    if any(one != held_out[0] for one in held_out) or len(set(patients)) < 2:
        return Score(scores, None, None, None)
    clusters = [str(patient) for patient in patients]
    columns = [cluster_bootstrap(functools.partial(_weighted, np.array(shares)), clusters) for shares, _ in by_seed.values()]
    return Score(scores, np.stack(columns, axis=1), len(set(clusters)), None, test=ids)


def _weighted(shares: np.ndarray, weights: np.ndarray) -> float | None:
    total = float(weights.sum())
    return float((shares * weights).sum()) / total if total else None
