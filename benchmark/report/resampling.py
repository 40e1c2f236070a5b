"""How far a run's test score moves with other test patients: its reported metric in resamples of them, from stored statistics.

All runs over the same test patients see the same resamples, so values of several runs can be averaged and subtracted draw by draw. What is
computed once stays beside the records, named by the statistics' content. What intervals follow from it: `rows` and `differences`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.cards import Record, digest_of
from benchmark.errors import UsageError
from benchmark.metrics.statistics import from_json, pooled_metrics
from benchmark.metrics.uncertainty import cluster_bootstrap
from benchmark.store import write_atomically
from benchmark.training.predictions import STATISTICS_FILE

N_RESAMPLES = 200  # for a variance; its square root is then known to about 5 %
MOST_UNDEFINED = 0.05  # as `metrics.uncertainty`
FOLDER = "resamples"
_VERSION = 1  # goes up when the same statistics give other values


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
        return variance(self.values)


def of_record(record: Record, out: Path) -> Resampled | None:
    """Resamples of a stored record; None where its statistics are not in `out`, or do not define the reported metric."""
    path = out / "predictions" / record.key / STATISTICS_FILE
    if record.status != "ok" or not path.is_file():
        return None
    content = path.read_bytes()
    stamp = {
        "version": _VERSION,
        "statistics": hashlib.sha256(content).hexdigest(),
        "metric": record.job.experiment.report,
        "n_resamples": N_RESAMPLES,
    }
    kept = out / FOLDER / f"{record.key}.json"
    found = _read(kept, stamp) or _computed(content, record.job.experiment.report)
    if found is not None and not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        values = [None if math.isnan(v) else v for v in found.values]
        write_atomically(kept, json.dumps({**stamp, **vars(found), "values": values}).encode())
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


def variance(values: Sequence[float]) -> float | None:
    """Sample variance of the defined values; None with fewer than two, or where more than one in twenty is undefined."""
    kept = [v for v in values if not math.isnan(v)]
    if len(kept) < 2 or len(kept) < (1 - MOST_UNDEFINED) * len(values):
        return None
    centre = math.fsum(kept) / len(kept)
    return math.fsum((v - centre) ** 2 for v in kept) / (len(kept) - 1)


def _read(path: Path, stamp: dict) -> Resampled | None:
    """What was computed before from the same statistics; a file of anything else is removed."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if {name: stored[name] for name in stamp} == stamp and len(stored["values"]) == N_RESAMPLES:
            values = tuple(math.nan if v is None else float(v) for v in stored["values"])
            return Resampled(values, str(stored["test"]), int(stored["n_clusters"]), bool(stored["by_patient"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    path.unlink(missing_ok=True)
    return None


def _computed(content: bytes, metric: str) -> Resampled | None:
    stored = json.loads(content)
    known = pooled_metrics(from_json(stored))
    if metric not in known:
        return None
    ids, patients = stored["ids"], stored["patients"]
    if len(ids) != len(patients):
        raise UsageError(f"Statistics of {len(ids)} images name {len(patients)} patients; the file was edited.")
    by_patient = any(patient is not None for patient in patients)
    # An image without a known patient stands for itself.
    clusters = [f"image {i}" if patient is None else f"patient {patient}" for i, patient in zip(ids, patients, strict=True)]
    values = cluster_bootstrap(known[metric], clusters, N_RESAMPLES)
    return Resampled(tuple(values.tolist()), digest_of([ids, clusters]), len(set(clusters)), by_patient)
