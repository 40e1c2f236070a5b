"""How far a run's test score moves with other test patients: its reported metric in resamples of them, from stored statistics.

All runs over the same test patients see the same resamples, so values of several runs can be averaged and subtracted draw by draw. What is
computed once stays beside the records, under a stamp of the statistics' file. What intervals follow from it: `rows` and `differences`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.cards import Record
from benchmark.metrics.statistics import defines, pooled_metric
from benchmark.report import stored
from benchmark.statistics.levels import resampled_variance
from benchmark.statistics.uncertainty import cluster_bootstrap

N_RESAMPLES = 200  # for a variance; its square root is then known to about 5 %
_VERSION = 2  # goes up when the same statistics give other values


@dataclass(frozen=True)
class Resampled:
    """The reported metric of one run, or the mean of several, in resamples of the test patients.

    Attributes:
        values: one per resample, fractions; NaN where a resample leaves the metric undefined.
        test: digest of test images and their patients: equal for what saw the same resamples.
        n_clusters: patients; images where no patient is known.
        by_patient: False where images were resampled.
    """

    values: tuple[float, ...]
    test: str
    n_clusters: int
    by_patient: bool

    @property
    def variance(self) -> float | None:
        """V_patient; None where too many resamples leave the metric undefined."""
        return resampled_variance(self.values)


def of_record(record: Record, out: stored.Where) -> Resampled | None:
    """Resamples of a stored record; None where its statistics are not in `out`, or do not define the reported metric."""
    out = stored.folder_of(record.key, out)
    made_of = stored.stamp(record.key, out)
    if record.status != "ok" or made_of is None:
        return None
    metric = record.job.experiment.report
    given = {"version": _VERSION, "statistics": made_of, "metric": metric, "n_resamples": N_RESAMPLES}
    known = stored.kept(record.key, given, out)
    found = None if known is None else _of_json(known)
    if found is None:
        found = _computed(record.key, metric, out)
        if found is not None:
            stored.keep(record.key, given, {**vars(found), "values": [None if math.isnan(v) else v for v in found.values]}, out)
    return found


def mean_of(runs: Sequence[Resampled | None]) -> Resampled | None:
    """The mean over runs, draw by draw; None when a run has no resamples or the runs saw different ones."""
    present = [run for run in runs if run is not None]
    if not present or len(present) < len(runs) or len({run.test for run in present}) > 1:
        return None
    values = tuple(math.fsum(draw) / len(draw) for draw in zip(*(run.values for run in present), strict=True))
    return Resampled(values, present[0].test, present[0].n_clusters, present[0].by_patient)


def difference_of(first: Resampled | None, second: Resampled | None) -> Resampled | None:
    """First minus second, draw by draw: the paired bootstrap. None unless both saw the same resamples."""
    if first is None or second is None or first.test != second.test:
        return None
    values = tuple(a - b for a, b in zip(first.values, second.values, strict=True))
    return Resampled(values, first.test, first.n_clusters, first.by_patient)


def _of_json(known: dict[str, Any]) -> Resampled | None:
    try:
        values = tuple(math.nan if v is None else float(v) for v in known["values"])
        found = Resampled(values, str(known["test"]), int(known["n_clusters"]), bool(known["by_patient"]))
    except (ValueError, KeyError, TypeError):
        return None
    return found if len(values) == N_RESAMPLES else None


def _computed(key: str, metric: str, out: Path) -> Resampled | None:
    images = stored.read(key, metric, out)
    if not defines(images.statistics, metric):
        return None
    values = cluster_bootstrap(pooled_metric(images.statistics, metric), images.clusters, N_RESAMPLES)
    return Resampled(tuple(values.tolist()), images.test, images.n_clusters, images.by_patient)
