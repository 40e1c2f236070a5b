"""A row's score on parts of the test images: where a backbone does better or worse than its number over all of them.

Computed from stored statistics per image, as the row's own score is, and kept beside the records. Groups of under ten patients are
suppressed: their scores would say much of single people. Groups are shown beside the difference to all test images, run by run and
resample by resample, and never ranked or tested.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.imaging.person import OLDEST_DECADE
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.statistics import defines, pooled_metric, values_in
from benchmark.report import escape, numbers, stored
from benchmark.report.escape import one_line
from benchmark.report.rows import Row
from benchmark.statistics.bootstrap import resamples
from benchmark.statistics.difference import Cell, Difference, Scores, cells, differences
from benchmark.statistics.levels import RUNS

FEWEST_PATIENTS = 10
SIZES = ("smallest third", "middle third", "largest third")
FACTS = {"view": "view", "sex": "sex", "age_decade": "age"}
SUPPRESSED = f"under {FEWEST_PATIENTS} patients"
CSV_COLUMNS = ("backbone", "task", "protocol", "scale", "phantom", "metric", "by", "group", "images", "patients", "mean_percent",
               "half_width_95_percent", "minus_all_points", "minus_all_half_width_95_points", "note")  # fmt: skip

_VERSION = 1  # goes up when the same statistics give other values
_KEPT = np.dtype("<f4")


@dataclass(frozen=True)
class Subgroup:
    """One part of a row's test images.

    Attributes:
        by: what images are told apart by.
        name: of this part.
        n_images, n_patients: in it; None where it is suppressed.
        cell: the row's score on it, with its interval over runs and patients; None where there is none.
        note: why there is none; empty where there is one.
        minus_all: the cell minus the row's score on all test images, with an interval over runs and patients, paired; None without a cell.
    """

    row: Row
    by: str
    name: str
    n_images: int | None
    n_patients: int | None
    cell: Cell | None
    note: str
    minus_all: Difference | None = None

    @property
    def text(self) -> str:
        return numbers.DASH if self.cell is None else numbers.percent(self.cell.value, self.cell.half_width)

    @property
    def minus_all_text(self) -> str:
        found = self.minus_all
        half = None if found is None else found.half_width
        return numbers.DASH if found is None else numbers.signed_points(100 * found.value, None if half is None else 100 * half)


def subgroups(rows: Iterable[Row], where: stored.Where) -> list[Subgroup]:
    """Groups of every complete row whose statistics are at hand and say what to group by, in the order of the rows.

    That is the size of the finding, for masks: thirds of the test images that show one, by their pixels; and, where the release says so,
    the view, and the person's sex and decade of life.
    """
    found: list[tuple[Row, _Group, Scores | None]] = []
    for row in rows:
        runs = [] if row.cell is None or row.unit != RUNS else [_of_run(run.key, row.metric, where) for run in row.runs]
        if not runs or any(run is None for run in runs):
            continue
        for same in zip(*(run for run in runs if run is not None), strict=True):
            if len({(group.by, group.name, group.n_images, group.n_patients) for group in same}) == 1:
                found.append((row, same[0], _scores(row, same)))
    known = [(row, scores) for row, _, scores in found if scores is not None]
    own, to_all = cells([scores for _, scores in known]), differences((scores, _of_all(row, scores), "shared") for row, scores in known)
    of = {id(scores): (cell, difference) for (_, scores), cell, difference in zip(known, own, to_all, strict=True)}
    return [_shown(row, group, *((None, None) if scores is None else of[id(scores)])) for row, group, scores in found]


def to_csv(groups: Iterable[Subgroup]) -> str:
    """One line for each group, unrounded."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for one in groups:
        row = one.row
        known = [(None, None) if found is None else (found.value, found.half_width) for found in (one.cell, one.minus_all)]
        values = [None if value is None else 100 * value for pair in known for value in pair]
        names = (row.label, row.task, row.protocol, row.scale, row.phantom, row.metric, one.by, one.name)
        line = (*names, one.n_images, one.n_patients, *values, one.note)
        writer.writerow([escape.csv_cell("" if cell is None else cell) for cell in line])
    return buffer.getvalue()


def thirds_by_size(sizes: np.ndarray) -> np.ndarray:
    """(N,) third (0, 1, 2) of each image by the size of its finding, -1 for images without one. Equal sizes stand in one third.

    Args:
        sizes: (N,) pixels of the finding.
    """
    found = np.full(len(sizes), -1)
    ill = sizes > 0
    if ill.any():
        limits = np.percentile(sizes[ill], [100 / 3, 200 / 3])
        found[ill] = np.searchsorted(limits, sizes[ill], side="left")
    return found


