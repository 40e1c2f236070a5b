"""Runs units on a Ray cluster, or on a local one it starts. Every unit is a streaming task, so events arrive as they happen.

Ray places, retries and isolates; what a unit computes is `work.run_unit`, the same function the inline executor calls.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace

from benchmark.errors import EnvironmentProblem, LobeError
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import Event, Finished, WorkUnit, failed, run_unit, with_share_of_memory

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0"}
RETRIES = 2  # of a unit whose process was lost; its finished jobs are not repeated


class WorkerLost(LobeError):
    """The process that ran a job died: killed, out of memory, or its node went away."""


class RayExecutor:
    """
    Args:
        address: cluster address; None starts Ray on this machine and stops it afterwards.
        cpus: cores of the local Ray; None takes what the machine has.
    """

    name = "ray"

    def __init__(self, address: str | None = None, cpus: int | None = None):
        self.address, self.cpus = address, cpus

    def run(self, schedule: Schedule) -> Iterator[Event]:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:
            raise EnvironmentProblem(f"Ray cannot be imported ({error}). Use --executor inline, or `lobe doctor` for the cure.") from None
        own = not ray.is_initialized()
        if own:
            ray.init(
                address=self.address,
                num_cpus=self.cpus if self.address is None else None,
                log_to_driver=False,
                include_dashboard=False,
                logging_level=logging.ERROR,
            )
        try:
            yield from self._drive(ray, schedule)
        finally:
            if own:
                ray.shutdown()

    def _drive(self, ray, schedule: Schedule) -> Iterator[Event]:
        slots = int(ray.cluster_resources().get("CPU", 1))
        streams: dict = {}
        while True:
            while sum(unit.jobs[0].experiment.threads for unit, *_ in streams.values()) < slots and (unit := schedule.next()) is not None:
                streams[_submit(ray, unit, schedule.n_units)] = (unit, set(), 0)
            if not streams:
                return
            ready, _ = ray.wait(list(streams), num_returns=1, timeout=1.0)
            for stream in ready:
                unit, done, losses = streams[stream]
                try:
                    event: Event = ray.get(next(stream))
                except StopIteration:
                    del streams[stream]
                    continue
                except ray.exceptions.RayError as error:
                    del streams[stream]
                    left = tuple(job for job in unit.jobs if job.key not in done)
                    if losses < RETRIES and left:
                        again = schedule.refreshed(replace(unit, jobs=left))
                        streams[_submit(ray, again, schedule.n_units)] = (again, done, losses + 1)
                        continue
                    for job in left:
                        lost = Finished(failed(job, unit.place, WorkerLost(_why(job.labels.task, losses + 1, error))))
                        schedule.note(lost)
                        yield lost
                    continue
                if isinstance(event, Finished):
                    done.add(event.record.key)
                schedule.note(event)
                yield event


def _submit(ray, unit: WorkUnit, n_units: int):
    threads = unit.jobs[0].experiment.threads
    gpus = 1 if unit.jobs[0].experiment.device_type == "cuda" else 0
    remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0, num_returns="streaming")(_remote_unit)
    return remote.remote(unit, n_units)


def _remote_unit(unit: WorkUnit, n_units: int) -> Iterator[Event]:
    yield from run_unit(on_this_node(unit, n_units))


def on_this_node(unit: WorkUnit, n_units: int) -> WorkUnit:
    """The unit with its share of the memory that the node this process runs on may give to features.

    Args:
        n_units: of the whole schedule: no more than these can run side by side.
    """
    import ray

    here = ray.get_runtime_context().get_node_id()
    resources = next((node["Resources"] for node in ray.nodes() if node["NodeID"] == here), {})
    return with_share_of_memory(unit, min(units_at_once(resources, unit), n_units))


def units_at_once(resources: Mapping[str, float], unit: WorkUnit) -> int:
    """How many units like this one a node with these resources runs side by side; at least one."""
    e = unit.jobs[0].experiment
    room = resources.get("CPU", 1) // e.threads
    if e.device_type == "cuda":
        room = min(room, resources.get("GPU", 1))
    return max(int(room), 1)


def _why(task: str, losses: int, error: Exception) -> str:
    return f"The process running {task} died {losses} times ({type(error).__name__}). Most often this is memory: see `lobe doctor`."
