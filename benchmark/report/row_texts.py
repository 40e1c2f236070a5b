"""What a row says in words of its jobs: why it has no mean, and what tells it from a row of the same names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from benchmark.cards import Experiment, Job, Record, Role
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


def variant_texts(experiments: Sequence[Experiment]) -> list[str]:
    """What differs between experiments that carry the same names; empty texts for a single one."""
    if len(experiments) == 1:
        return [""]
    flat = [_flatten(e.model_dump(mode="json", exclude={"head_seed", "order_seed", "role", "learning_rate"})) for e in experiments]
    paths = [p for p in sorted(set().union(*flat)) if p != "backbone.init_seed" and len({f.get(p) for f in flat}) > 1]
    return [", ".join(f"{path}={_short(values.get(path))}" for path in paths[:3]) for values in flat]


def _flatten(value: object, path: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        return {p: v for key, inner in value.items() for p, v in _flatten(inner, f"{path}.{key}" if path else str(key)).items()}
    return {path: str(value)}


def _short(text: str | None) -> str:
    return "none" if text is None else text if len(text) <= 16 else f"{text[:8]}…"
