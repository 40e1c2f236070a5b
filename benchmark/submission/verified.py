"""Numbers held to the statistics they are said to follow from: computed again before they are shown, once for each state of a record.

Whoever edits a metric and counts the checksum anew is caught here, and whoever edits statistics so that they give another metric than the
record has, other images, or other counts, or puts statistics of another kind in their place. Whoever edits both alike is caught only by
scoring predictions again (`validate`), and who made the predictions up only by training again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.cards import Record
from benchmark.errors import UsageError
from benchmark.integrity import file_of
from benchmark.kinds.kit.stored import STATISTICS_FILES, ByImage, read_statistics, told_of
from benchmark.metrics import spec
from benchmark.metrics.anchors import ALL_POSITIVE, all_positive_of_counts
from benchmark.metrics.box_statistics import DetectionStatistics
from benchmark.metrics.label_statistics import ClassificationStatistics
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.statistics import TARGETS, Statistics, pooled_metrics
from benchmark.own import catalogue
from benchmark.readers.base import ids_digest
from benchmark.shelf import Check
from benchmark.submission.pseudonyms import is_pseudonymised

# Sums of another machine's NumPy differ in their last bits; a page shows a tenth of a per cent.
RELATIVE, ABSOLUTE = 1e-7, 1e-9

_RULES = "statistics 2"  # the number goes up when a record that passed before might not pass again


def statistics_of(record: Record, out: Path) -> ByImage | None:
    """The stored statistics of a record, held to their digest; None where it has none.

    Raises:
        DamagedResult: the file is not what was stored.
        UsageError: it is no statistics file.
    """
    for name in STATISTICS_FILES:
        path = file_of(record, name, out)
        if path is not None:
            return read_statistics(path)
    return None


Then = Callable[[Record, ByImage, Path], object]
"""What is given each record that passes, its statistics and the output folder; a function of a module."""


def fault_in(record: Record, out: Path, then: Then | None = None) -> str:
    """What a record says that its stored statistics contradict, as a clause; empty where nothing does, or nothing is stored.

    Args:
        then: so that statistics are not read again for what comes next.

    Raises:
        DamagedResult, UsageError: as `statistics_of`.
    """
    found = statistics_of(record, out) if record.status == "ok" else None
    if found is None:
        return ""
    fault = (
        fault_of_metrics(record, found.statistics)
        or _fault_of_images(record, found)
        or _fault_of_counts(record, found.statistics)
        or _fault_of_anchors(record, found.statistics)
    )
    if not fault and then is not None:
        then(record, found, out)
    return fault


def statistics_check(then: Then | None = None) -> Check:
    """`fault_in` for `Shelf.believable`; `then` as there."""
    return Check(_RULES, partial(_fault, then))


def fault_of_metrics(record: Record, statistics: Statistics) -> str:
    """The first test metric that the statistics do not give, or that they are of another ground truth than the task."""
    target, report = record.job.experiment.dataset.target, record.job.experiment.report
    if target in TARGETS and statistics.target != target:
        return f"its statistics are of the kind {statistics.kind}, which are none of {target}"
    pooled = pooled_metrics(statistics)
    held = "task" not in record.job.labels.custom  # a task of one's own may report what a job alone knows
    for name, value in record.metrics.items():
        if _is_of_code_elsewhere(record, name):
            continue
        if name not in pooled:
            declared = spec.find(name, target)
            if declared is not None and declared.spec.compute is None and not (held and name == report):
                continue  # a job computes it, and keeps nothing that it could be computed from again
            return f"it has {name}, which its statistics do not give"
        again = pooled[name](None)
        if again is None:
            return f"its {name} is {value:g}, and its statistics leave it undefined"
        if not agrees(value, again):
            return f"its {name} is {value:.6g}, and its statistics give {again:.6g}"
    return ""


def _is_of_code_elsewhere(record: Record, metric: str) -> bool:
    """Whether a metric is of a family of somebody's own whose code, as the record names it, is not here."""
    experiment = record.job.experiment
    if not experiment.own_metrics:
        return False
    declared = spec.find(metric, experiment.dataset.target)
    if declared is None:
        return True
    family, room = declared.spec.family, "metrics"
    if catalogue.find(room, family) is None:
        return False
    return experiment.own_code.get(f"{room}/{family}") != catalogue.planned(room, family).code.digest


def agrees(value: float, again: float) -> bool:
    """Whether two computations of one metric give the same number."""
    return math.isclose(value, again, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def differing(first: Mapping[str, float], second: Mapping[str, float]) -> list[str]:
    """Metrics that both have, with different values."""
    return [name for name, value in first.items() if name in second and not agrees(value, second[name])]


def _fault_of_images(record: Record, found: ByImage) -> str:
    """The record's digests of the test images, against their names in the statistics."""
    if len(set(found.ids)) != len(found.ids):
        return "its statistics name an image twice"
    if record.redistribution == "none" and is_pseudonymised(found):
        return ""
    for which, ordered in (("test", True), ("test sorted", False)):
        expected = record.sample_digests.get(which)
        if expected is not None and expected != ids_digest(found.ids, ordered=ordered):
            return f"its digest of the test images ({which}) is not that of the images in its statistics"
    return ""


def _fault_of_counts(record: Record, statistics: Statistics) -> str:
    experiment = record.job.experiment
    said, there = record.counts.get("test", {}), {"images": statistics.n_images}
    if experiment.words is None:
        there |= _counted(statistics, in_frame=experiment.switches.scored_in == "frame")
    for what, n in there.items():
        if said.get(what) != n:
            return f"it counts {f'{said[what]:,}' if what in said else 'no'} {what} of the test split, and its statistics hold {n:,}"
    return ""


def _fault_of_anchors(record: Record, statistics: Statistics) -> str:
    """The score of calling everything positive, where true pixels were counted as masks were scored. A grid's oracle needs the masks."""
    said, in_frame = record.anchors.get(ALL_POSITIVE, {}), record.job.experiment.switches.scored_in == "frame"
    if not isinstance(statistics, SegmentationStatistics) or statistics.frame_pixels is None or not in_frame:
        return ""
    n_true = (statistics.counts.tp + statistics.counts.fn).sum(axis=0)
    again = all_positive_of_counts(n_true, statistics.n_images * statistics.frame_pixels, statistics.class_names)
    for name in differing(said, again):
        return f"its {name} of {ALL_POSITIVE} is {said[name]:.6g}, and its statistics give {again[name]:.6g}"
    return ""


def _counted(statistics: Statistics, *, in_frame: bool) -> dict[str, int]:
    """What statistics of a trained task tell of its test split, as its record counts it.

    Args:
        in_frame: masks were scored in the frame in which they were counted; a small one may vanish in another.
    """
    if isinstance(statistics, DetectionStatistics):
        table = statistics.table
        return {"boxes": len(table.truth_label), "positives": len(np.unique(table.truth_image))}
    if isinstance(statistics, SegmentationStatistics) and in_frame:
        return {"positives": int(((statistics.counts.tp + statistics.counts.fn) > 0).any(axis=1).sum())}
    if isinstance(statistics, ClassificationStatistics):
        return {"positives": int((statistics.truth == 1).any(axis=1).sum())}
    return {}


def _fault(then: Then | None, record: Record, out: Path) -> str:
    try:
        return fault_in(record, out, then)
    except UsageError as error:  # of a file whose digest the record has: damaged before it was stored, or counted anew
        return told_of(record, str(error).splitlines()[0], out).rstrip(".")


STATISTICS = statistics_check()