@dataclass(frozen=True)
class _Group:
    """One run on one group.

    Attributes:
        value: None where the metric is undefined there, or the group is suppressed.
        resampled: (R,) float32; empty where `value` is None.
    """

    by: str
    name: str
    n_images: int
    n_patients: int
    value: float | None
    resampled: np.ndarray


def _of_all(row: Row, group: Scores) -> Scores:
    """A row's scores on all test images, to be subtracted from those on a group: in the same resamples, of as many patients as it has."""
    drawn = None if row.resampled is None or group.resampled is None else row.resampled.values
    return Scores(row.scores.runs, drawn, None if drawn is None else group.n_clusters, drawn=row.drawn)


def _shown(row: Row, group: _Group, cell: Cell | None, minus_all: Difference | None) -> Subgroup:
    if group.n_patients < FEWEST_PATIENTS:
        return Subgroup(row, group.by, group.name, None, None, None, SUPPRESSED)
    note = "" if cell is not None else "the metric is not defined here"
    return Subgroup(row, group.by, group.name, group.n_images, group.n_patients, cell, note, minus_all)


def _scores(row: Row, runs: Sequence[_Group]) -> Scores | None:
    values = [run.value for run in runs if run.value is not None]
    if len(values) < len(runs):
        return None
    return Scores(np.array(values), np.stack([run.resampled for run in runs], axis=1), runs[0].n_patients, drawn=row.drawn)


def _of_run(key: str, metric: str, where: stored.Where) -> list[_Group] | None:
    out = stored.folder_of(key, where)
    made_of = stored.stamp(key, out)
    if made_of is None:
        return None
    name, given = f"{key}-groups", {"version": _VERSION, "statistics": made_of, "metric": metric}
    known = stored.kept(name, given, out)
    found = None if known is None else _of_json(known)
    if found is None:
        found = _computed(stored.read(key, metric, out), metric)
        stored.keep(name, given, {"groups": [_to_json(group) for group in found]}, out)
    return found


def _computed(images: stored.TestedImages, metric: str) -> list[_Group]:
    if not defines(images.statistics, metric):
        return []
    pooled, drawn = pooled_metric(images.statistics, metric), resamples(images.clusters)
    found = []
    for by, name, member in _groups(images):
        n_patients = len({cluster for cluster, inside in zip(images.clusters, member, strict=True) if inside})
        value = pooled(member.astype(np.int64)) if n_patients >= FEWEST_PATIENTS else None
        values = np.zeros(0) if value is None else values_in(pooled, drawn * member)
        found.append(_Group(by, name, int(member.sum()), n_patients, value, values.astype(np.float32)))
    return found


def _groups(images: stored.TestedImages) -> Iterable[tuple[str, str, np.ndarray]]:
    """What is told apart by what, and (N,) bool of the images."""
    if isinstance(images.statistics, SegmentationStatistics):
        counts = images.statistics.counts
        third = thirds_by_size((counts.tp + counts.fn).sum(axis=1))
        yield from (("size of the finding", name, third == place) for place, name in enumerate(SIZES))
    for fact, values in images.facts.items():
        for name in sorted({value for value in values if value is not None}, key=lambda name: (len(name), name)):
            yield FACTS[fact], _name_of(fact, name), np.array([value == name for value in values])


def _name_of(fact: str, value: str) -> str:
    """As a page says it: ages are decades, the last of which has no end."""
    if fact != "age_decade" or not value.isdigit():
        return one_line(value)
    return f"{value} and above" if int(value) == OLDEST_DECADE else f"{value} to {int(value) + 9}"


def _to_json(group: _Group) -> dict[str, Any]:
    return {**vars(group), "resampled": base64.b64encode(group.resampled.astype(_KEPT).tobytes()).decode()}


def _of_json(known: Mapping[str, Any]) -> list[_Group] | None:
    try:
        return [
            _Group(
                str(one["by"]),
                str(one["name"]),
                int(one["n_images"]),
                int(one["n_patients"]),
                None if one["value"] is None else float(one["value"]),
                np.frombuffer(base64.b64decode(one["resampled"], validate=True), _KEPT).astype(np.float32),
            )
            for one in known["groups"]
        ]
    except (ValueError, KeyError, TypeError):
        return None
