"""The kinds of task, found by what a card asks for: a target, and whether anything is trained for it.

A kind is a module here that offers `KIND`: adding the module adds the kind, and no list of them stands anywhere. `base` says what a kind
owes; `kit` holds what several of them share.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from benchmark import registry
from benchmark.cards import Experiment, Switches, TaskCard
from benchmark.errors import CardError
from benchmark.kinds.base import Kind


def of_task(task: TaskCard) -> Kind:
    """The kind of a task card; raises as `find`."""
    return find(task.target, trains=task.words is None)


def of_experiment(experiment: Experiment) -> Kind:
    """The kind of a job's experiment; raises as `find`."""
    return find(experiment.dataset.target, trains=experiment.words is None)


def known(experiment: Experiment) -> Kind | None:
    """The kind of a stored job's experiment; None where its module is not there, as with a kind of somebody else's."""
    try:
        return of_experiment(experiment)
    except CardError:
        return None


def draws_anew(head: str, fraction: float, switches: Switches) -> bool:
    """Whether runs of a trained task on fixed weights draw anything anew: a head's weights and order of images, or a share of labels.

    A head that keeps its examples at once draws nothing itself; one that this version does not know is taken to draw.
    """
    facts = registry.heads().get(head)
    return facts is None or not facts.at_once or (fraction < 1 and switches.label_draw == "nested")


def find(target: str, *, trains: bool) -> Kind:
    """The kind with this target.

    Args:
        target: of a task card.
        trains: False for tasks with `words`, which train nothing.

    Raises:
        CardError: there is none.
    """
    for kind in every():
        if (kind.target, kind.trains) == (target, trains):
            return kind
    does = "is trained" if trains else "trains nothing"
    known = ", ".join(sorted({kind.target for kind in every() if kind.trains == trains}))
    raise CardError(f"No kind of task that {does} has the target {target!r}. Their targets are: {known}.")


@cache
def every() -> tuple[Kind, ...]:
    """All kinds, in the order of their modules' names."""
    modules = sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.ispkg and found.name != "base")
    return tuple(importlib.import_module(f"{__name__}.{name}").KIND for name in modules)
