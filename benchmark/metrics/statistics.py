"""Sufficient statistics of a split, the same for all kinds of task: pooled metrics computed from them, and what files keep.

What each kind keeps: `mask_statistics`, `box_statistics`, `label_statistics`. Which metrics there are: `METRICS` of the families (`spec`).
Metrics take image weights, so that bootstrap and permutation need no predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmark.errors import UsageError
from benchmark.metrics import spec
from benchmark.metrics.box_statistics import DetectionStatistics
from benchmark.metrics.columns import Column, Columns
from benchmark.metrics.label_statistics import ClassificationStatistics, MeanStatistics
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.spec import MetricSpec, PooledMetric

Statistics = SegmentationStatistics | DetectionStatistics | ClassificationStatistics | MeanStatistics
_KINDS: dict[str, type[Statistics]] = {
    kind.kind: kind for kind in (SegmentationStatistics, DetectionStatistics, ClassificationStatistics, MeanStatistics)
}

_ALONE_AT_ONCE = 256  # images; one row of weights each, as long as the split

TARGETS = frozenset(kind.target for kind in _KINDS.values() if kind.target)
"""Ground truths whose metrics are computed from statistics of their own; those of all others are means of stored values."""


def pooled_metrics(statistics: Statistics, *, selects: bool = False) -> dict[str, PooledMetric]:
    """Every metric that the statistics define, by name, or only those known after every epoch.

    Matching is done here, once; calls are cheap.
    """
    return {name: made() for name, one, made in _makers(statistics) if one is None or one.selects or not selects}


def pooled_metric(statistics: Statistics, name: str) -> PooledMetric:
    """One metric of `pooled_metrics`, without the work that the others need.

    Raises:
        UsageError: the statistics do not define it.
    """
    known = {each: made for each, _, made in _makers(statistics)}
    if name not in known:
        raise UsageError(f"Metric {name!r} cannot be computed from stored statistics; these can: {', '.join(known)}.")
    return known[name]()


def defines(statistics: Statistics, name: str) -> bool:
    return any(each == name for each, _, _ in _makers(statistics))


def undefined_reasons(statistics: Statistics) -> dict[str, str]:
    """Name -> why a split may have no value of it."""
    return {name: "" if one is None else one.why_undefined(name) for name, one, _ in _makers(statistics)}


def values_in(metric: Callable[[np.ndarray], float | None], weights: np.ndarray) -> np.ndarray:
    """(R,) float64 of a pooled metric in R resamples, (R, n_images) copies of each image; NaN where it is undefined."""
    many = getattr(metric, "many", None)
    if many is not None:
        values: np.ndarray = many(weights)
        return values
    return np.array([metric(row.astype(np.int64)) for row in weights], np.float64)


def values_alone(metric: Callable[[np.ndarray], float | None], images: Sequence[int], n_images: int) -> np.ndarray:
    """(len(images),) float64 of a pooled metric with each of these images alone; NaN where it is undefined."""
    found = np.full(len(images), np.nan)
    for start in range(0, len(images), _ALONE_AT_ONCE):
        chosen = np.asarray(images[start : start + _ALONE_AT_ONCE], np.int64)
        weights = np.zeros((len(chosen), n_images), np.uint8)
        weights[np.arange(len(chosen)), chosen] = 1
        found[start : start + len(chosen)] = values_in(metric, weights)
    return found


def reduced_to(statistics: Statistics, name: str) -> Statistics:
    """What `pooled_metric(..., name)` reads, and as little else as possible: small enough to keep those of many runs at hand."""
    found = spec.find(name, statistics.target)
    return statistics if found is None else statistics.only(found.spec.needs)


def to_columns(statistics: Statistics) -> Columns:
    """Statistics as columns with a row per image, exact: `from_columns` gives the same values back to the last bit.

    Raises:
        UsageError: they stand in an order that columns by image do not keep.
    """
    try:
        found = statistics.to_columns()
    except ValueError as error:
        raise UsageError(f"These statistics cannot be stored image by image: {error}.") from None
    return Columns({"kind": statistics.kind, **found.about}, found.columns)


def from_columns(about: Mapping[str, Any], columns: Mapping[str, Column]) -> Statistics:
    """Reads what `to_columns` wrote, or as much of it as `columns_for` names.

    Raises:
        UsageError: something else was given, or its lists contradict each other.
    """
    try:
        return _KINDS[about["kind"]].from_columns(about, columns)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"These are not sufficient statistics of a record: {type(error).__name__}: {error}.") from None


def columns_for(about: Mapping[str, Any], there: Collection[str], name: str) -> list[str]:
    """Those of the columns that one metric reads; all of them where its needs are not known."""
    kind = _KINDS.get(str(about.get("kind")))
    found = None if kind is None else spec.find(name, kind.target)
    if kind is None or found is None:
        return list(there)
    unread = {column for part, columns in kind.columns_of.items() if part not in found.spec.needs for column in columns}
    return [column for column in there if column not in unread]


def json_for(stored: dict[str, Any], name: str) -> dict[str, Any]:
    """Stored statistics without the large fields that one metric does not read, so that they need not be decoded."""
    kind = _KINDS.get(str(stored.get("kind")))
    found = None if kind is None else spec.find(name, kind.target)
    unread = set() if kind is None else kind.large - set(() if found is None else found.spec.needs)
    return {name: None if name in unread else value for name, value in stored.items()}


def to_json(statistics: Statistics) -> dict[str, Any]:
    """Statistics as lists and numbers, exact: `from_json` gives the same values back to the last bit."""
    return statistics.to_json()


def from_json(stored: dict[str, Any]) -> Statistics:
    """Reads what `to_json` wrote.

    Raises:
        UsageError: something else was given, or its lists contradict each other.
    """
    try:
        return _KINDS[stored["kind"]].from_json(stored)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"These are not sufficient statistics of a record: {type(error).__name__}: {error}.") from None


def _makers(statistics: Statistics) -> Iterator[tuple[str, MetricSpec | None, Callable[[], PooledMetric]]]:
    """Name, declaration and what makes the metric; work that several share is done once, when the first of them is made."""
    if isinstance(statistics, MeanStatistics):  # its columns are metrics already, by name
        yield from ((name, None, partial(statistics.mean_of, name)) for name in statistics.names)
        return
    view, fields = statistics.view(), statistics.fields
    for one in spec.specs_of(statistics.target):
        if one.compute is not None and one.reads_only(fields):
            yield from ((name, one, partial(one.compute, view, *arguments)) for name, arguments in one.names(statistics.class_names))
