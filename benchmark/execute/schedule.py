"""Which unit may start next: those whose selection runs are known, the most expensive first. Knows no process and no science."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from benchmark.cards import Job, Record, Role
from benchmark.execute.work import Event, Finished, Outcome, WorkUnit, outcome_of

# Rough seconds per image and step on one CPU core with ResNet-18: good enough to put the longest unit first, and used for nothing else.
COST_S = {"linear": 0.001, "unet": 0.15, "yolov3": 0.1}
FINETUNE_COST_S = 0.06


class Schedule:
    """A queue of units with the outcomes of selection runs.

    Args:
        units: in plan order.
        known: records of selection jobs stored by earlier runs.

    Attributes:
        n_units: how many units there were at the start.
    """

    def __init__(self, units: Iterable[WorkUnit], known: Iterable[Record] = ()):
        self._waiting = sorted(units, key=lambda u: -sum(map(expected_seconds, u.jobs)))
        self.n_units = len(self._waiting)
        self._outcomes: dict[str, Outcome] = {r.key: outcome_of(r) for r in known if r.job.experiment.role is Role.SELECTION}

    def next(self) -> WorkUnit | None:
        """The next unit that can start, with the outcomes it needs; None when none can start now."""
        for unit in self._waiting:
            own = {job.key for job in unit.jobs}
            if {key for job in unit.jobs for key in job.depends_on} - own <= self._outcomes.keys():
                self._waiting.remove(unit)
                return self.refreshed(unit)
        return None

    def refreshed(self, unit: WorkUnit) -> WorkUnit:
        """The unit with every outcome known by now that its jobs wait for."""
        needed = {key for job in unit.jobs for key in job.depends_on}
        return replace(unit, outcomes=tuple(o for key, o in sorted(self._outcomes.items()) if key in needed))

    def note(self, event: Event) -> None:
        """Keeps the outcome of a finished selection job."""
        if isinstance(event, Finished) and event.record.job.experiment.role is Role.SELECTION:
            self._outcomes[event.record.key] = outcome_of(event.record)


def expected_seconds(job: Job) -> float:
    """A rough expectation that orders units, never shown as a promise."""
    e = job.experiment
    images = e.limit or 5000 * e.fraction
    steps = e.recipe.max_steps or e.recipe.max_epochs * max(images / e.recipe.batch_size, 1) / 3
    per_image = COST_S.get(e.head, 0.1) + (FINETUNE_COST_S if e.encoder == "finetune" else 0.0)
    return steps * e.recipe.batch_size * per_image
