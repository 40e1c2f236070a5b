"""Every metric of a row beside the one it reports, each under its own name: what a single number hides.

A mean stands here under the same rule as on the leaderboard: only when every run is there and has the metric. Intervals cover runs only.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmark.cards import Record
from benchmark.plan import METRIC_TITLES
from benchmark.report import escape, numbers
from benchmark.report.rows import Row
from benchmark.report.tables import split_text

FEWEST_BOXES = 30  # a class with fewer test boxes is descriptive (docs/reading-the-leaderboard.md)
BOXES_OF = "boxes of "  # a record's count of one class

# Detection and segmentation; whole-image and text tasks have their own pages of names (docs/classification.md).
TITLES = {
    "mAP": "mAP (LoVT)",
    "mAP@0.5": "mAP (LoVT) at IoU 0.5",
    "mAP@0.75": "mAP (LoVT) at IoU 0.75",
    "pos_mAP": "mAP (LoVT), images with a box only",
    "froc": "FROC (LoVT)",
    "AP40_75_full": "AP 40-75 (full)",
    "froc_full": "FROC (full)",
    "calibration_error": "calibration error of the confidence",
    "lost_at_0.2": "boxes lost at confidence 0.2",
    "coco_AP": "COCO AP",
    "coco_AP50": "COCO AP at IoU 0.5",
    "coco_AP75": "COCO AP at IoU 0.75",
    "mAP_mgca": "mAP (MGCA as released: images with a box and a detection)",
    "mAP_mgca_all": "mAP (MGCA's rule over all images)",
    "avg_dice": "mean Dice over classes",
    "pooled_dice": "Dice, pixels of all classes pooled",
    "pos_dice": "Dice per positive image, mean over classes",
    "image_dice_positives": "Dice per positive image",
    "image_dice_all": "Dice per image, an empty mask left empty counts 1",
    "image_dice_batches": "Dice per image, mean of batches (as GLoRIA's and MGCA's code)",
    "dice_with_background": "Dice, mean with the background's (BenchX)",
    "negatives_empty": "negatives left empty",
    "precision": "pixel precision",
    "recall": "pixel recall",
    "iou": "pixel IoU",
    "lesion_sensitivity_small": "lesions found, smallest third",
    "lesion_sensitivity_medium": "lesions found, middle third",
    "lesion_sensitivity_large": "lesions found, largest third",
    "nsd": "normalised surface distance",
    "pixel_ap": "pixel AP",
}
# A metric has one name everywhere: what a task may report is called as on the leaderboard.
TITLES |= {name: METRIC_TITLES[name] for name in TITLES.keys() & METRIC_TITLES.keys()}
_OF_A_CLASS = {"_dice": "Dice", "_mAP": "mAP (LoVT)"}

CSV_COLUMNS = (
    "backbone",
    "variant",
    "task",
    "dataset",
    "split",
    "protocol",
    "scale",
    "phantom",
    "metric",
    "title",
    "reported",
    "runs",
    "mean",
    "half_width_95_runs_only",
    "note",
)


@dataclass(frozen=True)
class Value:
    """One metric of one row, as the records hold it (detection and Dice values are fractions).

    Attributes:
        half_width: of the 95 % t interval over runs; None for one run.
        note: why the number only describes; empty otherwise.
    """

    row: Row
    metric: str
    title: str
    mean: float
    half_width: float | None
    note: str

    @property
    def reported(self) -> bool:
        return self.metric == self.row.metric


@dataclass(frozen=True)
class Sheet:
    """The metrics of one task on one board: a line per metric, a column per backbone."""

    title: str
    labels: tuple[str, ...]
    lines: tuple[tuple[str, str, tuple[str, ...]], ...]  # title, note, texts in per cent


def values_of(rows: Iterable[Row], records: Iterable[Record]) -> list[Value]:
    """All metrics of complete rows, the reported one included, in the order of rows and of the records' metrics."""
    by_key = {record.key: record for record in records}
    found = []
    for row in rows:
        runs = [by_key[run.key] for run in row.runs if run.value is not None]
        if row.mean is None or not runs:
            continue
        for metric in runs[0].metrics:
            values = [run.metrics.get(metric, math.nan) for run in runs]
            if all(map(math.isfinite, values)):
                title, note = _title(metric, row), _note(metric, runs[0])
                found.append(Value(row, metric, title, numbers.mean(values), numbers.t_half_width(values), note))
    return found


def sheets(values: Sequence[Value]) -> list[Sheet]:
    """One sheet per task, split and board, of detection and segmentation metrics; the reported one stands on the leaderboard already."""
    grouped: dict[tuple, list[Value]] = {}
    for value in values:
        if not value.reported and (value.metric in TITLES or _class_of(value.metric)):
            row = value.row
            grouped.setdefault((row.phantom, row.scale, row.protocol, row.task, row.split), []).append(value)
    found = []
    for members in grouped.values():
        row = members[0].row
        labels = tuple(dict.fromkeys(value.row.label for value in members))
        texts = {(v.metric, v.row.label): numbers.percent(v.mean, v.half_width) for v in members}
        heads = dict.fromkeys((v.metric, v.title, v.note) for v in members)
        lines = tuple((title, note, tuple(texts.get((metric, label), numbers.DASH) for label in labels)) for metric, title, note in heads)
        marks = ["phantom"] * row.phantom + ["limited"] * (row.scale == "limited")
        title = " · ".join(filter(None, (row.task_title, split_text(row.split), row.protocol, *marks)))
        found.append(Sheet(title, labels, lines))
    return found


def to_csv(values: Iterable[Value]) -> str:
    """One line per row and metric, unrounded, as the records hold them."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for value in values:
        row = value.row
        names = (row.backbone, row.variant, row.task, row.dataset, row.split, row.protocol, row.scale, row.phantom)
        half_width = "" if value.half_width is None else value.half_width
        facts = (value.metric, value.title, value.reported, row.n_ok, value.mean, half_width, value.note)
        writer.writerow([escape.csv_cell(cell) for cell in (*names, *facts)])
    return buffer.getvalue()


def _title(metric: str, row: Row) -> str:
    if metric == row.metric:
        return row.metric_title
    suffix = _class_of(metric)
    title = TITLES.get(metric) or (f"{metric.removesuffix(suffix)} {_OF_A_CLASS[suffix]}" if suffix else metric)
    return title.replace("Dice", "box-mask Dice") if row.box_masks else title


def _class_of(metric: str) -> str:
    """The ending that says that this is a class's own metric; empty for all others."""
    return next((ending for ending in _OF_A_CLASS if metric.endswith(ending) and metric not in TITLES), "")


def _note(metric: str, record: Record) -> str:
    suffix = _class_of(metric)
    n_boxes = record.counts.get("test", {}).get(BOXES_OF + metric.removesuffix(suffix)) if suffix else None
    return f"{n_boxes:,} test boxes: descriptive" if n_boxes is not None and n_boxes < FEWEST_BOXES else ""
