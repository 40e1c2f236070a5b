"""The headline: how far a backbone lies above the median reference backbone, in units of the references' own spread.

Averaged over a dataset's tasks, over the datasets of one source, then over sources, so that neither many tasks nor many copies of one
collection of images weigh more. Differences of headlines are taken run by run and resample by resample. The panel (`panel`) is held fixed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.cards import Contamination
from benchmark.errors import UsageError
from benchmark.statistics.levels import PATIENTS, RUNS, Level, Seeds, two_parts
from benchmark.statistics.panel import Panel
from benchmark.statistics.testable import why_untested
from benchmark.statistics.two_part import Components, satterthwaite, satterthwaite_of_many, two_part_half_width, two_part_p

Shape = tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int, int], ...]]

Z_LIMIT = 3.0
MOST_CLIPPED = 0.25  # share of a row's cells; beyond it the panel's scale does not reach the row
SEEN = frozenset({Contamination.IMAGES, Contamination.LABELS, Contamination.UNKNOWN})  # such a cell is shown, and never averaged away


@dataclass(frozen=True)
class Measured:
    """One task of one row.

    Attributes:
        dataset: whose test patients it is scored on.
        runs: (n,) score of each run, or of each checkpoint's mean over runs.
        resampled: (R,) mean over runs in resamples of the patients, the same draws for all tasks and rows; undefined nowhere.
        n_patients: in the list that is resampled.
        patients: name of a list that several datasets have patients of; empty for the dataset's own.
        drawn: another run would draw something anew; False for the one evaluation of fixed weights.
        n_with_finding: test images that show the finding; None where unknown.
    """

    dataset: str
    runs: np.ndarray
    resampled: np.ndarray
    n_patients: int
    patients: str = ""
    drawn: bool = True
    n_with_finding: int | None = None


@dataclass(frozen=True)
class Headline:
    """A row's headline and what its uncertainty is made of.

    Attributes:
        by_task: z = (mean score - panel median) / panel IQR, turned where lower is better, clipped to +-3.
        by_dataset: mean z over the tasks of a dataset.
        value: mean of `by_dataset` over the datasets of a source, then over sources.
        runs: dataset -> (n,) its share of the headline in each run, a clipped task held at 0; without datasets on which nothing is drawn.
        resampled: list of patients -> (R,) its share of the headline in resamples, each z clipped.
        n_patients: list of patients -> their number; the smallest that a dataset has of a list.
        n_with_finding: the fewest test images with the finding that a task has; None where no task says.
    """

    by_task: dict[str, float]
    by_dataset: dict[str, float]
    value: float
    runs: dict[str, np.ndarray]
    resampled: dict[str, np.ndarray]
    n_patients: dict[str, int]
    n_with_finding: int | None = None

    @property
    def n_clipped(self) -> int:
        return sum(abs(z) == Z_LIMIT for z in self.by_task.values())

    @property
    def off_scale(self) -> bool:
        """So many cells are clipped that little variance is left: such a row prints "off scale" and no interval."""
        return self.n_clipped > MOST_CLIPPED * len(self.by_task)

    @property
    def shape(self) -> Shape:
        """What two headlines must have in common to be subtracted: (dataset, runs), and (list, its patients, resamples)."""
        of_runs = tuple((name, len(each)) for name, each in sorted(self.runs.items()))
        return of_runs, tuple((name, n, len(self.resampled[name])) for name, n in sorted(self.n_patients.items()))

    @property
    def levels(self) -> tuple[Level, ...]:
        """V_seed = sum over datasets of s^2 / n, V_patient = sum over lists of patients of the variance over resamples; both of the shares.

        Raises:
            UsageError: one run; nothing is known of another.
        """
        return _levels(self.runs, self.resampled, self.n_patients)

    @property
    def half_width(self) -> float | None:
        """One of `half_widths`."""
        return half_widths([self])[0]


def half_widths(headlines: Sequence[Headline]) -> list[float | None]:
    """Of the 95 % intervals over runs and patients, all at once; None off scale, and for one run."""
    told = [i for i, one in enumerate(headlines) if not one.off_scale and min(map(len, one.runs.values()), default=2) >= 2]
    parts = np.array([two_parts(headlines[i].levels) for i in told], np.float64).reshape(-1, 2, 2)
    found = two_part_half_width((parts[:, 0, 0], parts[:, 0, 1]), (parts[:, 1, 0], parts[:, 1, 1]))
    known = dict(zip(told, found.tolist(), strict=True))
    return [known.get(i) for i in range(len(headlines))]


@dataclass(frozen=True)
class Pairs:
    """Differences of K headlines.

    Attributes:
        values: (K, K) row minus column.
        p_values: (K, K) two-part p, unadjusted, symmetric, 1 on the diagonal. 1 also for two rows off scale on one side: nothing is known
            of their order. NaN everywhere where nothing is tested.
        untested: why nothing is tested; empty where something is.
        of_runs, of_patients: variance and degrees of freedom of each pair above the diagonal; None where nothing is tested.
    """

    values: np.ndarray
    p_values: np.ndarray
    untested: str
    of_runs: Components | None = None
    of_patients: Components | None = None

    @cached_property
    def half_widths(self) -> np.ndarray:
        """(K, K) of the 95 % intervals; NaN where nothing is known, 0 on the diagonal. Takes ten times as long as the p-values."""
        if self.of_runs is None or self.of_patients is None:
            return np.full(self.values.shape, np.nan)
        upper = np.triu_indices(len(self.values), k=1)
        found = np.zeros(self.values.shape)
        found[upper] = two_part_half_width(self.of_runs, self.of_patients)
        found.T[upper] = found[upper]
        return found


def why_no_headline(measured: Collection[str], panel: Panel, seen: Mapping[str, Contamination] | None = None) -> str:
    """A sentence that names what a row lacks for a headline; empty where it lacks nothing.

    Args:
        measured: tasks with a complete cell.
        seen: task -> what pretraining saw of the task's dataset; what is left out was not seen. Images, labels and unknown count as seen.
    """
    missing = [task for task in panel.by_task if task not in measured]
    leaked = [f"{task} ({seen[task].value})" for task in panel.by_task if seen and task in seen and seen[task] in SEEN]
    told = []
    if missing:
        told.append(f"not measured: {', '.join(missing)}")
    if leaked:
        told.append(f"pretraining has or may have seen the data of: {', '.join(leaked)}")
    return f"no headline; {'; '.join(told)}" if told else ""


def uneven(measured: Mapping[str, Measured]) -> dict[str, list[str]]:
    """Dataset -> its tasks, where they differ in their number of runs or in their test patients: then they have no mean run by run."""
    return {name: tasks for name, tasks in _tasks_of(measured).items() if len({_shape_of(measured[task]) for task in tasks}) > 1}


def headline(
    measured: Mapping[str, Measured],
    panel: Panel,
    *,
    seen: Mapping[str, Contamination] | None = None,
    sources: Mapping[str, str] | None = None,
) -> Headline:
    """The headline of one row.

    A dataset weighs 1 / (S n), with S sources and n datasets in its own. In run r its share of the headline is that weight times the mean
    over its tasks of (x_r - median) / IQR, 0 for a clipped task.

    Args:
        measured: task -> its scores: all tasks of the panel, and no other.
        seen: as for `why_no_headline`.
        sources: dataset -> collection of images that it was drawn from; a dataset left out is a source of its own.

    Raises:
        UsageError: the row lacks a task, has seen one, or has one more than the panel; or its tasks are `uneven`.
    """
    lacking = why_no_headline(measured, panel, seen)
    if lacking:
        raise UsageError(f"There is {lacking}. Check with `why_no_headline` first, or take `Panel.only` some tasks.")
    strange = sorted(set(measured) - set(panel.by_task))
    if strange:
        raise UsageError(f"A headline averages exactly the panel's tasks; unknown: {', '.join(strange)}.")
    for dataset, tasks in uneven(measured).items():
        raise UsageError(f"The tasks {', '.join(tasks)} of {dataset} differ in their number of runs or in their test patients.")
    tasks_of = _tasks_of(measured)
    weights = _weights(list(tasks_of), sources or {})

    by_task: dict[str, float] = {}
    runs: dict[str, np.ndarray] = {}
    resampled: dict[str, np.ndarray] = {}
    n_patients: dict[str, int] = {}
    for dataset, tasks in tasks_of.items():
        one = measured[tasks[0]]
        patients = one.patients or dataset
        n_patients[patients] = min(one.n_patients, n_patients.get(patients, one.n_patients))
        shares = []
        for task in tasks:
            each, drawn = (panel.by_task[task].z(scores) for scores in (measured[task].runs, measured[task].resampled))
            by_task[task] = float(np.clip(each.mean(), -Z_LIMIT, Z_LIMIT))
            shares.append((each if abs(by_task[task]) < Z_LIMIT else np.zeros(len(each)), np.clip(drawn, -Z_LIMIT, Z_LIMIT)))
        of_runs, of_patients = (weights[dataset] * np.mean(each, axis=0) for each in zip(*shares, strict=True))
        if one.drawn:
            runs[dataset] = of_runs
        resampled[patients] = resampled.get(patients, 0) + of_patients
    by_task = {task: by_task[task] for task in panel.by_task}
    by_dataset = {dataset: float(np.mean([by_task[task] for task in tasks])) for dataset, tasks in tasks_of.items()}
    value = sum(weights[dataset] * z for dataset, z in by_dataset.items())
    n_with_finding = min((one.n_with_finding for one in measured.values() if one.n_with_finding is not None), default=None)
    return Headline(by_task, by_dataset, value, runs, resampled, n_patients, n_with_finding)


def all_pairs(headlines: Sequence[Headline], seeds: Seeds = "shared") -> Pairs:
    """Differences of all pairs of headlines, run by run and resample by resample.

    Args:
        headlines: of rows over the same tasks, with the same numbers of runs and resamples.
        seeds: "shared" where the protocol gives run r of all rows the same label draw and seed. Checkpoints of recipes are "independent".

    Raises:
        UsageError: rows over other datasets or patients, or with other numbers of runs or resamples.
    """
    n_rows = len(headlines)
    values = np.array([one.value for one in headlines])
    table = values[:, None] - values[None, :]
    if n_rows == 0:
        return Pairs(table, table, "")
    first = headlines[0]
    for one in headlines:
        if one.shape != first.shape:
            raise UsageError(
                f"Headlines are compared over the same datasets, runs, patients and resamples; one row has {first.shape}, "
                f"another {one.shape}."
            )
    n_runs = min(map(len, first.runs.values()), default=None)
    n_with_finding = min((one.n_with_finding for one in headlines if one.n_with_finding is not None), default=None)
    untested = why_untested(n_runs, min(first.n_patients.values()), n_with_finding)
    if untested:
        return Pairs(table, np.full(table.shape, np.nan), untested)

    upper = np.triu_indices(n_rows, k=1)
    drawn = [component for dataset in first.runs for component in _run_parts(np.stack([one.runs[dataset] for one in headlines]), seeds)]
    patient = [(_variance_of_pairs(np.stack([one.resampled[name] for one in headlines])), n - 1) for name, n in first.n_patients.items()]
    nothing_drawn = (np.zeros(len(upper[0])), 1)
    of_runs, of_patients = satterthwaite_of_many(drawn or [nothing_drawn]), satterthwaite_of_many(patient)
    p_values = np.ones(table.shape)
    p_values[upper] = two_part_p(table[upper], of_runs, of_patients)
    off = np.array([np.sign(one.value) if one.off_scale else 0 for one in headlines])
    unknown = ((off[:, None] * off[None, :]) > 0)[upper]
    p_values[upper] = np.where(unknown, 1.0, p_values[upper])
    p_values.T[upper] = p_values[upper]
    return Pairs(table, p_values, "", (np.where(unknown, np.nan, of_runs[0]), of_runs[1]), of_patients)


def _tasks_of(measured: Mapping[str, Measured]) -> dict[str, list[str]]:
    """Dataset -> its tasks."""
    found: dict[str, list[str]] = {}
    for task, one in measured.items():
        found.setdefault(one.dataset, []).append(task)
    return found


def _shape_of(one: Measured) -> tuple[int, int, str, bool]:
    return len(one.runs), one.n_patients, one.patients, one.drawn


def _weights(datasets: Sequence[str], sources: Mapping[str, str]) -> dict[str, float]:
    """Dataset -> its weight in a headline: alike for sources, then for the datasets of a source."""
    source_of = {dataset: sources.get(dataset, dataset) for dataset in datasets}
    members = list(source_of.values())
    return {dataset: 1 / (len(set(members)) * members.count(source)) for dataset, source in source_of.items()}


def _levels(runs: Mapping[str, np.ndarray], resampled: Mapping[str, np.ndarray], n_patients: Mapping[str, int]) -> tuple[Level, ...]:
    if min(map(len, runs.values()), default=2) < 2:
        raise UsageError("The variance over runs needs at least two runs of every task.")
    seed = [(float(np.var(each, ddof=1)) / len(each), len(each) - 1) for each in runs.values()]
    patient = [(float(np.var(drawn, ddof=1)), n_patients[name] - 1) for name, drawn in resampled.items()]
    of_runs = (Level(RUNS, *satterthwaite(seed)),) if seed else ()
    return (*of_runs, Level(PATIENTS, *satterthwaite(patient)))


def _run_parts(runs: np.ndarray, seeds: Seeds) -> list[tuple[np.ndarray, int]]:
    """Variances of the differences of (K, n) means over runs, per pair above the diagonal, and their degrees of freedom."""
    n_runs = runs.shape[1]
    if seeds == "shared":
        return [(_variance_of_pairs(runs) / n_runs, n_runs - 1)]
    own = runs.var(axis=1, ddof=1) / n_runs
    return [(own[side], n_runs - 1) for side in np.triu_indices(len(runs), k=1)]


def _variance_of_pairs(drawn: np.ndarray) -> np.ndarray:
    """Variance over draws of the difference of every two lines of (K, R), in the order of the upper triangle."""
    found = [(drawn[row] - drawn[row + 1 :]).var(axis=1, ddof=1) for row in range(len(drawn) - 1)]
    return np.concatenate(found) if found else np.empty(0)
