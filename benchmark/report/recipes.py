"""Rows of a recipe that was pretrained several times: what a sentence about a method rests on, where a row speaks of one checkpoint.

The units are the checkpoints' means over runs, so that the interval covers the pretraining seed; their own runs are part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmark.cards import Contamination
from benchmark.errors import UsageError
from benchmark.report.gathering import Run
from benchmark.report.resampling import Resampled
from benchmark.report.rows import Row
from benchmark.statistics.difference import cells
from benchmark.statistics.levels import CHECKPOINTS, FEWEST_CHECKPOINTS
from benchmark.submission.trust import lowest

RECIPE = "recipe of {} checkpoints: each counts as one run, and the interval covers pretraining seeds"


def recipe_rows(rows: Iterable[Row], recipes: Mapping[str, Sequence[str]]) -> list[Row]:
    """A row for each recipe and task on which all of its checkpoints are complete, in the order of the rows.

    Args:
        recipes: name -> labels of its checkpoints, pretrained alike but for their seed.

    Raises:
        UsageError: a recipe of fewer than three checkpoints, or one that has no row.
    """
    places: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        place = (row.task, row.task_version, row.split, row.metric, row.protocol, row.geometry, row.scale, row.phantom)
        places.setdefault(place, {})[row.label] = row
    labels = {label for by_label in places.values() for label in by_label}
    for name, checkpoints in recipes.items():
        if len(set(checkpoints)) < FEWEST_CHECKPOINTS:
            raise UsageError(
                f"The recipe {name} has {len(set(checkpoints))} checkpoints; a recipe is judged by at least {FEWEST_CHECKPOINTS}."
            )
        if strange := [label for label in checkpoints if label not in labels]:
            raise UsageError(f"The recipe {name} names {', '.join(strange)}, of which there is no row.")
    found = []
    for by_label in places.values():
        for name, checkpoints in recipes.items():
            mine = [by_label[label] for label in dict.fromkeys(checkpoints) if label in by_label and by_label[label].cell is not None]
            if len(mine) == len(set(checkpoints)):
                found.append(_row(name, mine))
    own = cells([row.scores for row in found])
    return [replace(row, cell=cell) for row, cell in zip(found, own, strict=True)]


def _row(name: str, checkpoints: Sequence[Row]) -> Row:
    """The row before its interval is known: as clean and as trusted as the worst of its checkpoints. A checkpoint stands as a run, under
    the key of its first."""
    first = checkpoints[0]
    runs = tuple(Run(i, row.runs[0].key, row.runs[0].head_seed, row.runs[0].order_seed, row.mean) for i, row in enumerate(checkpoints, 1))
    told = dict.fromkeys(warning for row in checkpoints for warning in row.warnings)
    return replace(
        first,
        backbone=name,
        variant="",
        settings="",
        random=False,
        drawn=True,
        runs=runs,
        n_expected=len(runs),
        n_ok=len(runs),
        n_failed=0,
        resampled=_resampled([row.resampled for row in checkpoints]),
        warnings=(RECIPE.format(len(runs)), *told),
        custom=tuple(dict.fromkeys(part for row in checkpoints for part in row.custom)),
        contamination=max((Contamination(row.contamination) for row in checkpoints), key=list(Contamination).index).value,
        trust=lowest(row.trust for row in checkpoints),
        n_with_finding=min((row.n_with_finding for row in checkpoints if row.n_with_finding is not None), default=None),
        cost=None,
        unit=CHECKPOINTS,
    )


def _resampled(checkpoints: Sequence[Resampled | None]) -> Resampled | None:
    known = [one for one in checkpoints if one is not None]
    if len(known) < len(checkpoints) or len({one.test for one in known}) > 1:
        return None
    means = np.stack([one.mean for one in known], axis=1).astype(np.float32)
    return replace(known[0], values=means)
