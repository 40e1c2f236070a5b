"""What an evaluation will take on the machines it is planned for, before it starts: time, device-hours, memory and disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.execute.costs import START_S, Costs, decoding_seconds
from benchmark.execute.equipment import Equipment
from benchmark.execute.placing import Node
from benchmark.execute.simulate import simulate
from benchmark.execute.work import WorkUnit, near


@dataclass(frozen=True)
class Forecast:
    """
    Attributes:
        machine: what it is planned for, in words.
        measured_jobs: of `n_jobs`, those priced by measurements of similar jobs; the rest is a rough guess.
        device_hours: of GPUs, or of cores where there is none.
        process_bytes: peak memory of the largest process.
        disk_bytes: predictions and records; only of jobs with such measurements.
    """

    machine: str
    n_jobs: int
    measured_jobs: int
    seconds: float
    critical_path_s: float
    device_hours: float
    process_bytes: int
    disk_bytes: int


def forecast(todo: Sequence[WorkUnit], costs: Costs, equipment: Equipment) -> Forecast:
    """
    Args:
        equipment: what it will run on. Where no GPU has joined yet, one is taken, so that something can be said.
    """
    nodes, machine = equipment.nodes, f"{equipment.machine} of {equipment.where}"
    if equipment.device_type == "cuda" and not equipment.n_gpus:
        cores, gpus = (max((getattr(costs.needs(unit), name) for unit in todo), default=1) for name in ("cpus", "n_gpus"))
        nodes, machine = (Node("to join", cores, n_gpus=gpus),), f"{gpus} GPU of a node that has yet to join {equipment.where}"
    decoding = _decoding(todo, costs)
    simulated = simulate(
        todo,
        nodes,
        costs,
        overhead_s=START_S,
        at_once=equipment.at_once,
        seconds=lambda unit: costs.unit_seconds(unit) / unit.workers + decoding.get(unit.jobs[0].key, 0.0),
    )
    jobs = [job for unit in todo for job in unit.jobs]
    return Forecast(
        machine=machine,
        n_jobs=len(jobs),
        measured_jobs=sum(map(costs.measured, jobs)),
        seconds=simulated.makespan_s,
        critical_path_s=simulated.critical_path_s,
        device_hours=simulated.work_s / 3600,
        process_bytes=max((costs.peak_bytes(unit) for unit in todo), default=0),
        disk_bytes=int(sum(map(costs.disk_bytes, jobs))),
    )


def _decoding(todo: Sequence[WorkUnit], costs: Costs) -> dict[str, float]:
    """First job of a unit -> seconds it is taken to decode for: its dataset's images, once for every dataset and frame.

    What was measured was measured with its decoding.
    """
    alike: dict[str, list[WorkUnit]] = {}
    for unit in todo:
        alike.setdefault(near(unit)[0], []).append(unit)
    return {
        group[0].jobs[0].key: max(decoding_seconds(job, unit.inputs) for unit in group for job in unit.jobs)
        for group in alike.values()
        if not any(costs.measured(job) for unit in group for job in unit.jobs)
    }
