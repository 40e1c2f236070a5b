"""Scores of a study: each contender on each measure, from every pretraining seed, with resamples of the test patients.

A contender is a member without its seed, after so many pairs. Its unit is the pretraining seed: a seed's score is the mean over its runs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.cards.studies import RETRIEVAL, START
from benchmark.report import resampling
from benchmark.report.resampling import Resampled
from benchmark.report.rows import Row, rows_of
from benchmark.statistics.bootstrap import cluster_bootstrap
from benchmark.statistics.difference import Difference, Scores, difference
from benchmark.statistics.levels import CHECKPOINTS, FEWEST_CHECKPOINTS, PATIENTS
from benchmark.study.running import Study

Contender = tuple[str, int]  # name of a member, pairs after which it was kept


@dataclass(frozen=True)
class Score:
    """One contender on one measure.

    Attributes:
        by_seed: pretraining seed -> score of each run, fractions.
        resampled: (R, seeds) the seeds' means in resamples of the test patients; None where that cannot be had.
        n_clusters, n_with_finding: as `benchmark.statistics.difference.Scores`.
    """

    by_seed: dict[int, tuple[float, ...]]
    resampled: np.ndarray | None
    n_clusters: int | None
    n_with_finding: int | None

    @property
    def means(self) -> np.ndarray:
        """(seeds,) float64."""
        return np.array([np.mean(runs) for runs in self.by_seed.values()])

    @property
    def value(self) -> float:
        return float(self.means.mean())

    @property
    def runs_variance(self) -> float:
        """Of the value, by the seeds of the runs."""
        each = [float(np.var(runs, ddof=1)) / len(runs) for runs in self.by_seed.values() if len(runs) > 1]
        return sum(each) / len(each) / len(self.by_seed) if each else 0.0

    @property
    def scores(self) -> Scores:
        return Scores(self.means, self.resampled, self.n_clusters, self.n_with_finding, unit=CHECKPOINTS)


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
    """

    measures: tuple[str, ...]
    titles: dict[str, str]
    scores: dict[tuple[Contender, str], Score]
    missing: dict[tuple[Contender, str], str]

    def get(self, name: str, pairs: int, measure: str) -> Score | None:
        return self.scores.get(((name, pairs), measure))


def table(study: Study) -> Table:
    """Scores of all members that were made and judged. The start of methods with one image tower is one contender, `start`."""
    assert study.evaluation is not None
    planned = study.evaluation.planned
    resampled = functools.partial(resampling.of_record, out=planned.request.out)
    rows = rows_of(study.evaluation.results, planned=planned.jobs, resampled=resampled)
    titles = {row.task: f"{row.task_title}, {row.metric_title}" for row in rows}
    tasks = tuple(task for task in planned.tasks if task in titles)
    found: dict[tuple[Contender, str], dict[int, Row]] = {}
    missing: dict[tuple[Contender, str], str] = {}
    for row in rows:
        member, pairs = study.places[row.backbone]
        contender = (START, 0) if pairs == 0 else (member.name, pairs)
        if row.cell is None and row.missing:
            missing[contender, row.task] = row.missing
        else:
            found.setdefault((contender, row.task), {})[member.seed] = row
    scores = {place: of_rows(by_seed) for place, by_seed in found.items()} | _retrieval(study)
    return Table((*tasks, RETRIEVAL), titles | {RETRIEVAL: "Retrieval of held-out reports, mean percentile"}, scores, missing)


def of_rows(by_seed: Mapping[int, Row]) -> Score:
    """Pretraining seed -> its complete row on one task."""
    rows = [by_seed[seed] for seed in sorted(by_seed)]
    together = _together([row.resampled for row in rows])
    with_finding = [row.n_with_finding for row in rows if row.n_with_finding is not None]
    return Score(
        {seed: tuple(by_seed[seed].values) for seed in sorted(by_seed)},
        together,
        rows[0].resampled.n_clusters if together is not None and rows[0].resampled is not None else None,
        min(with_finding) if with_finding else None,
    )


def compared(first: Score, second: Score) -> Compared:
    """First minus second over the pretraining seeds that both have."""
    first, second = _shared(first, second)
    if len(first.by_seed) < FEWEST_CHECKPOINTS:
        n = len(first.by_seed)
        why = f"not tested: {n} pretraining seed{'s' * (n != 1)}, a sentence about a method needs {FEWEST_CHECKPOINTS}"
        return Compared(first.value - second.value if n else float("nan"), None, why, None, None, None)
    found = difference(first.scores, second.scores, "independent")
    runs = first.runs_variance + second.runs_variance
    drawn = sum(level.variance for level in found.levels if level.name == CHECKPOINTS)
    patients = [level.variance for level in found.levels if level.name == PATIENTS]
    return Compared(
        found.value,
        found,
        found.untested,
        max(drawn - runs, 0.0) ** 0.5,
        runs**0.5,
        patients[0] ** 0.5 if patients else None,
    )


def _shared(first: Score, second: Score) -> tuple[Score, Score]:
    both = [seed for seed in first.by_seed if seed in second.by_seed]
    cut = [_only(score, both) for score in (first, second)]
    if (cut[0].resampled is None) != (cut[1].resampled is None):
        cut = [Score(one.by_seed, None, None, one.n_with_finding) for one in cut]
    return cut[0], cut[1]


def _only(score: Score, seeds: Sequence[int]) -> Score:
    if list(score.by_seed) == list(seeds):
        return score
    columns = [list(score.by_seed).index(seed) for seed in seeds]
    resampled = None if score.resampled is None or not columns else score.resampled[:, columns]
    n_clusters = None if resampled is None else score.n_clusters
    return Score({seed: score.by_seed[seed] for seed in seeds}, resampled, n_clusters, score.n_with_finding)


def _together(each: Sequence[Resampled | None]) -> np.ndarray | None:
    known = [one for one in each if one is not None]
    if len(known) < len(each) or len({one.test for one in known}) > 1:
        return None
    return np.stack([one.mean for one in known], axis=1)


def _retrieval(study: Study) -> dict[tuple[Contender, str], Score]:
    """Of held-out pairs, at every count of pairs at which all seeds of a member looked. A start is the method's own: its towers are."""
    found: dict[Contender, dict[int, tuple[list[float], list[int]]]] = {}
    for member in study.members:
        made = study.making.made.get(member.label)
        if made is not None:
            for pairs, shares in made.held_out.items():
                found.setdefault((member.name, pairs), {})[member.seed] = (shares, made.patients)
    return {(contender, RETRIEVAL): _of_shares(by_seed) for contender, by_seed in found.items()}


def _of_shares(by_seed: Mapping[int, tuple[list[float], list[int]]]) -> Score:
    """Held-out images are resampled by patient; each keeps the reports that it was compared with."""
    patients = [of for _, of in by_seed.values()]
    scores: dict[int, tuple[float, ...]] = {seed: (float(np.mean(shares)),) for seed, (shares, _) in by_seed.items()}
    if any(of != patients[0] for of in patients) or len(set(patients[0])) < 2:
        return Score(scores, None, None, None)
    clusters = [str(patient) for patient in patients[0]]
    columns = [cluster_bootstrap(functools.partial(_weighted, np.array(shares)), clusters) for shares, _ in by_seed.values()]
    return Score(scores, np.stack(columns, axis=1), len(set(clusters)), None)


def _weighted(shares: np.ndarray, weights: np.ndarray) -> float | None:
    total = float(weights.sum())
    return float((shares * weights).sum()) / total if total else None
