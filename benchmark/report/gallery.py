"""Overlay pictures of stored predictions: the first run of each row, on the few images its job kept for the eye.

Reads only the output folder. Whether a picture may be shown at all is `overlays.refusal`'s word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmark.cards import Record, Role
from benchmark.integrity import file_of
from benchmark.metrics.boxes import Detections
from benchmark.report import escape, overlays
from benchmark.report.rows import identity
from benchmark.report.stored import Where, folder_of
from benchmark.report.tables import split_text
from benchmark.training.predictions import DETECTIONS_FILE, EXAMPLES_FILE, MASKS_FILE, Example, read_detections, read_examples, read_masks


def draw(records: Iterable[Record], out: Where, folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Draws overlays into `folder`.

    Args:
        out: output folder the records' files lie in, or that of each record by its key.

    Returns:
        task -> row -> PNG files. A row is named by its backbone, and by split, protocol and digest as far as these tell it from others.

    Raises:
        DamagedResult: a file of a record is not what was stored.
    """
    drawn: dict[str, dict[str, list[Path]]] = {}
    for name, record in _named(_first_runs(records)):
        lies = folder_of(record.key, out)
        shown = file_of(record, EXAMPLES_FILE, lies)
        predicted = next((path for name in (DETECTIONS_FILE, MASKS_FILE) if (path := file_of(record, name, lies)) is not None), None)
        examples = [] if shown is None else read_examples(shown)
        asked = bool(examples) and all(example.similarity is not None for example in examples)
        if overlays.refusal(record) or not examples or (predicted is None and not asked):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        labels = record.job.labels
        paths = []
        for number, picture in enumerate(_pictures(record, predicted, examples)):
            path = folder / f"{escape.slug(labels.task)}-{record.key[:8]}-{number + 1}.png"
            picture.save(path)
            paths.append(path)
        drawn.setdefault(labels.task, {})[name] = paths
    return drawn


def _first_runs(records: Iterable[Record]) -> list[Record]:
    """The successful final run with the lowest number of each row."""
    first: dict[tuple[str, str, str, str], Record] = {}
    for record in records:
        labels, experiment = record.job.labels, record.job.experiment
        row = (labels.task, labels.backbone, labels.protocol, identity(experiment))
        usable = record.status == "ok" and experiment.role is Role.FINAL
        if usable and (row not in first or labels.run < first[row].job.labels.run):
            first[row] = record
    return list(first.values())


def _named(records: list[Record]) -> list[tuple[str, Record]]:
    """Each record with the shortest of its names that no other record of its task has."""

    def names(record: Record) -> list[str]:
        labels, experiment = record.job.labels, record.job.experiment
        short = " · ".join(filter(None, (labels.backbone, split_text(experiment.dataset.split))))
        return [short, f"{short} · {labels.protocol}", f"{short} · {labels.protocol} · {identity(experiment)[:8]}"]

    taken = Counter((record.job.labels.task, name) for record in records for name in names(record))
    return [(next((n for n in names(r) if taken[r.job.labels.task, n] == 1), names(r)[-1]), r) for r in records]


def _pictures(record: Record, predicted: Path | None, examples: list[Example]):
    """
    Args:
        predicted: the file of detections or masks; None where examples hold the map that was asked for.
    """
    note = "phantom" if record.phantom else ""
    names = record.job.experiment.dataset.classes
    names = names if len(names) > 1 else ()  # the only class needs no name on every outline
    if predicted is None:
        for example in examples:
            yield overlays.draw_similarity(example.image, example.boxes_xywh, example.similarity, note=note)
        return
    if predicted.name == DETECTIONS_FILE:
        found, _ = read_detections(predicted)
        for example in examples:
            boxes, confidence, labels = _of_image(found, example.index)
            named = {"class_names": names, "truth_labels": example.box_labels, "predicted_labels": labels}
            yield overlays.draw_detection(example.image, example.boxes_xywh, boxes, confidence, **named, note=note)
        return
    masks, _, _ = read_masks(predicted, [example.index for example in examples])
    for example, mask in zip(examples, masks, strict=True):
        yield overlays.draw_segmentation(example.image, example.masks, mask, class_names=names, note=note)


def _of_image(found: Detections, image: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, confidence and labels."""
    mine = (found.image == image) & ~found.overflowed  # a box without end has no outline
    return found.xywh[mine], found.confidence[mine], found.label[mine]
