"""What a row without a mean says in words of its jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from benchmark.cards import Job, Record, Role
from benchmark.report.row_warnings import sentence_of


def why_no_mean(
    members: Sequence[tuple[Job, Record | None]],
    n_ok: int,
    n_failed: int,
    n_expected: int,
    unusable: Collection[str],
    failures: Mapping[str, Record],
    refused: Collection[str],
) -> str:
    """What a dash stands for, in one sentence without a full stop.

    Args:
        unusable: keys of records without a finite value of the reported metric.
        failures: failed records of all rows, by key.
        refused: keys of stored records that may not be believed.
    """
    counts = f"{n_ok} of {n_expected} runs"
    if n_failed:
        counts += f", {n_failed} failed"
    if n_expected - n_ok - n_failed:
        counts += f", {n_expected - n_ok - n_failed} missing"
    for job, record in members:
        if record is not None and record.status == "ok" and job.experiment.role is Role.FINAL and record.key in unusable:
            return f"{counts}: {job.experiment.report} of run {job.labels.run_number} is absent or not finite"
    causes = [r for _, r in members if r is not None and r.status == "failed"]
    causes += [failures[key] for job, _ in members for key in job.depends_on if key in failures]
    if causes:
        role = "learning-rate search" if causes[0].job.experiment.role is Role.SELECTION else f"run {causes[0].job.labels.run_number}"
        return f"{counts}: {role}: {sentence_of(causes[0])}".rstrip(".")
    if not_believed := [job for job, record in members if record is None and job.key in refused]:
        return f"{counts}: the stored record {not_believed[0].key} is refused"
    if n_ok == 0 and any(job.experiment.role is Role.SELECTION and record is not None for job, record in members):
        return f"{counts}: so far only the learning-rate search is on record"
    return f"{counts}: not run yet"
