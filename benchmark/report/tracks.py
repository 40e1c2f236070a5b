"""What a row may be ranked with: the track of its task, and the geometry that its protocol gives every backbone."""

from __future__ import annotations

from benchmark import registry, task_rules
from benchmark.cards import Experiment

AS_TASK = "as-task"


def track_of(experiment: Experiment) -> str:
    """As of its task; empty where this version has no such head, as a record of another may say."""
    known = experiment.words is not None or experiment.head in registry.heads()
    return task_rules.track_of(experiment) if known else ""


def geometry_of(protocol: str) -> str:
    """Input size and grid that a protocol imposes; those of the task where no card of that name is known here."""
    card = registry.protocols().get(protocol)
    return AS_TASK if card is None else card.geometry
