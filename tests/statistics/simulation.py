"""Experiments whose truth is known: how often a difference of nothing is called one, and how often intervals hold the true score.

Every experiment draws patients and runs anew, computes the metric of every run on all patients and on the leaderboard's resamples of them,
and asks `benchmark.statistics`. What is drawn, for both metrics:

- Two methods of equal worth see the same patients. A patient has a difficulty that both share; each method adds its own to each patient,
  and each run its own again (normal, on the logit scale).
- A run shifts all its patients by one normal number; its size is chosen so that the score of a run over endless patients has the wanted
  standard deviation. Runs of the two methods are paired and share nothing: what they shared would cancel.
- Truth is the score over endless patients, averaged over runs, by Gauss-Hermite quadrature instead of draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
from scipy import optimize, sparse, special

from benchmark.statistics.bootstrap import N_RESAMPLES, copies
from benchmark.statistics.difference import Cell, Difference, Scores, cells, differences
from benchmark.statistics.two_part import LEVEL

Metric = Literal["Dice", "mAP"]
METRICS: tuple[Metric, ...] = ("Dice", "mAP")
N_METHODS = 2
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_NODE_WEIGHTS = _NODE_WEIGHTS / _NODE_WEIGHTS.sum()


@dataclass(frozen=True)
class Setting:
    """One cell of the study.

    Attributes:
        n_patients: of the test split.
        run_points: standard deviation of a run's score over endless patients, in points (per cent).
    """

    metric: Metric
    n_patients: int
    run_points: float
    n_runs: int


@dataclass(frozen=True)
class Seen:
    """What N experiments of a setting showed.

    Attributes:
        p_values: (N,) of the difference of two methods of equal worth.
        covered: (N,) whether the interval of the first method's own cell holds its true score.
        differences, values: (N,) in points: first minus second, and the first alone.
        v_seed, v_patient: (N,) of the difference, in points squared.
        truth: true score of both, in points.
    """

    p_values: np.ndarray
    covered: np.ndarray
    differences: np.ndarray
    values: np.ndarray
    v_seed: np.ndarray
    v_patient: np.ndarray
    truth: float

    def rejected(self, level: float = LEVEL) -> float:
        """Share of experiments whose difference of nothing is called one."""
        return float(np.mean(self.p_values <= level))

    @property
    def coverage(self) -> float:
        return float(np.mean(self.covered))


def monte_carlo_error(n_experiments: int, share: float = LEVEL) -> float:
    """Standard error of a share that is counted in so many experiments."""
    return float(np.sqrt(share * (1 - share) / n_experiments))


def simulate(setting: Setting, n_experiments: int, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Seen:
    """Repeats an experiment; the same draws for the same arguments."""
    world = WORLDS[setting.metric]
    rng = np.random.default_rng([seed, METRICS.index(setting.metric), setting.n_patients, round(100 * setting.run_points), setting.n_runs])
    weights = _weights(setting.n_patients, n_resamples)
    of_runs = _run_deviation(setting.metric, setting.run_points / 100)
    compared: list[Difference] = []
    alone: list[Cell] = []
    for n in _batches(n_experiments, max(1, min(world.most_at_once, 40_000 // setting.n_patients))):
        shifts = of_runs * rng.standard_normal((n, N_METHODS, setting.n_runs))
        scores = 100 * world.scores(rng, shifts, setting.n_patients, weights)
        methods = [tuple(Scores(each[m, :, 0], each[m, :, 1:].T, setting.n_patients) for m in range(N_METHODS)) for each in scores]
        compared += differences([(first, second, "shared") for first, second in methods])
        alone += cells([first for first, _ in methods])
    truth = 100 * true_score(setting.metric, setting.run_points / 100)
    values, halves = np.array([cell.value for cell in alone]), np.array([cell.half_width for cell in alone], float)
    p_values, found = np.array([each.p_value for each in compared], float), np.array([each.value for each in compared])
    v_seed, v_patient = np.array([[level.variance for level in each.levels] for each in compared]).T
    return Seen(p_values, np.abs(values - truth) <= halves, found, values, v_seed, v_patient, truth)


def true_score(metric: Metric, run_deviation: float) -> float:
    """Mean over runs of the score over endless patients, as a fraction."""
    return float(WORLDS[metric].endless(_run_deviation(metric, run_deviation) * _NODES) @ _NODE_WEIGHTS)


class World(Protocol):
    """Patients, methods and a metric.

    Attributes:
        most_at_once: experiments whose resamples fit into little memory.
    """

    most_at_once: int

    def endless(self, shifts: np.ndarray) -> np.ndarray:
        """(N,) fractions: score over endless patients of runs with these shifts, (N,)."""

    def scores(self, rng: np.random.Generator, shifts: np.ndarray, n_patients: int, weights: np.ndarray) -> np.ndarray:
        """(E, 2, n, R + 1) fractions of E experiments with shifts (E, 2, n): on the patients themselves, then in (P, R) resamples."""


# Standard deviations on the logit scale: of a patient's difficulty, of a method on a patient, of a run on a patient.
OF_PATIENT, OF_METHOD, OF_RUN = 0.8, 0.5, 0.4
_OF_ALL = float(np.hypot(np.hypot(OF_PATIENT, OF_METHOD), OF_RUN))


def _ease(rng: np.random.Generator, n_experiments: int, n_runs: int, n_patients: int) -> np.ndarray:
    """(E, 2, n, P) float32: how easy each patient is for each run, 0 on average."""

    def normal(deviation: float, *shape: int) -> np.ndarray:
        return np.float32(deviation) * rng.standard_normal((n_experiments, *shape, n_patients), np.float32)

    return normal(OF_PATIENT, 1, 1) + normal(OF_METHOD, N_METHODS, 1) + normal(OF_RUN, N_METHODS, n_runs)


class Dice:
    """Micro-Dice of masks, near 59 %; half of the patients are ill.

    An ill patient has a mask of lognormal size, 1 on average. A run finds the share expit(SKILL + ease + shift) of it and marks as false
    WASTE (1 - share); on a healthy patient it marks WASTE expit(ease - CALM).
    """

    most_at_once = 100
    ILL, SKILL, SIZE, WASTE, CALM = 0.5, 0.11, 0.7, 0.35, 1.5

    def endless(self, shifts: np.ndarray) -> np.ndarray:
        ease = _OF_ALL * _NODES
        found = special.expit(self.SKILL + ease + shifts[:, None]) @ _NODE_WEIGHTS
        healthy = special.expit(ease - self.CALM) @ _NODE_WEIGHTS
        false = self.WASTE * (self.ILL * (1 - found) + (1 - self.ILL) * healthy)
        return 2 * self.ILL * found / (self.ILL * found + false + self.ILL)

    def scores(self, rng: np.random.Generator, shifts: np.ndarray, n_patients: int, weights: np.ndarray) -> np.ndarray:
        n_experiments, _, n_runs = shifts.shape
        ease = _ease(rng, n_experiments, n_runs, n_patients)
        size = np.exp(self.SIZE * rng.standard_normal((n_experiments, 1, 1, n_patients), np.float32) - np.float32(self.SIZE**2 / 2))
        truth = np.where(rng.random(size.shape, np.float32) < self.ILL, size, np.float32(0))
        share = special.expit(np.float32(self.SKILL) + ease + shifts[..., None].astype(np.float32))
        hit = share * truth
        false = np.float32(self.WASTE) * np.where(truth > 0, 1 - share, special.expit(ease - np.float32(self.CALM)))
        hits, marked_and_true = ((each.reshape(-1, n_patients) @ weights).reshape(*shifts.shape, -1) for each in (hit, hit + false + truth))
        return 2.0 * hits / marked_and_true


class MeanAP:
    """Detection, AP near 27 %, averaged over three thresholds of overlap; 40 % of the patients are ill.

    An ill patient has one box, or two with chance SECOND. A run finds a box with chance expit(SKILL + ease + shift), with a confidence of
    logit SURE (ease + shift) + noise, and an overlap that passes a threshold where FIT (ease + shift) + noise exceeds its entry of PASSES.
    Every patient has a Poisson number of false boxes, FALSE on average, of logit confidence LURE + HARD hardness + noise, with a hardness
    that all runs share. Confidences are rounded to steps of half a logit, equal ones count together; precision is made to fall.
    """

    most_at_once = 4
    ILL, SECOND, SKILL, SURE, FIT = 0.4, 0.3, 0.8, 1.0, 0.5
    PASSES = (-1.4, -0.6, 0.45)
    FALSE, LURE, HARD = 0.45, -1.0, 0.6
    EDGES = np.arange(4.0, -4.25, -0.5)  # lower ends of the steps from the surest; the last takes all that is left

    def endless(self, shifts: np.ndarray) -> np.ndarray:
        eased = _OF_ALL * _NODES + shifts[:, None]  # (N, nodes)
        found = special.expit(self.SKILL + eased)[:, :, None] * special.ndtr(self.SURE * eased[:, :, None] - self._edges())
        passed = special.ndtr(self.FIT * eased[:, :, None] - np.array(self.PASSES))
        boxes = self.ILL * (1 + self.SECOND)
        true = boxes * np.einsum("nqg,nqk,q->nkg", found, passed, _NODE_WEIGHTS)
        marked = boxes * np.einsum("nqg,q->ng", found, _NODE_WEIGHTS) + self.FALSE * special.ndtr(
            (self.LURE - self._edges()) / np.hypot(1, self.HARD)
        )
        return average_precision(true[..., None], marked[:, None, :, None], np.float64(boxes)).mean(axis=1)[:, 0]

    def _edges(self) -> np.ndarray:
        return np.r_[self.EDGES[:-1], -np.inf]

    def scores(self, rng: np.random.Generator, shifts: np.ndarray, n_patients: int, weights: np.ndarray) -> np.ndarray:
        n_experiments, _, n_runs = shifts.shape
        n_steps, n_passes = len(self.EDGES), len(self.PASSES)
        eased = _ease(rng, n_experiments, n_runs, n_patients) + shifts[..., None].astype(np.float32)
        ill = rng.random((n_experiments, n_patients)) < self.ILL
        second = ill & (rng.random(ill.shape) < self.SECOND)

        def boxes(there: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            """Position in `eased`, step of confidence and number of thresholds passed of the boxes that are found."""
            chance = special.expit(np.float32(self.SKILL) + eased)
            position = np.flatnonzero((rng.random(eased.shape, np.float32) < chance) & there[:, None, None, :])
            at = eased.ravel()[position]
            passed = (self.FIT * at + rng.standard_normal(len(at)))[:, None] > np.array(self.PASSES)
            return position, self._step(self.SURE * at + rng.standard_normal(len(at))), passed.sum(axis=1)

        hardness = np.broadcast_to(self.HARD * rng.standard_normal((n_experiments, 1, 1, n_patients)), eased.shape).ravel()
        position = np.repeat(np.arange(eased.size), rng.poisson(self.FALSE, eased.size))
        false = (position, self._step(self.LURE + hardness[position] + rng.standard_normal(len(position))), np.zeros(len(position), int))
        position, step, passed = (np.concatenate(each) for each in zip(boxes(ill), boxes(second), false, strict=True))

        run, patient = np.divmod(position, n_patients)
        line = (run * (n_passes + 1) + passed) * n_steps + step
        n_lines = shifts.size * (n_passes + 1) * n_steps
        counted = sparse.csr_array((np.ones(len(line), np.float32), (line, patient)), shape=(n_lines, n_patients)) @ weights
        counted = counted.reshape(*shifts.shape, n_passes + 1, n_steps, -1)
        _accumulate(counted, -2, range(n_steps))  # at least so sure
        _accumulate(counted, -3, reversed(range(n_passes + 1)))  # passing a threshold is passing all before it
        n_boxes = (ill.astype(np.float32) + second) @ weights
        marked, true = counted[..., :1, :, :], counted[..., 1:, :, :]
        return average_precision(true, marked, n_boxes[:, None, None, None, :]).mean(axis=-2)

    def _step(self, logit: np.ndarray) -> np.ndarray:
        return np.clip(np.ceil((self.EDGES[0] - logit) / 0.5), 0, len(self.EDGES) - 1).astype(int)


def average_precision(true: np.ndarray, marked: np.ndarray, n_boxes: np.ndarray) -> np.ndarray:
    """Area under precision over recall, precision made to fall.

    Args:
        true: (..., G, R) boxes found at G falling thresholds of confidence, in R resamples.
        marked: (..., G, R) all that is marked there.
        n_boxes: (..., R) boxes there are.

    Returns:
        (..., R).
    """
    total, best = 0.0, 0.0
    for step in reversed(range(true.shape[-2])):
        precision = true[..., step, :] / np.maximum(marked[..., step, :], 1e-9)
        best = np.maximum(best, precision)
        total = total + best * (true[..., step, :] - (true[..., step - 1, :] if step else 0))
    return total / np.maximum(n_boxes, 1e-9)


def _accumulate(counts: np.ndarray, axis: int, order: Iterable[int]) -> None:
    """Adds up along an axis in place; numpy's own sum over any axis but the last takes ten times as long."""
    for before, after in pairwise(order):
        np.moveaxis(counts, axis, 0)[after] += np.moveaxis(counts, axis, 0)[before]


WORLDS: dict[Metric, World] = {"Dice": Dice(), "mAP": MeanAP()}


@cache
def _run_deviation(metric: Metric, wanted: float) -> float:
    """Standard deviation of a run's shift that gives its score over endless patients the wanted one, as a fraction."""
    if wanted == 0:
        return 0.0

    def spread(deviation: float) -> float:
        scores = WORLDS[metric].endless(deviation * _NODES)
        return float(np.sqrt(np.maximum(np.square(scores) @ _NODE_WEIGHTS - (scores @ _NODE_WEIGHTS) ** 2, 0)))

    return float(optimize.brentq(lambda deviation: spread(deviation) - wanted, 0.0, 2.0))


@cache
def _weights(n_patients: int, n_resamples: int) -> np.ndarray:
    """(P, 1 + R) float32: each patient once, then the leaderboard's resamples, which are one list for all."""
    drawn = copies([f"patient {i}" for i in range(n_patients)], n_resamples)
    return np.ascontiguousarray(np.vstack([np.ones(n_patients), drawn]).T.astype(np.float32))


def _batches(n: int, size: int) -> Iterator[int]:
    for start in range(0, n, size):
        yield min(size, n - start)
