"""What somebody needs to judge or repeat single jobs: their facts, why some failed, and what the splits of a dataset shared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from benchmark import extras
from benchmark.cards import BackboneCard, Job, Record, Role
from benchmark.readers.base import SPLITS
from benchmark.readers.kit.audit import leak_sentence
from benchmark.report.commands import command_of
from benchmark.report.escape import one_line
from benchmark.report.row_warnings import sentence_of, warnings_of


def facts_of_job(record: Record, card: BackboneCard | None) -> dict[str, str]:
    """Everything a page says of a job, in its order; texts, empty where a record says nothing."""
    experiment, labels = record.job.experiment, record.job.labels
    parameters = record.parameters
    return {
        "Key": record.key,
        "Task": labels.task,
        "Protocol": f"{labels.protocol}, task version {experiment.task_version}",
        "Run": search_text(record) if experiment.role is Role.SELECTION else str(labels.run_number),
        "Status": record.status,
        "Scale": record.scale,
        "Data": "phantom" if record.phantom else "real",
        "Metrics (%)": ", ".join(f"{name} {100 * value:.4g}" for name, value in record.metrics.items()),
        "Command": command_of(record, card),
        "Checksum": record.checksum[:16] or "without checksum",
        "Finished": record.finished_at,
        "Suite": labels.suite or "",
        "Custom": ", ".join(labels.custom),
        "Own code": ", ".join(f"{name} {digest[:16]}" for name, digest in experiment.own_code.items()),
        "Encoder": labels.encoder_text,
        "Split": experiment.dataset.split,
        "Seeds": f"head {experiment.head_seed}, order {experiment.order_seed}",
        "Learning rate": "" if record.learning_rate is None else f"{record.learning_rate:g}",
        "Epoch": "" if record.selected_epoch is None else f"{record.selected_epoch} ({record.steps} steps)",
        "Images": ", ".join(f"{split} {counts.get('images', 0)}" for split, counts in record.counts.items()),
        "Parameters": f"{parameters.get('trained', 0):,} trained, {parameters.get('frozen', 0):,} frozen" if parameters else "",
        "Input": "" if record.input_size is None else ", ".join([f"{record.input_size} px", *(f"{n} x {n}" for n in record.grids)]),
        "Multiply-adds": ", ".join(f"{n / 1e9:,.2f} G {part}" for part, n in record.macs.items()),
        "Tensors": ", ".join(f"{count:,} {fate}" for fate, count in record.account.items() if count),
        "Backbone digest": (experiment.backbone.digest or "random")[:16],
        "Dataset digest": experiment.dataset.digest[:16],
        "Test ids digest": record.sample_digests.get("test", "")[:16],
        "Taken over from": record.adopted_from or "",
        "Time": duration(sum(record.timings_s.values())),
        "Peak memory": "" if record.peak_memory_bytes is None else f"{record.peak_memory_bytes / 2**20:,.0f} MiB",
        "Precision": f"{experiment.precision} on {experiment.device_type}, {experiment.threads} thread(s)",
        "Versions": ", ".join(f"{name} {version}" for name, version in record.environment.items() if version != "absent"),
        "Failure": sentence_of(record),
        "Warnings": "; ".join(warnings_of(record)),
    }


def search_text(record: Record) -> str:
    """A job of the learning-rate search, by the rate it tried."""
    rate = record.job.experiment.learning_rate or record.learning_rate
    return "search beyond the grid: not needed" if rate is None else f"search {rate:g}"


def as_table(lines: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Lines of the same keys as columns and rows, what all of them share stated once: jobs of a backbone have most in common."""
    if not lines:
        return {"common": {}, "columns": [], "rows": []}
    keep = [name for name in lines[0] if name in ("Key", "Task") or len({line[name] for line in lines}) > 1]
    common = {name: one_line(value) for name, value in lines[0].items() if name not in keep}
    return {"common": common, "columns": keep, "rows": [[one_line(line[name]) for name in keep] for line in lines]}


def summary(records: Sequence[Record], *, n_backbones: int, planned: Sequence[Job]) -> list[tuple[str, str]]:
    """What the report is made of, in a few numbers."""
    n_failed = sum(r.status == "failed" for r in records)
    n_missing = len({job.key for job in planned} - {r.key for r in records})
    jobs = (
        f"{len(records) - n_failed:,} done"
        + (f", {n_failed:,} failed" if n_failed else "")
        + (f", {n_missing:,} missing" if n_missing else "")
    )
    devices = sorted({r.environment["device"] for r in records if r.environment.get("device")})
    return [
        ("Backbones", str(n_backbones)),
        ("Tasks", str(len({r.job.labels.task for r in records} | {job.labels.task for job in planned}))),
        ("Jobs", jobs),
        ("Computing time", duration(sum(sum(r.timings_s.values()) for r in records))),
        ("Device", ", ".join(devices) or "not recorded"),
        ("LOBE", extras.release()),
    ]


def audits(records: Iterable[Record]) -> list[dict[str, str]]:
    """What the splits of each dataset shared, once for each set of images used; aggregates only."""
    found: dict[tuple, dict[str, str]] = {}
    for record in records:
        counts, experiment = record.leakage, record.job.experiment
        if not counts:
            continue
        used = ", ".join(f"{split} {counts[f'{split}_images']:,}" for split in SPLITS)
        marks = ["phantom"] * record.phantom + ["limited"] * (record.scale == "limited")
        known = any(counts[f"{split}_patients"] for split in SPLITS)
        pairs = list(combinations(SPLITS, 2))
        shared = ", ".join(f"{a} and {b} {counts[f'shared_patients_{a}_{b}']:,}" for a, b in pairs)
        line = {
            "Dataset": " · ".join((experiment.dataset.name, *marks)),
            "Split": experiment.dataset.split,
            "Images used": used,
            "Images in two splits": f"{sum(counts[f'shared_images_{a}_{b}'] for a, b in pairs):,}",
            "Patients in two splits": shared if known else "unknown",
            "Test images": leak_sentence(counts),
        }
        found.setdefault(tuple(line.values()), line)
    return list(found.values())


def failure(record: Record) -> dict[str, str]:
    """Why a job has no number, as far as the dataset's agreement lets a page say it."""
    labels = record.job.labels
    search = record.job.experiment.role is Role.SELECTION
    return {
        "task": labels.task_title,
        "backbone": labels.backbone,
        "run": "learning-rate search" if search else f"run {labels.run_number}",
        "kind": record.failure.kind if record.failure else "unknown",
        "sentence": sentence_of(record) or "the record holds no reason",
        "key": record.key,
    }


def job_order(record: Record) -> tuple:
    """By task, backbone, searches before runs."""
    labels = record.job.labels
    return (labels.task, labels.backbone.lower(), record.job.experiment.role is Role.FINAL, labels.run, record.key)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
