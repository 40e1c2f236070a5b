"""How often chance alone would tell two rows apart: p-values from exchanging their predictions within patients, from stored statistics.

Computed once for a pair of rows and kept beside the records. Which pairs are tested, and the correction for many tests: `differences`.
"""

from __future__ import annotations

from benchmark.cards import digest_of
from benchmark.metrics.statistics import defines, pooled_metric, stack_statistics
from benchmark.report import stored
from benchmark.report.rows import Row
from benchmark.statistics.uncertainty import FEWEST_CLUSTERS, N_RESAMPLES, paired_permutation

_VERSION = 1  # goes up when the same statistics give another value


def p_value(first: Row, second: Row, out: stored.Where) -> float | None:
    """Two-sided p-value of first minus second: 1,000 exchanges of all predictions of a patient, in all runs together.

    None where it cannot be had: an incomplete row, other numbers of runs, statistics that are not in `out`, other test images, a metric
    they do not define, or fewer than 30 patients (images, where patients are unknown).
    """
    if first.mean is None or second.mean is None or len(first.runs) != len(second.runs) or first.metric != second.metric:
        return None
    stamps = [[stored.stamp(run.key, stored.folder_of(run.key, out)) for run in row.runs] for row in (first, second)]
    if any(stamp is None for row in stamps for stamp in row):
        return None
    given = {"version": _VERSION, "statistics": stamps, "metric": first.metric, "n_permutations": N_RESAMPLES}
    name = "exchange-" + digest_of([[run.key for run in row.runs] for row in (first, second)])[:32]
    beside = stored.folder_of(first.runs[0].key, out)
    known = stored.kept(name, given, beside)
    if known is not None and isinstance(known.get("p_value"), float | None):
        return known["p_value"]
    found = _computed(first, second, out)
    stored.keep(name, given, {"p_value": found}, beside)
    return found


def _computed(first: Row, second: Row, out: stored.Where) -> float | None:
    metric = first.metric
    runs = [[stored.read(run.key, metric, stored.folder_of(run.key, out)) for run in row.runs] for row in (first, second)]
    everything = [images for row in runs for images in row]
    one = everything[0]
    if one.n_clusters < FEWEST_CLUSTERS or any(images.test != one.test or not defines(images.statistics, metric) for images in everything):
        return None
    stacked = [pooled_metric(stack_statistics(a.statistics, b.statistics), metric) for a, b in zip(*runs, strict=True)]
    return paired_permutation(stacked, one.clusters)
