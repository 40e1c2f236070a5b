"""Decides which unit starts next: of the units whose selection runs are known, the one expected to take longest. Starts no process itself.

The executors and the simulator ask the same object, so that what was simulated is what happens.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from benchmark.cards import Job, Record, Role
from benchmark.events import Event, Finished
from benchmark.execute.costs import Costs, Needs, batch_of
from benchmark.execute.work import Outcome, WorkUnit, outcome_of
from benchmark.faults import OUT_OF_MEMORY

PATIENCE = 64  # units that may overtake a longer one that needs more room; then room is left to form for it
MOST_GROWTH = 4  # doublings of what was not enough

Room = TypeVar("Room")


class Schedule:
    """A queue of units with the outcomes of selection runs.

    Args:
        units: in plan order.
        known: records of selection jobs stored by earlier runs.
        costs: expected times and needs.
        store_id: of the output folder, whose spools on nodes are looked through first.

    Attributes:
        n_units: how many units there were at the start.
    """

    def __init__(self, units: Iterable[WorkUnit], known: Iterable[Record] = (), costs: Costs | None = None, store_id: str = ""):
        self.costs, self.store_id = costs or Costs(), store_id
        self._outcomes: dict[str, Outcome] = {r.key: outcome_of(r) for r in known if r.job.experiment.role is Role.SELECTION}
        self._units: dict[int, WorkUnit] = {}  # those that have not started
        self._missing: dict[int, set[str]] = {}
        self._blocked: dict[str, list[int]] = defaultdict(list)  # by the key they wait for
        self._ready: dict[Needs, list[tuple[float, int]]] = {}  # by what they need, longest first
        self._overtaken: dict[int, int] = defaultdict(int)
        self._put_back: set[str] = set()  # jobs that ran out of memory, or had no device, and are tried again
        self._count = 0
        for unit in units:
            self.add(unit)
        self.n_units = self._count

    def add(self, unit: WorkUnit) -> None:
        """Queues a unit, also one that was taken before."""
        number, self._count = self._count, self._count + 1
        self._units[number] = unit
        own = {job.key for job in unit.jobs}
        self._missing[number] = {key for job in unit.jobs for key in job.depends_on} - own - self._outcomes.keys()
        for key in self._missing[number]:
            self._blocked[key].append(number)
        if not self._missing[number]:
            self._make_ready(number)

    def __len__(self) -> int:
        """Units that have not started."""
        return len(self._units)

    def keys(self) -> set[str]:
        """Jobs that have not started."""
        return {job.key for unit in self._units.values() for job in unit.jobs}

    def backbone_files(self) -> list[str]:
        """`file.py:function` of every backbone that is the user's own."""
        own = (unit for unit in self._units.values() if unit.jobs[0].experiment.backbone.family == "python_file")
        return sorted({unit.inputs.backbone_model for unit in own})

    def ready_needs(self, most: int) -> list[Needs]:
        """Returns the needs of units that could start now if there were room, at most `most` units of each kind of need."""
        return [needs for needs, heap in self._ready.items() for _, number in heap[:most] if number in self._units]

    def next(self) -> WorkUnit | None:
        """The next unit that can start, with the outcomes it needs; None when none can start now."""
        found = self.next_that_fits(lambda unit: True)
        return None if found is None else found[0]

    def next_that_fits(self, fit: Callable[[WorkUnit], Room | None]) -> tuple[WorkUnit, Room] | None:
        """The longest unit there is room for, and its room.

        A unit that needs more room than there is may be overtaken by shorter ones, but not for ever.

        Args:
            fit: takes room for a unit, or gives None.
        """
        tops = sorted((heap[0], needs) for needs, heap in self._ready.items() if self._top(needs) is not None)
        passed: list[int] = []
        for (_, number), needs in tops:
            unit = self.refreshed(self._units[number])
            room = fit(unit)
            if room is not None:
                heapq.heappop(self._ready[needs])
                del self._units[number]
                for waiting in passed:
                    self._overtaken[waiting] += 1
                return unit, room
            if self._overtaken[number] >= PATIENCE:
                return None
            passed.append(number)
        return None

    def refreshed(self, unit: WorkUnit) -> WorkUnit:
        """The unit with every outcome known by now that its jobs wait for."""
        needed = {key for job in unit.jobs for key in job.depends_on}
        if not needed:
            return unit
        return replace(unit, outcomes=tuple(self._outcomes[key] for key in sorted(needed) if key in self._outcomes))

    def drop(self, key: str) -> None:
        """Removes a job that is already done."""
        for number, unit in list(self._units.items()):
            left = tuple(job for job in unit.jobs if job.key != key)
            if len(left) < len(unit.jobs):
                if left:
                    self._units[number] = replace(unit, jobs=left)
                else:
                    del self._units[number]  # its entry in a heap is skipped

    def note(self, event: Event) -> None:
        """Records what a finished job cost, and the outcome of a selection job."""
        if not isinstance(event, Finished):
            return
        self._put_back.discard(event.record.key)
        self.costs.note(event.record, sum(map(len, event.files.values())))
        if event.record.job.experiment.role is Role.SELECTION:
            self.learn(outcome_of(event.record))

    def learn(self, outcome: Outcome) -> None:
        """Records the outcome of a selection job. Units that waited for no other become ready."""
        self._outcomes[outcome.key] = outcome
        for number in self._blocked.pop(outcome.key, ()):
            self._missing[number].discard(outcome.key)
            if not self._missing[number] and number in self._units:
                self._make_ready(number)

    def retry(self, unit: WorkUnit, event: Event, share: float) -> bool:
        """Puts a job that ran out of memory back with the next remedy; False when none is left, or something else failed it.

        A job that failed because its selection run was put back goes back too, and waits for it where it has not ended yet.

        Args:
            share: of its GPU it had; 1 when all of it, or on a CPU.
        """
        if not isinstance(event, Finished) or event.record.failure is None:
            return False
        job = event.record.job
        if event.record.failure.kind == OUT_OF_MEMORY:
            next_try = _with_more_room(replace(unit, jobs=(job,)), share)
        else:
            next_try = replace(unit, jobs=(job,)) if self._lacked(unit, job) else None
        if next_try is None:
            return False
        self.put_back(next_try, job)
        return True

    def _lacked(self, unit: WorkUnit, job: Job) -> bool:
        """Whether the job did not know the outcome of a selection run that was put back.

        A unit that starts again after its process was lost holds no job that has ended, and may have begun before that outcome came.
        """
        known = {outcome.key for outcome in unit.outcomes} | {one.key for one in unit.jobs}
        return bool(self._put_back.intersection(job.depends_on)) or not known.issuperset(job.depends_on)

    def put_back(self, unit: WorkUnit, job: Job) -> None:
        """Queues one job of a unit again, to be tried under other circumstances.

        Jobs that fail because its outcome is missing are queued again too (`retry`).
        """
        self._put_back.add(job.key)
        self.add(replace(unit, jobs=(job,)))

    def _make_ready(self, number: int) -> None:
        unit = self._units[number]
        heapq.heappush(self._ready.setdefault(self.costs.needs(unit), []), (-self.costs.unit_seconds(unit), number))

    def _top(self, needs: Needs) -> int | None:
        heap = self._ready[needs]
        while heap and heap[0][1] not in self._units:
            heapq.heappop(heap)
        return heap[0][1] if heap else None


def _with_more_room(unit: WorkUnit, share: float) -> WorkUnit | None:
    """A unit of one job with twice its share of a GPU; once it has it all, with batches in twice as many pieces, down to one image."""
    if share < 1 and unit.growth < MOST_GROWTH:
        return replace(unit, growth=unit.growth + 1)
    pieces, most = unit.options.micro_batches, batch_of(unit.jobs[0], unit.inputs)
    if pieces >= most:
        return None
    return replace(unit, options=replace(unit.options, micro_batches=min(2 * pieces, most)))
