"""What a row may be ranked with: the track of its task, the geometry that its protocol gives every backbone, and the suites of tasks."""

from __future__ import annotations

from collections.abc import Mapping

from benchmark import registry, task_rules
from benchmark.cards import Experiment, SuiteCard, TaskCard
from benchmark.errors import CardError

AS_TASK = "as-task"


def track_of(experiment: Experiment) -> str:
    """As of its task; empty where this version has no such head, as a record of another may say."""
    known = experiment.words is not None or experiment.head in registry.heads()
    return task_rules.track_of(experiment) if known else ""


def suites() -> Mapping[str, SuiteCard]:
    """Cards of suites; none where cards contradict each other, which keeps nobody from a report of what is stored."""
    try:
        return registry.suites()
    except CardError:
        return {}


def tasks() -> Mapping[str, TaskCard]:
    """Cards of tasks, likewise."""
    try:
        return registry.tasks()
    except CardError:
        return {}


def geometry_of(protocol: str) -> str:
    """Input size and grid that a protocol imposes; those of the task where no card of that name is known here."""
    card = registry.protocols().get(protocol)
    return AS_TASK if card is None else card.geometry
