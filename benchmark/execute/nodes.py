"""The nodes of a Ray cluster, and the small tasks that run on one of them: who it is, what it kept, what it may forget."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata

from benchmark import own_code
from benchmark.cards import Record
from benchmark.execute import spool
from benchmark.execute.placing import Node


def alive(ray) -> list[Node]:
    """Nodes as they declare themselves. Device memory may be declared as the resource `gpu_memory_bytes`; else it is asked for."""
    found = []
    for node in ray.nodes():
        resources = node["Resources"]
        if not node["Alive"] or not resources.get("CPU"):
            continue
        found.append(
            Node(
                id=node["NodeID"],
                cpus=int(resources["CPU"]),
                memory_bytes=int(resources.get("memory", 0)),
                n_gpus=int(resources.get("GPU", 0)),
                gpu_bytes=int(resources.get("gpu_memory_bytes", 0)),
            )
        )
    return found


def is_alive(ray, node: str) -> bool:
    """Whether that node is there, as a head is that computes nothing."""
    return any(seen["NodeID"] == node and seen["Alive"] for seen in ray.nodes())


def identity() -> dict[str, str]:
    """What must be equal on driver and workers for their numbers to be."""
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "torch": _version("torch"),
        "benchmark package": own_code.digest(),
        "gpu_bytes": str(gpus_here()[1]),
    }


def difference(driver: dict[str, str], worker: dict[str, str], node: str) -> str | None:
    """A sentence when a node must not be used, else None."""
    wrong = [name for name in driver if name != "gpu_bytes" and driver[name] != worker.get(name)]
    if "torch" in wrong and driver["torch"] == f"{worker.get('torch', '').partition('+')[0]}+cpu":
        wrong.remove("torch")  # the driver computes nothing: its torch may be the same release, built without CUDA
    if not wrong:
        return None
    parts = "; ".join(f"{name} is {worker.get(name, 'absent')[:16]} there and {driver[name][:16]} here" for name in wrong)
    return f"Node {node} is not used: {parts}. Install the same versions on it; results would differ."


def collect(store_id: str, keys: Iterable[str]) -> Iterator[tuple[Record, dict[str, bytes]]]:
    """Runs on a node: what it kept of these jobs."""
    yield from spool.waiting(store_id, keys)


def forget(store_id: str, keys: Iterable[str]) -> None:
    """Runs on a node: the driver has stored these."""
    spool.forget(store_id, keys)


def on(ray, node: str, function, **options):
    """`function` as a task of that node; takes no core from what runs there."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    pinned = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=pinned, **options)(function)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


@dataclass(frozen=True)
class GpuUse:
    """One GPU of this machine now; `busy` is the share of the last moments in which it computed, 0..1."""

    index: int
    busy: float
    used_bytes: int
    total_bytes: int


def gpus_here() -> tuple[int, int]:
    """Devices of this machine and the memory of the smallest, in bytes; (0, 0) when it cannot be told."""
    sizes = [gpu.total_bytes for gpu in gpu_use()]
    return len(sizes), min(sizes, default=0)


def gpu_use() -> tuple[GpuUse, ...]:
    """Every GPU of this machine, without a CUDA context of ours; empty when it cannot be told."""
    command = ["nvidia-smi", "--query-gpu=index,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        seen = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(_gpu(line) for line in seen.splitlines() if line.strip())


def _gpu(line: str) -> GpuUse:
    """A slice of a device (MIG) tells no utilisation: `[N/A]` counts as 0."""
    numbers = [int(word) if word.isdecimal() else 0 for word in (part.strip() for part in line.split(","))]
    index, busy, used, total = numbers
    return GpuUse(index, busy / 100, used * 2**20, total * 2**20)
