"""Runs units in this process, one after another. Needs no Ray; the numbers are those of any other executor."""

from __future__ import annotations

from collections.abc import Iterator

from benchmark.execute.schedule import Schedule
from benchmark.execute.work import Event, run_unit


class InlineExecutor:
    """One unit at a time, in the order of the schedule."""

    name = "inline"

    def run(self, schedule: Schedule) -> Iterator[Event]:
        while (unit := schedule.next()) is not None:
            for event in run_unit(unit):
                schedule.note(event)
                yield event
