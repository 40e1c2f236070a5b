"""The leaderboard as a folder that opens in any browser, without a server and without a network.

Plots come first, tables second, provenance last. Everything shown was computed in `rows` and `differences`; here it is only arranged.
Pictures and sentences are shown as far as a dataset's agreement allows.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmark.cards import Epoch, Job, Record, Role
from benchmark.errors import UsageError
from benchmark.files import read_bytes
from benchmark.readers.base import SPLITS
from benchmark.readers.kit.audit import leak_sentence
from benchmark.report import beside, escape, figures, tables, typeset
from benchmark.report.differences import TESTED, Gain, Leak, PValueOf, gains, leaks
from benchmark.report.gallery import refusal
from benchmark.report.pages import environment, write_page
from benchmark.report.row_warnings import sentence_of, warnings_of
from benchmark.report.rows import ResampledOf, rows_of
from benchmark.report.tables import Board, Column
from benchmark.shelf import Refused
from benchmark.submission.trust import Trust

Overlays = Mapping[str, Mapping[str, Sequence[Path]]]
CurveOf = Callable[[Record], Sequence[Epoch]]

REPORT = "report"  # folder of the pages, in the output folder
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Gallery:
    """Overlays of one task: name of a row -> picture paths relative to the page; or why there are none."""

    task: str
    pictures: dict[str, list[str]]
    refusal: str


@dataclass(frozen=True)
class BoardView:
    """A board with its plots, as the template needs it."""

    board: Board
    gains: list[Gain]
    leaks: list[Leak]
    forest_id: str
    gains_id: str
    reasons: dict[tuple[str, Column], int]

    @property
    def numbered_gaps(self) -> list[tuple[int, str, str, str]]:
        return [(self.reasons[b, c], b, c.title, why) for b, c, why in self.board.gaps()]


def write_site(
    records: Iterable[Record],
    out: Path,
    *,
    title: str,
    overlays: Overlays | None = None,
    planned: Iterable[Job] = (),
    resampled: ResampledOf | None = None,
    p_value_of: PValueOf | None = None,
    refused: Sequence[Refused] = (),
    curve_of: CurveOf | None = None,
    trust: Mapping[str, Trust] | None = None,
) -> Path:
    """Writes `<out>/report/` (index.html, plotly.min.js, leaderboard.{csv,json,md,tex}, metrics.csv, curves.csv) and returns index.html.

    Args:
        records: of any kind; phantom, limited and real ones get tables of their own.
        overlays: task id -> name of a row -> PNG files, copied beside the page unless the dataset forbids it.
        planned: jobs that were to run; without a record they show as missing.
        resampled: record -> its test score in resamples of the patients; None: intervals cover runs only.
        p_value_of: of a pre-trained and an untrained row; None: nothing is tested.
        refused: stored records that may not be believed: named, and counted as gaps of the rows they were planned for.
        curve_of: gives a record's training curve, where records were read without; None takes the record's own.
        trust: level of each record by key; those that it does not name are one's own.

    Raises:
        UsageError: an overlay is no PNG file.
    """
    records, planned = list(records), list(planned)
    report = out / REPORT
    report.mkdir(parents=True, exist_ok=True)
    rows = rows_of(records, planned=planned, resampled=resampled, refused=[one.key for one in refused], trust=trust)
    boards = tables.boards(rows)
    values = beside.values_of(rows, records)

    plots: dict[str, Any] = {}
    views = [_view(board, number, plots, p_value_of) for number, board in enumerate(boards)]
    curve_of = curve_of or (lambda record: record.curve)
    curves, with_curves = _curve_table(records, curve_of)
    curve_ids = _curves([record for record in records if record.key in with_curves], plots, figures.curve_styles(records), curve_of)
    page = (
        environment()
        .get_template("index.html.j2")
        .render(
            title=title,
            phantom=any(r.phantom for r in records),
            limited=any(r.scale == "limited" for r in records),
            facts=_facts(records, rows_backbones=len({row.label for row in rows}), planned=planned),
            views=views,
            plots=plots,
            sheets=beside.sheets(values),
            curve_ids=curve_ids,
            galleries=_galleries(records, overlays or {}, report),
            failures=[_failure(record) for record in records if record.status == "failed"],
            refused=refused,
            audits=_audits(records),
            provenance=[_provenance(record) for record in sorted(records, key=_job_order)],
            interval=tables.INTERVAL,
            no_ranking=tables.NO_RANKING,
            about_anchors=tables.ANCHORS,
            tested=TESTED,
            head_text=tables.head_text,
        )
    )
    write_page(report / "leaderboard.csv", tables.to_csv(rows))
    write_page(report / "leaderboard.json", json.dumps(tables.to_dicts(rows), indent=1, ensure_ascii=False) + "\n")
    write_page(report / "leaderboard.md", typeset.to_markdown(rows, title=title))
    write_page(report / "leaderboard.tex", typeset.to_latex(rows))
    write_page(report / "metrics.csv", beside.to_csv(values))
    write_page(report / "curves.csv", curves)
    _copy_plotly(report)
    return write_page(report / "index.html", page)


def _curve_table(records: Iterable[Record], curve_of: CurveOf) -> tuple[str, set[str]]:
    """Every epoch of every job as CSV, one line each, and the keys of jobs that have some."""
    found: set[str] = set()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        (
            "key",
            "task",
            "backbone",
            "protocol",
            "role",
            "run",
            "epoch",
            "step",
            "train_loss",
            "validation_loss",
            "learning_rate",
            "metric",
            "value",
        )
    )
    for record in sorted(records, key=_job_order):
        labels, experiment = record.job.labels, record.job.experiment
        of_job = (record.key, labels.task, labels.backbone, labels.protocol, experiment.role.value, labels.run_number)
        names, select = [escape.csv_cell(name) for name in of_job], escape.csv_cell(experiment.select)
        for point in curve_of(record):
            found.add(record.key)
            scores = (point.epoch, point.step, point.train_loss, point.validation_loss, point.learning_rate)
            value = point.metrics.get(experiment.select, "")
            writer.writerow((*names, *scores, select, value))
    return buffer.getvalue(), found


def _view(board: Board, number: int, plots: dict[str, Any], p_value_of: PValueOf | None) -> BoardView:
    found = gains(board.rows, p_value_of)
    forest_id, gains_id = f"forest-{number}", f"gains-{number}" if found else ""
    plots[forest_id] = figures.forest(board)
    if found:
        plots[gains_id] = figures.gain_forest(found, figures.styles_of(board))
    gaps = board.gaps()
    numbers = {why: number for number, why in enumerate(dict.fromkeys(why for _, _, why in gaps), start=1)}
    reasons = {(b, c): numbers[why] for b, c, why in gaps}
    return BoardView(board, found, leaks(board.rows), forest_id, gains_id, reasons)


def _curves(
    records: Sequence[Record], plots: dict[str, Any], styles: dict[str, dict[str, Any]], curve_of: CurveOf
) -> list[tuple[str, str, int]]:
    """Adds one figure per task, split and protocol; returns (id, heading, number of jobs). Holds the curves of one figure at a time.

    Args:
        records: those with a curve.
    """
    grouped: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in sorted(records, key=_job_order):
        grouped[record.job.labels.task, record.job.experiment.dataset.split, record.job.labels.protocol].append(record)
    found = []
    for number, ((_, split, protocol), members) in enumerate(grouped.items()):
        name = f"curves-{number}"
        plots[name] = figures.curves([record.model_copy(update={"curve": curve_of(record)}) for record in members], styles)
        heading = " · ".join(filter(None, (members[0].job.labels.task_title, tables.split_text(split), protocol)))
        found.append((name, heading, len(members)))
    return found


def _galleries(records: Sequence[Record], overlays: Overlays, report: Path) -> list[Gallery]:
    """Copies pictures beside the page; those of an earlier report are removed first."""
    shutil.rmtree(report / "overlays", ignore_errors=True)
    by_task: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_task[record.job.labels.task].append(record)
    found = []
    forbidden: dict[str, Mapping[str, Sequence[Path]]] = {task: {} for task, members in by_task.items() if any(map(refusal, members))}
    for task, backbones in (forbidden | dict(overlays)).items():
        # A task without a record has no known agreement, and is treated as the strictest.
        refusals = [refusal(record) for record in by_task.get(task, [])]
        if not refusals or any(refusals):
            found.append(
                Gallery(task, {}, next(filter(None, refusals), f"No overlays for {task}: no record says what its dataset allows."))
            )
            continue
        pictures = {
            label: [_copy_picture(path, report, task, label, i) for i, path in enumerate(paths)] for label, paths in backbones.items()
        }
        found.append(Gallery(task, pictures, ""))
    return found


def _copy_picture(path: Path, report: Path, task: str, backbone: str, number: int) -> str:
    content = read_bytes(path)
    if not content.startswith(_PNG):
        raise UsageError(f"{path}: an overlay must be a PNG file; draw it with benchmark.report.gallery.")
    unique = hashlib.sha256(f"{task}\n{backbone}".encode()).hexdigest()[:8]
    name = f"{escape.slug(task)}/{escape.slug(backbone)}-{unique}-{number:02d}.png"
    target = report / "overlays" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return f"overlays/{name}"


def _copy_plotly(report: Path) -> None:
    """Plotly's own file, once, beside the page: works from file:// and without a network."""
    source = resources.files("plotly") / "package_data" / "plotly.min.js"
    with resources.as_file(source) as path:
        shutil.copyfile(path, report / "plotly.min.js")


