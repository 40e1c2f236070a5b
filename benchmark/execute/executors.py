"""What runs units, by name: this process, or Ray. Ray is not needed for the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, Protocol

from benchmark.events import Event
from benchmark.execute.equipment import DeviceChoice, Equipment
from benchmark.execute.schedule import Schedule


class Executor(Protocol):
    """Knows its machines before anything is planned, runs what was planned, and is closed in the end."""

    def equipment(self, asked: DeviceChoice) -> Equipment: ...

    def run(self, schedule: Schedule) -> Iterator[Event]: ...

    def close(self) -> None: ...


def executor(kind: Literal["ray", "inline"], address: str | None, retries: int, backbones: Iterable[str], lists: bool = False) -> Executor:
    """
    Args:
        address, retries, backbones, lists: of Ray, see `RayExecutor`.
    """
    if kind == "inline":
        from benchmark.execute.inline import InlineExecutor

        return InlineExecutor()
    from benchmark.execute import on_ray

    return on_ray.RayExecutor(address=address, retries=retries, backbones=backbones, lists=lists)
