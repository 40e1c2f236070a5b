"""Sources of chance in a number: what was drawn (runs, checkpoints, test patients), the variance it adds, and how well that is known.

A number carries a list of levels, so that a study which draws one thing more adds a level and changes no rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmark.errors import UsageError
from benchmark.statistics.two_part import Component, satterthwaite

RUNS = "runs"  # head seed, data order and label draw of a protocol's runs
CHECKPOINTS = "pretraining"  # checkpoints of one recipe, pretrained from different seeds
PATIENTS = "patients"  # of the test split

FEWEST_CHECKPOINTS = 3
MOST_UNDEFINED = 0.05  # share of resamples that may leave a metric undefined

Seeds = Literal["shared", "independent"]  # of two methods: run i of both has the same label draw and seed, or has not


@dataclass(frozen=True)
class Level:
    """One source of chance.

    Attributes:
        name: what is drawn; `PATIENTS` is kept apart from all others (`two_parts`).
        variance: of the estimate over draws, in its unit squared.
        freedom: degrees of freedom behind the variance.
    """

    name: str
    variance: float
    freedom: float

    @property
    def component(self) -> Component:
        return self.variance, self.freedom


def two_parts(levels: Sequence[Level]) -> tuple[Component, Component]:
    """What `two_part_p` takes: all that training draws, and the test patients.

    The patients' level keeps its own Student t: their variance is known from many, while runs and checkpoints are few. Further levels are
    summed with Satterthwaite's degrees of freedom, as two methods' own runs and several datasets' runs are. A part that is not there has
    variance 0.
    """
    drawn = satterthwaite([level.component for level in levels if level.name != PATIENTS])
    return drawn, satterthwaite([level.component for level in levels if level.name == PATIENTS])


def seed_components(first: Sequence[float], second: Sequence[float], seeds: Seeds) -> list[Component]:
    """V_seed of the difference of two means over runs, as (variance, degrees of freedom) pairs.

    Args:
        first, second: (n,) value of each run.
        seeds: "shared" when run i of both used the same subset and seed: s_d^2 / n of the paired differences; otherwise
            s_A^2 / n_A and s_B^2 / n_B.

    Raises:
        UsageError: fewer than two runs, or shared seeds with unequal numbers of runs.
    """
    if seeds == "independent":
        return [run_component(first), run_component(second)]
    if len(first) != len(second):
        raise UsageError(f"Shared seeds pair the runs one by one, but there are {len(first)} and {len(second)}.")
    return [run_component(np.subtract(first, second))]


def run_component(values: Sequence[float] | np.ndarray) -> Component:
    """Variance of the mean of n runs, s^2 / n, with n - 1 degrees of freedom.

    Raises:
        UsageError: fewer than two runs.
    """
    if len(values) < 2:
        raise UsageError(f"An interval over runs needs at least two runs, found {len(values)}.")
    return float(np.std(values, ddof=1)) ** 2 / len(values), len(values) - 1


def checkpoints_level(means: Sequence[float]) -> Level:
    """Level of a recipe of which several checkpoints were measured: s^2 / k of their means over runs, k - 1 degrees of freedom.

    It stands in the place of `RUNS`, whose variance is part of the means'.

    Args:
        means: (k,) mean over runs of each checkpoint.

    Raises:
        UsageError: fewer than three checkpoints; a sentence about a method needs as many, one about a checkpoint needs no such level.
    """
    if len(means) < FEWEST_CHECKPOINTS:
        raise UsageError(
            f"A recipe is judged by at least {FEWEST_CHECKPOINTS} of its checkpoints, found {len(means)}. With fewer, name the checkpoint "
            "instead of the recipe and leave this level out."
        )
    return Level(CHECKPOINTS, *run_component(means))


def distinct_runs(values: Sequence[float]) -> list[float]:
    """The values without repetitions, in order: identical runs are one run counted twice and shrink an interval for nothing."""
    return list(dict.fromkeys(values))


def resampled_variance(values: Sequence[float] | np.ndarray) -> float | None:
    """Sample variance of the defined values; None with fewer than two, or where more than one in twenty is undefined (NaN)."""
    given = np.asarray(values, np.float64)
    kept = given[~np.isnan(given)]
    if len(kept) < 2 or len(kept) < (1 - MOST_UNDEFINED) * len(given):
        return None
    return float(kept.var(ddof=1))
