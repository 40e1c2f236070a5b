"""Overlay pictures of stored predictions: the first run of each backbone on each task, on the few images its job kept for the eye.

Reads only the output folder. Whether a picture may be shown at all is `overlays.refusal`'s word.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmark.cards import Record, Role
from benchmark.metrics.boxes import Detections
from benchmark.report import escape, overlays
from benchmark.training.predictions import DETECTIONS_FILE, EXAMPLES_FILE, MASKS_FILE, Example, read_detections, read_examples, read_masks


def draw(records: Iterable[Record], out: Path, folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Draws overlays into `folder`.

    Args:
        out: output folder the records' files lie in.

    Returns:
        task -> backbone label -> PNG files.
    """
    drawn: dict[str, dict[str, list[Path]]] = {}
    for record in _first_runs(records):
        stored = out / "predictions" / record.key
        examples = read_examples(stored / EXAMPLES_FILE)
        if overlays.refusal(record) or not examples:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        labels = record.job.labels
        paths = []
        for number, picture in enumerate(_pictures(record, stored, examples)):
            path = folder / f"{escape.slug(labels.task)}-{record.key[:8]}-{number + 1}.png"
            picture.save(path)
            paths.append(path)
        drawn.setdefault(labels.task, {})[labels.backbone] = paths
    return drawn


def _first_runs(records: Iterable[Record]) -> list[Record]:
    """The successful final run with the lowest number of each task and backbone."""
    first: dict[tuple[str, str], Record] = {}
    for record in records:
        labels = record.job.labels
        place = (labels.task, labels.backbone)
        usable = record.status == "ok" and record.job.experiment.role is Role.FINAL
        if usable and (place not in first or labels.run < first[place].job.labels.run):
            first[place] = record
    return list(first.values())


def _pictures(record: Record, stored: Path, examples: list[Example]):
    note = "phantom" if record.phantom else ""
    if (stored / DETECTIONS_FILE).exists():
        found, _ = read_detections(stored / DETECTIONS_FILE)
        for example in examples:
            boxes, confidence = _of_image(found, example.index)
            yield overlays.draw_detection(example.image, example.boxes_xywh, boxes, confidence, note=note)
        return
    masks, _, _ = read_masks(stored / MASKS_FILE, [example.index for example in examples])
    names = record.job.experiment.dataset.classes
    for example, predicted in zip(examples, masks, strict=True):
        yield overlays.draw_segmentation(example.image, example.masks, predicted, class_names=names if len(names) > 1 else (), note=note)


def _of_image(found: Detections, image: int) -> tuple[np.ndarray, np.ndarray]:
    mine = found.image == image
    return found.xywh[mine], found.confidence[mine]
