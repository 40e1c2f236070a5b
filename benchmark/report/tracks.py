"""What may be ranked together: the track of a task (`task_rules.track_of`), and the geometry that its protocol gives every backbone."""

from __future__ import annotations

from benchmark import registry
from benchmark.task_rules import Track as Track
from benchmark.task_rules import track_of as track_of

AS_TASK = "as-task"


def geometry_of(protocol: str) -> str:
    """Input size and grid that a protocol imposes; those of the task where it is not known here."""
    known = registry.protocols().get(protocol)
    return AS_TASK if known is None else known.geometry
