"""How far a run's test score moves with other test patients: its reported metric in resamples of them, from stored statistics.

All runs over the same test patients see the same resamples, so values of several runs can be averaged and subtracted draw by draw. What is
computed once stays beside the records, under a stamp of the statistics' file. What intervals follow from it: `statistics.difference`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import processes
from benchmark.cards import Record
from benchmark.errors import LobeError
from benchmark.kinds.kit.stored import ByImage
from benchmark.metrics.statistics import defines, pooled_metric
from benchmark.processes import Show, unseen
from benchmark.report import stored
from benchmark.statistics.bootstrap import N_RESAMPLES, cluster_bootstrap

_VERSION = 3  # goes up when the same statistics give other values
_KEPT = np.dtype("<f4")  # a variance over resamples is known to some per cent


@dataclass(frozen=True, eq=False)
class Resampled:
    """The reported metric of runs in resamples of the test patients.

    Attributes:
        values: (R, n) float32 fractions, a column per run; NaN where a resample leaves the metric undefined.
        test: digest of test images and their patients: equal for what saw the same resamples.
        n_clusters: patients; images where no patient is known.
        by_patient: False where images were resampled.
    """

    values: np.ndarray
    test: str
    n_clusters: int
    by_patient: bool

    @property
    def mean(self) -> np.ndarray:
        """(R,) float64, over runs."""
        averaged: np.ndarray = self.values.mean(axis=1, dtype=np.float64)
        return averaged


def of_records(records: Iterable[Record], out: stored.Where, show: Show = unseen) -> Callable[[Record], Resampled | None]:
    """`of_record` of any of these. Where many were never resampled, several processes do it first."""
    places = [(record, stored.folder_of(record.key, out)) for record in records]
    waiting = [(record, at) for record, at in places if stored.stamp(record.key, at) is not None and not stored.is_kept(record.key, at)]
    if processes.number_for(len(waiting)) > 1:
        for _ in processes.each(_resample, waiting, "resampling test patients", show):
            pass
    return partial(of_record, out=out)


def of_record(record: Record, out: stored.Where) -> Resampled | None:
    """Resamples of a stored record; None where its statistics are not in `out`, or do not define the reported metric."""
    out = stored.folder_of(record.key, out)
    made_of = stored.stamp(record.key, out)
    if record.status != "ok" or made_of is None:
        return None
    metric = record.job.experiment.report
    given = _given(metric, made_of)
    known = stored.kept(record.key, given, out)
    found = None if known is None else _of_json(known)
    return found or _kept_anew(record, stored.read(record.key, metric, out), given, out)


def leave(record: Record, images: ByImage, out: Path) -> None:
    """Leaves the resamples of a record beside it, of statistics that were read just now. What is wrong is said when they are asked for."""
    metric, made_of = record.job.experiment.report, stored.stamp(record.key, out)
    if made_of is None:
        return
    with suppress(LobeError, OSError):
        given = _given(metric, made_of)
        if stored.kept(record.key, given, out) is None:
            _kept_anew(record, stored.tested(images, metric), given, out)


def together(runs: Sequence[Resampled | None]) -> Resampled | None:
    """Several runs side by side; None when a run has no resamples or the runs saw different ones."""
    present = [run for run in runs if run is not None]
    if not present or len(present) < len(runs) or len({run.test for run in present}) > 1:
        return None
    one = present[0]
    return Resampled(np.concatenate([run.values for run in present], axis=1), one.test, one.n_clusters, one.by_patient)


def _of_json(known: dict[str, Any]) -> Resampled | None:
    try:
        values = np.frombuffer(base64.b64decode(known["values"], validate=True), _KEPT).astype(np.float32)[:, None]
        found = Resampled(values, str(known["test"]), int(known["n_clusters"]), bool(known["by_patient"]))
    except (ValueError, KeyError, TypeError):
        return None
    return found if len(values) == N_RESAMPLES else None


def _resample(given: tuple[Record, Path]) -> None:
    """Leaves the resamples of a record beside it. What is wrong with one is said when it is asked for."""
    with suppress(LobeError, OSError):
        of_record(*given)


def _given(metric: str, made_of: list[Any]) -> dict[str, Any]:
    """What resamples are computed from."""
    return {"version": _VERSION, "statistics": made_of, "metric": metric, "n_resamples": N_RESAMPLES}


def _kept_anew(record: Record, images: stored.TestedImages, given: dict[str, Any], out: Path) -> Resampled | None:
    """Computes resamples and keeps them beside the record; None where its statistics do not define the reported metric."""
    found = _computed(images, record.job.experiment.report)
    if found is not None:
        values = base64.b64encode(found.values.astype(_KEPT).tobytes()).decode()
        about = {"test": found.test, "n_clusters": found.n_clusters, "by_patient": found.by_patient}
        stored.keep(record.key, given, {"values": values, **about}, out)
    return found


def _computed(images: stored.TestedImages, metric: str) -> Resampled | None:
    if not defines(images.statistics, metric):
        return None
    values = cluster_bootstrap(pooled_metric(images.statistics, metric), images.clusters)
    return Resampled(values.astype(np.float32)[:, None], images.test, images.n_clusters, images.by_patient)
