"""The search for a learning rate: which seeds try it, which rate wins, whether the grid was wide enough, and how sure the choice is.

Pure: planning asks for seeds, executors for winners. Validation alone decides, and nothing here ever sees a test metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmark.cards import Choice, Protocol, Record, Role, Switches, TaskCard
from benchmark.errors import TrainingError

BASE_SEED = 12345  # LoVT, configs/base_config.yaml; run r of any task has BASE_SEED + r
N_SEEDS = {"one-seed": 1, "two-seeds": 2}
STEP = math.sqrt(10)  # between two rates of a protocol's grid
DIGITS = 3  # of a rate beyond the edge


def seeds(switches: Switches) -> tuple[int, ...]:
    """Seeds of the runs that try each rate. One: that of the first reported run, as LoVT. Two: below those of any reported run."""
    if switches.selection == "one-seed":
        return (BASE_SEED,)
    return tuple(BASE_SEED - k for k in range(N_SEEDS[switches.selection], 0, -1))


def n_runs(protocol: Protocol, task: TaskCard) -> int:
    """Runs of a task's search, those beyond the edge of its grid included, which may not be needed; 0 where nothing is searched."""
    grid, tries = protocol.grid_of(task.head, task.encoder) or task.recipe.grid, len(seeds(protocol.switches))
    return tries * (len(grid) + (protocol.switches.grid_edge == "extended")) if len(grid) > 1 else 0


def select_learning_rate(grid: Sequence[float], values: Mapping[float, float]) -> float:
    """The grid's learning rate with the strictly largest validation value; the earlier entry wins a tie (LoVT 1.2)."""
    return max(grid, key=lambda rate: (values[rate], -grid.index(rate)))


def winner(grid: Sequence[float], values: Mapping[float, Sequence[float]]) -> float:
    """`select_learning_rate` by the mean over the selection runs of each rate."""
    return select_learning_rate(grid, {rate: fmean(of_rate) for rate, of_rate in values.items()})


def beyond(grid: Sequence[float], rate: float) -> float | None:
    """The rate one step beyond the edge on which a rate lies; None for one inside."""
    if rate == max(grid):
        return _rounded(rate * STEP)
    if rate == min(grid):
        return _rounded(rate / STEP)
    return None


@dataclass(frozen=True)
class Try:
    """A selection run that ended.

    Attributes:
        rate: None for one beyond the edge of the grid, which follows from the others.
        value: of the selection metric; None where training failed, as at a rate that is too high.
    """

    rate: float | None
    value: float | None


def failed_in_training(record: Record) -> bool:
    """Whether the training of a selection run failed, and not something that says nothing of its rate."""
    return record.failure is not None and record.failure.kind == TrainingError.__name__


def is_out(record: Record) -> bool:
    """True of a selection run whose rate cannot win because training failed there: the search goes on, and nothing is to be mended."""
    experiment = record.job.experiment
    return experiment.role is Role.SELECTION and experiment.switches.selection == "two-seeds" and failed_in_training(record)


def try_of(record: Record) -> Try:
    """A selection run on record, of those that were needed."""
    experiment = record.job.experiment
    return Try(experiment.learning_rate, record.validation.get(experiment.select) if record.status == "ok" else None)


def choice_of(grid: Sequence[float], tries: Iterable[Try]) -> Choice | None:
    """What selection runs come to, those of one rate in the order of their seeds; None where training failed at every rate of the grid.

    A rate at which one run failed is out. Runs beyond the edge stand beside those of the grid where they were needed.
    """
    tried: dict[float | None, list[float | None]] = {}
    for one in tries:
        tried.setdefault(one.rate, []).append(one.value)
    further = tried.pop(None, None)
    values = {rate: [v for v in found if v is not None] for rate, found in tried.items() if rate is not None and None not in found}
    failed = [rate for rate in tried if rate is not None and rate not in values]
    if not values:
        return None
    edge = None if further is None else beyond(grid, winner(list(values), values))
    if edge is not None and further is not None:
        if None in further:
            failed.append(edge)
        else:
            values[edge] = [v for v in further if v is not None]
    return choice(grid, values, failed)


def choice(grid: Sequence[float], values: Mapping[float, Sequence[float]], failed: Sequence[float] = ()) -> Choice:
    """What was tried, and how sure its winner is.

    Another rate within one standard error of the winner leaves the choice uncertain. The standard error is that of the mean difference
    over the selection runs, which are paired by seed; with two runs another rate is within it exactly where one of them is as good.

    Args:
        grid: of the protocol or the task, in the order tried.
        values: rate -> selection metric of each run, in the order of their seeds; also of a rate beyond the grid's edge, if it was tried.
        failed: rates at which the training of a run failed; they cannot win.
    """
    rates = (*(rate for rate in grid if rate in values), *(rate for rate in values if rate not in grid))
    best = winner(rates, values)
    return Choice(
        rates=rates,
        values=tuple(tuple(values[rate]) for rate in rates),
        failed=tuple(failed),
        beyond=next((rate for rate in (*values, *failed) if rate not in grid), None),
        uncertain=any(_is_near(values[best], values[rate]) for rate in rates if rate != best),
    )


def chosen(made: Choice) -> float:
    """The rate that a choice comes to."""
    return winner(made.rates, dict(zip(made.rates, made.values, strict=True)))


def sentences(made: Choice) -> tuple[str, ...]:
    """What a reader of a row should know of the choice."""
    said = []
    if made.beyond is not None:
        said.append(f"learning rate on the edge of the grid: one step beyond was tried, {made.beyond:g}, and {chosen(made):g} chosen")
    if made.uncertain:
        said.append("choice uncertain: another learning rate is within one standard error of the chosen one on validation")
    return tuple(said)


def _is_near(best: Sequence[float], other: Sequence[float]) -> bool:
    differences = [b - o for b, o in zip(best, other, strict=True)]
    n, mean = len(differences), fmean(differences)
    # mean <= s / sqrt(n), in a form that is exact where two runs tie; one run has no standard error.
    return n > 1 and mean**2 * n * (n - 1) <= sum((d - mean) ** 2 for d in differences)


def _rounded(rate: float) -> float:
    return float(f"{rate:.{DIGITS}g}")
