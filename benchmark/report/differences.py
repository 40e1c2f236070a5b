"""What pretraining adds: each backbone against the untrained network of the same architecture, task by task.

The interval covers runs only (seeds), not the choice of test patients; that needs predictions and lives in `metrics`. A difference exists
only where both rows are complete and were made under one protocol, one scale and the same kind of data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmark.report import numbers
from benchmark.report.rows import Row


@dataclass(frozen=True)
class Gain:
    """Pre-trained minus untrained, as fractions; `paired` when the runs share their seeds."""

    trained: Row
    random: Row
    difference: numbers.Difference
    paired: bool

    @property
    def text(self) -> str:
        half = self.difference.half_width
        return numbers.signed_points(100 * self.difference.value, None if half is None else 100 * half)

    @property
    def reading(self) -> str:
        """What the interval says, in words, so that colour need not."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None:
            return "no interval: one run"
        return "higher" if low > 0 else "lower" if high < 0 else "not told apart"


def gains(rows: Iterable[Row]) -> list[Gain]:
    """Differences to the untrained row of the same architecture; rows without such a partner are left out."""
    rows = [row for row in rows if row.mean is not None]
    untrained = {(_place(row), row.variant): row for row in rows if row.random}
    return [_gain(row, untrained[_place(row), row.variant]) for row in rows if not row.random and (_place(row), row.variant) in untrained]


def _place(row: Row) -> tuple:
    return (row.task, row.split, row.metric, row.protocol, row.scale, row.phantom, row.architecture)


def _gain(trained: Row, random: Row) -> Gain:
    seeds = [[(run.run, run.head_seed, run.order_seed) for run in row.runs] for row in (trained, random)]
    if seeds[0] == seeds[1] and len(seeds[0]) > 1:
        return Gain(trained, random, numbers.paired_difference(trained.values, random.values), paired=True)
    spread = [numbers.standard_deviation(row.values) if len(row.values) > 1 else None for row in (trained, random)]
    difference = numbers.welch_difference(
        numbers.mean(trained.values), spread[0], len(trained.values), numbers.mean(random.values), spread[1], len(random.values)
    )
    return Gain(trained, random, difference, paired=False)
