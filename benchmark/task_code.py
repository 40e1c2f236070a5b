"""Which modules of a user's own decide a task's numbers: its head, the readers of its dataset, and the families of its metrics.

Of the user's own metrics a job computes the families that `select` and `report` name, whole. Others change no result and are in no key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmark import registry
from benchmark.cards import TaskCard
from benchmark.metrics import spec
from benchmark.own import catalogue
from benchmark.own.rooms import PlannedModule


def of_task(task: TaskCard) -> tuple[PlannedModule, ...]:
    """The user's own modules of a task with their code as it is now; empty for most.

    Raises:
        UnknownName: there is no such dataset.
        CardError: a module cannot be read, or its name is taken twice.
    """
    dataset = registry.dataset(task.dataset)
    readers = (dataset.reader, *(registry.dataset(part).reader for part in dataset.parts.values()))
    declared = (spec.find(metric, task.target) for metric in (task.select, task.report))
    families = (found.spec.family for found in declared if found is not None)
    wanted = [("heads", task.head), *(("readers", name) for name in readers), *(("metrics", name) for name in families)]
    return tuple(catalogue.planned(room, name) for room, name in dict.fromkeys(wanted) if catalogue.find(room, name) is not None)


def of_family(family: str) -> tuple[PlannedModule, ...]:
    """The user's own family of backbones with its code as it is now; empty for LOBE's. Raises as `of_task`."""
    return (catalogue.planned("encoders", family),) if catalogue.find("encoders", family) is not None else ()


def digests(modules: Iterable[PlannedModule]) -> Mapping[str, str]:
    """As an experiment names them."""
    return {one.key: one.code.digest for one in sorted(modules, key=lambda one: one.key)}
