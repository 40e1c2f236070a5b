"""What a reader of a row must know before believing it, and what may be said of a record at all.

Every warning of a row is made here; where it is shown is up to tables and pages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from benchmark.cards import Contamination, Experiment, Job, Record
from benchmark.report import numbers
from benchmark.report.escape import one_line
from benchmark.report.resampling import Resampled
from benchmark.statistics.difference import Cell
from benchmark.statistics.levels import distinct_runs
from benchmark.statistics.testable import FEWEST_CLUSTERS

if TYPE_CHECKING:
    from benchmark.report.gathering import Run

LIMITED = "limited run: never ranked, never beside published numbers"
PARTIAL = "partial release ({}): never ranked, never beside published numbers"
PHANTOM = "phantom data: generated images, says nothing about a backbone's worth"
CUSTOM = "custom {}: by a card of one's own, not by one that LOBE ships"
CONTAMINATION_UNKNOWN = "pretraining data unknown: counts as having seen these images"
WITHHELD = "text withheld: the dataset's agreement lets no per-image detail into a report; the record holds it"

RUNS_ONLY = "interval covers runs only, not the choice of test patients: no per-image statistics, or too few positives to resample"
NOT_RESAMPLED = "no interval: nothing but test patients is drawn, and there are no per-image statistics or too few positives to resample"
ONE_RUN = "one run: no interval"
BY_IMAGE = "patients unknown: the interval resamples test images"


def warnings_about(
    experiment: Experiment,
    jobs: Sequence[Job],
    records: Sequence[Record],
    runs: Sequence[Run],
    spread: Resampled | None,
    cell: Cell | None,
    *,
    drawn: bool,
    scale: str,
    phantom: bool,
) -> Iterable[str]:
    """All warnings of one row.

    Args:
        experiment: what its runs share.
        jobs, records: of the row, its search for a learning rate included.
        runs: its final runs on record.
        spread: the runs in resamples of the test patients.
        cell: its mean with what the interval covers; None where a run is missing.
        drawn: another run would draw something anew.
    """
    if phantom:
        yield PHANTOM
    custom = dict.fromkeys(part for job in jobs for part in job.labels.custom)
    if custom:
        yield CUSTOM.format(", ".join(custom))
    if experiment.dataset.partial:
        yield PARTIAL.format(one_line(experiment.dataset.partial))
    if scale == "limited" and (experiment.limit is not None or experiment.profile != "full"):
        yield LIMITED
    known = contamination_of(experiment, jobs)
    if known is Contamination.UNKNOWN:
        yield CONTAMINATION_UNKNOWN
    elif known is not Contamination.NONE:
        yield f"pretraining overlaps this dataset: {known.value}"
    yield from repetition_warnings(runs)
    yield from changed_file_warnings(records)
    if cell is not None and drawn and len(runs) == 1:
        yield ONE_RUN
    elif cell is not None:
        yield from interval_warnings(spread, cell)
    yield from sorted({warning for record in records for warning in warnings_of(record)})


def sentence_of(record: Record) -> str:
    """Why a record failed, as far as the dataset's agreement lets a report say it."""
    if record.failure is None:
        return ""
    if record.redistribution == "none":
        return f"{record.failure.kind} ({WITHHELD})"
    return one_line(record.failure.sentence) or record.failure.kind


def warnings_of(record: Record) -> tuple[str, ...]:
    """The record's warnings, as far as the dataset's agreement lets a report say them."""
    if record.warnings and record.redistribution == "none":
        return (f"{len(record.warnings)} warning(s); {WITHHELD}",)
    return tuple(one_line(warning) for warning in record.warnings)


def interval_warnings(spread: Resampled | None, cell: Cell) -> Iterable[str]:
    if spread is None or not cell.covers_patients:
        yield RUNS_ONLY if cell.levels else NOT_RESAMPLED
        return
    if not spread.by_patient:
        yield BY_IMAGE
    if spread.n_clusters < FEWEST_CLUSTERS:
        what = "patients" if spread.by_patient else "images"
        yield f"{spread.n_clusters} test {what}, fewer than {FEWEST_CLUSTERS}: the interval is descriptive"


def repetition_warnings(runs: Sequence[Run]) -> Iterable[str]:
    """Different seeds must not give the same digits: a warning where they do."""
    by_value: dict[float, list[Run]] = defaultdict(list)
    for run in runs:
        if run.value is not None:
            by_value[run.value].append(run)
    repeated = [same for same in by_value.values() if len({(run.head_seed, run.order_seed) for run in same}) > 1]
    if repeated:
        listed = "; ".join("runs " + ", ".join(str(run.run) for run in same) for same in repeated)
        distinct = distinct_runs([run.value for run in runs if run.value is not None])
        alone = f"distinct runs alone give {numbers.percent(numbers.mean(distinct), numbers.t_half_width(distinct))}"
        said = alone if len(distinct) > 1 else "it is one run over again"
        yield f"identical results from different seeds ({listed}): the interval is too narrow; {said}"


def changed_file_warnings(records: Iterable[Record]) -> Iterable[str]:
    """Runs of one row read the same image files; a file can change and keep name and size, all that earlier keys knew of it."""
    seen: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for what, digest in record.sample_digests.items():
            if what.endswith(" files"):
                seen[what].add(digest)
    changed = [what.removesuffix(" files") for what, digests in sorted(seen.items()) if len(digests) > 1]
    if changed:
        yield f"image files of {', '.join(changed)} changed between runs: their numbers are not of the same images"


def contamination_of(experiment: Experiment, jobs: Sequence[Job]) -> Contamination:
    """The worst that the jobs' own card says; unknown where a record of an older LOBE says nothing. Untrained backbones are clean."""
    if experiment.backbone.is_untrained:
        return Contamination.NONE
    said = {job.labels.contamination or Contamination.UNKNOWN for job in jobs}
    return max(said, key=list(Contamination).index)


def is_floor(experiment: Experiment, jobs: Sequence[Job]) -> bool:
    """Whether a row may stand for the untrained network: every run draws it anew, and it is known to have seen no image."""
    return experiment.backbone.digest is None and contamination_of(experiment, jobs) is Contamination.NONE
