"""Where a unit fits: nodes with cores, memory and GPUs, and what is taken of them. The Ray executor and the simulator share it.

A GPU is shared in eighths by memory; a unit whose memory is unknown gets a whole one. Nothing is ever given twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmark.execute.costs import Needs

EIGHTHS = 8  # a GPU is shared in eighths


@dataclass(frozen=True)
class Node:
    """A machine as it declares itself. `gpu_bytes` is of one device; 0 when unknown, and devices are then given whole."""

    id: str
    cpus: int
    memory_bytes: int = 0
    n_gpus: int = 0
    gpu_bytes: int = 0


@dataclass(frozen=True)
class Slot:
    """What a unit holds: a node, and eighths of some of its GPUs."""

    node: str
    cpus: int
    memory_bytes: int
    gpus: tuple[int, ...] = ()
    eighths: int = 0

    @property
    def share(self) -> float:
        """Of one GPU, 0..1."""
        return self.eighths / EIGHTHS


@dataclass
class _Free:
    node: Node
    cpus: int
    memory_bytes: int
    eighths: list[int]
    near: set[str] = field(default_factory=set)


class Placer:
    """Keeps the books of a cluster."""

    def __init__(self, nodes: Iterable[Node] = ()):
        self._nodes: dict[str, _Free] = {}
        for node in nodes:
            self.join(node)

    @property
    def nodes(self) -> dict[str, Node]:
        return {name: free.node for name, free in self._nodes.items()}

    def join(self, node: Node) -> None:
        self._nodes[node.id] = _Free(node, node.cpus, node.memory_bytes, [EIGHTHS] * node.n_gpus)

    def leave(self, node: str) -> None:
        """The node is gone with everything on it; releasing its slots later does nothing."""
        self._nodes.pop(node, None)

    def place(self, needs: Needs, near: Sequence[str] = ()) -> Slot | None:
        """Takes room for a unit, preferably on a node where units ran that read the same; None when there is none now.

        Args:
            near: names of what the unit reads; units of one name share a node's cache of it. The more of them a node has, the better.
        """
        best, rank = None, None
        for free in self._nodes.values():
            slot = _fit(free, needs)
            if slot is None:
                continue
            # Near its caches, then on the GPU that is left fullest, then on the emptiest node.
            here = (sum(name in free.near for name in near), -sum(free.eighths[g] for g in slot.gpus), free.cpus)
            if rank is None or here > rank:
                best, rank = slot, here
        if best is not None:
            self._take(best, near)
        return best

    def possible(self, needs: Needs) -> bool:
        """True when some node could hold it if it were empty."""
        return any(
            _fit(_Free(f.node, f.node.cpus, f.node.memory_bytes, [EIGHTHS] * f.node.n_gpus), needs) is not None
            for f in self._nodes.values()
        )

    def release(self, slot: Slot) -> None:
        free = self._nodes.get(slot.node)
        if free is None:
            return
        free.cpus += slot.cpus
        free.memory_bytes += slot.memory_bytes
        for gpu in slot.gpus:
            free.eighths[gpu] += slot.eighths

    def used(self) -> tuple[int, float]:
        """Cores and GPUs in use now."""
        cores = sum(f.node.cpus - f.cpus for f in self._nodes.values())
        return cores, sum(EIGHTHS - left for f in self._nodes.values() for left in f.eighths) / EIGHTHS

    def _take(self, slot: Slot, near: Sequence[str]) -> None:
        free = self._nodes[slot.node]
        free.cpus -= slot.cpus
        free.memory_bytes -= slot.memory_bytes
        for gpu in slot.gpus:
            free.eighths[gpu] -= slot.eighths
        free.near.update(near)


def _fit(free: _Free, needs: Needs) -> Slot | None:
    """The slot on this node, or None. Needs beyond the whole node are cut to it: it is then the unit's alone."""
    cpus = min(needs.cpus, free.node.cpus)
    memory = min(needs.memory_bytes, free.node.memory_bytes)
    if cpus > free.cpus or memory > free.memory_bytes or cpus < 1:
        return None
    if not needs.n_gpus:
        return Slot(free.node.id, cpus, memory)
    eighths = EIGHTHS
    if needs.n_gpus == 1 and needs.gpu_bytes is not None and free.node.gpu_bytes:
        eighths = min(EIGHTHS, max(1, math.ceil(EIGHTHS * needs.gpu_bytes / free.node.gpu_bytes)))
    # The fullest that still has room first: whole ones stay whole for those who need one.
    room = sorted((left, gpu) for gpu, left in enumerate(free.eighths) if left >= eighths)
    if len(room) < needs.n_gpus:
        return None
    return Slot(free.node.id, cpus, memory, tuple(gpu for _, gpu in room[: needs.n_gpus]), eighths)
