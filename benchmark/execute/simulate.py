"""The schedule and the placer on a simulated clock: how long would this take, on a cluster this machine may not have.

Only time is simulated. Which unit starts where and when is decided by the very objects the executors ask.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmark.cards import Role
from benchmark.execute.costs import Costs
from benchmark.execute.placing import Node, Placer, Slot
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import Outcome, WorkUnit, near


@dataclass(frozen=True)
class Simulation:
    """
    Attributes:
        makespan_s: from the first start to the last end.
        work_s: device-seconds of all units (core-seconds where no GPU is used).
        critical_path_s: the longest chain of units that wait for each other: no cluster is faster.
        devices: GPUs of the cluster, or cores where no unit uses a GPU.
        curve: (time in s, devices in use from then on), at every change.
        starts: (time in s, unit's name) in the order in which units were given out.
        tail_s: when the last unit had started: from then on devices fall idle for want of work.
        unplaced: names of units no node could hold.
    """

    makespan_s: float
    work_s: float
    critical_path_s: float
    devices: int
    curve: tuple[tuple[float, float], ...]
    starts: tuple[tuple[float, str], ...]
    tail_s: float
    unplaced: tuple[str, ...] = ()

    @property
    def bound_s(self) -> float:
        """What no schedule can beat."""
        return max(self.critical_path_s, self.work_s / max(self.devices, 1))

    def utilisation(self, until_s: float | None = None) -> float:
        """Share of the devices in use up to a time (default: the tail), 0..1."""
        end = self.tail_s if until_s is None else until_s
        if not end:
            return 1.0
        later = [at for at, _ in self.curve[1:]] + [self.makespan_s]
        used = sum(n * (min(after, end) - at) for (at, n), after in zip(self.curve, later, strict=True) if at < end)
        return used / (end * self.devices)


def simulate(
    units: Sequence[WorkUnit],
    cluster: Iterable[Node],
    costs: Costs,
    overhead_s: float = 0.0,
    seconds: Callable[[WorkUnit], float] | None = None,
    at_once: int | None = None,
) -> Simulation:
    """Runs the units of an evaluation on a clock.

    Args:
        overhead_s: added to every unit: starting its process, say.
        seconds: what a unit takes; None takes what is expected, shared between its workers.
        at_once: units that may run at a time; None: as many as fit.
    """
    taken = seconds or (lambda unit: costs.unit_seconds(unit) / unit.workers)
    schedule, placer = Schedule(units, costs=costs), Placer(cluster)
    with_gpus = any(costs.needs(unit).n_gpus for unit in units)
    nodes = placer.nodes.values()
    devices = sum(node.n_gpus if with_gpus else node.cpus for node in nodes)
    now, work = 0.0, 0.0
    starts: list[tuple[float, str]] = []
    ends: list[tuple[float, int, WorkUnit, Slot]] = []
    curve: list[tuple[float, float]] = []
    unplaced = []

    def place(unit: WorkUnit) -> Slot | None:
        return placer.place(costs.needs(unit), near=near(unit)) if at_once is None or len(ends) < at_once else None

    while True:
        while (found := schedule.next_that_fits(place)) is not None:
            unit, slot = found
            length = taken(unit) + overhead_s
            heapq.heappush(ends, (now + length, len(starts), unit, slot))
            starts.append((now, unit.name))
            work += length * (slot.share * len(slot.gpus) if with_gpus else slot.cpus)
        cores, gpus = placer.used()
        curve.append((now, gpus if with_gpus else cores))
        if not ends:
            if (stuck := schedule.next()) is None:
                break
            unplaced.append(stuck.name)
            _end(schedule, stuck)
            continue
        now, _, unit, slot = heapq.heappop(ends)
        placer.release(slot)
        _end(schedule, unit)
    path = critical_path_s(units, lambda unit: taken(unit) + overhead_s)
    tail = starts[-1][0] if starts else 0.0
    return Simulation(now, work, path, devices, tuple(curve), tuple(starts), tail, tuple(unplaced))


def critical_path_s(units: Sequence[WorkUnit], seconds: Callable[[WorkUnit], float]) -> float:
    """The longest chain of units that wait for each other."""
    home = {job.key: i for i, unit in enumerate(units) for job in unit.jobs}
    ends: dict[int, float] = {}

    def end(i: int) -> float:
        if i not in ends:
            waits = {home[key] for job in units[i].jobs for key in job.depends_on if key in home} - {i}
            ends[i] = seconds(units[i]) + max((end(w) for w in waits), default=0.0)
        return ends[i]

    return max((end(i) for i in range(len(units))), default=0.0)


def _end(schedule: Schedule, unit: WorkUnit) -> None:
    for job in unit.jobs:
        if job.experiment.role is Role.SELECTION:
            schedule.learn(Outcome(job.key, job.experiment.learning_rate or 0.0, 0.0))
