"""Runs units in this process, one after another. Needs no Ray; the numbers are those of any other executor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmark.events import Event, Finished
from benchmark.execute import spool
from benchmark.execute.equipment import DeviceChoice, Equipment, equip, this_machine
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import run_unit


class InlineExecutor:
    """One unit at a time, in the order of the schedule."""

    name = "inline"

    def equipment(self, asked: DeviceChoice) -> Equipment:
        """What this process has."""
        return replace(equip(asked, [this_machine(asked)], "this machine", may_grow=False), at_once=1)

    def close(self) -> None:
        """Nothing was opened."""

    def run(self, schedule: Schedule) -> Iterator[Event]:
        """Events as they happen. Asking for the next one says that the last is stored: only then is it forgotten here."""
        for record, files in spool.waiting(schedule.store_id, schedule.keys()):
            schedule.drop(record.key)
            yield from self._publish(schedule, Finished(record, files))
        while (unit := schedule.next()) is not None:
            for event in run_unit(unit):
                if not schedule.retry(unit, event, share=1.0):
                    yield from self._publish(schedule, event)

    def _publish(self, schedule: Schedule, event: Event) -> Iterator[Event]:
        schedule.note(event)
        yield event
        if isinstance(event, Finished):
            spool.forget(schedule.store_id, [event.record.key])