def _facts(records: Sequence[Record], *, rows_backbones: int, planned: Sequence[Job]) -> list[tuple[str, str]]:
    n_failed = sum(r.status == "failed" for r in records)
    n_missing = len({job.key for job in planned} - {r.key for r in records})
    seconds = sum(sum(r.timings_s.values()) for r in records)
    jobs = (
        f"{len(records) - n_failed} done" + (f", {n_failed} failed" if n_failed else "") + (f", {n_missing} missing" if n_missing else "")
    )
    devices = sorted({r.environment["device"] for r in records if r.environment.get("device")})
    return [
        ("Backbones", str(rows_backbones)),
        ("Tasks", str(len({r.job.labels.task for r in records} | {job.labels.task for job in planned}))),
        ("Jobs", jobs),
        ("Computing time", _duration(seconds)),
        ("Device", ", ".join(devices) or "not recorded"),
        ("LOBE", _version()),
    ]


def _audits(records: Sequence[Record]) -> list[dict[str, str]]:
    """What the splits of each dataset shared, once for each set of images used; aggregates only."""
    found: dict[tuple, dict[str, str]] = {}
    for record in sorted(records, key=_job_order):
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


def _failure(record: Record) -> dict[str, str]:
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


def _provenance(record: Record) -> dict[str, Any]:
    """What somebody needs to judge or repeat one job, in the order of the page's columns."""
    experiment, labels = record.job.experiment, record.job.labels
    parameters = record.parameters
    return {
        "Key": record.key,
        "Checksum": record.checksum[:16] or "without checksum",
        "Task": labels.task,
        "Backbone": labels.backbone,
        "Run": f"search {experiment.learning_rate:g}" if experiment.role is Role.SELECTION else str(labels.run_number),
        "Status": record.status,
        "Finished": record.finished_at,
        "Suite": labels.suite or "",
        "Custom": ", ".join(labels.custom),
        "Encoder": labels.encoder_text,
        "Protocol": f"{labels.protocol}, task version {experiment.task_version}",
        "Seeds": f"head {experiment.head_seed}, order {experiment.order_seed}",
        "Learning rate": "" if record.learning_rate is None else f"{record.learning_rate:g}",
        "Epoch": "" if record.selected_epoch is None else f"{record.selected_epoch} ({record.steps} steps)",
        "Images": ", ".join(f"{split} {counts.get('images', 0)}" for split, counts in record.counts.items()),
        "Parameters": f"{parameters.get('trained', 0):,} trained, {parameters.get('frozen', 0):,} frozen" if parameters else "",
        "Tensors": ", ".join(f"{count:,} {fate}" for fate, count in record.account.items() if count),
        "Split": experiment.dataset.split,
        "Backbone digest": (experiment.backbone.digest or "random")[:16],
        "Dataset digest": experiment.dataset.digest[:16],
        "Taken over from": record.adopted_from or "",
        "Test ids digest": record.sample_digests.get("test", "")[:16],
        "Time": _duration(sum(record.timings_s.values())),
        "Peak memory": "" if record.peak_memory_bytes is None else f"{record.peak_memory_bytes / 2**20:,.0f} MiB",
        "Precision": f"{experiment.precision} on {experiment.device_type}, {experiment.threads} thread(s)",
        "Versions": ", ".join(f"{name} {version}" for name, version in record.environment.items() if version != "absent"),
        "Warnings": "; ".join(warnings_of(record)),
    }


def _job_order(record: Record) -> tuple:
    labels = record.job.labels
    return (labels.task, labels.backbone.lower(), record.job.experiment.role is Role.FINAL, labels.run, record.key)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _version() -> str:
    try:
        return metadata.version("lobe-bench")
    except metadata.PackageNotFoundError:
        return "run from its folder"
