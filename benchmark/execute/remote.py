"""A unit in its own process on a node of Ray: which devices it sees, where its files lie there, and its share of the node's memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from benchmark.events import Event
from benchmark.execute.ship import found_here
from benchmark.execute.work import WorkUnit, with_share_of_memory

Work = Callable[[WorkUnit], Iterator[Event]]


def run_here(work: Work, unit: WorkUnit, n_units: int) -> Iterator[Event]:
    """Runs a unit in this process, with the devices, files and memory that it has on this node.

    Args:
        n_units: of the whole schedule.
    """
    if not unit.gpu_share:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    yield from work(on_this_node(replace(unit, inputs=found_here(unit.jobs[0], unit.inputs)), n_units))


def on_this_node(unit: WorkUnit, n_units: int) -> WorkUnit:
    """The unit with its share of the memory that the node this process runs on may give to features.

    Args:
        n_units: of the whole schedule: no more than these can run side by side.
    """
    import ray

    here = ray.get_runtime_context().get_node_id()
    resources: Mapping[str, float] = next((node["Resources"] for node in ray.nodes() if node["NodeID"] == here), {})
    return with_share_of_memory(unit, min(units_at_once(resources, unit), n_units))


def units_at_once(resources: Mapping[str, float], unit: WorkUnit) -> int:
    """How many units like this one a node with these resources runs side by side; at least one."""
    e = unit.jobs[0].experiment
    room = resources.get("CPU", 1) // e.threads
    if e.device_type == "cuda":
        room = min(room, resources.get("GPU", 1))
    return max(int(room), 1)
