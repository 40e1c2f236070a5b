"""Scores of classes as a file, and their scoring: what a classifier and zero-shot classification share."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.cards import DatasetCard, Job
from benchmark.errors import DataError, UsageError
from benchmark.kinds.base import Part
from benchmark.kinds.kit import parquet, submitted
from benchmark.metrics import scores
from benchmark.metrics.columns import exact
from benchmark.metrics.scores import Scores
from benchmark.readers.base import Sample

SCORES_FILE = "scores.parquet"
SCORES_CSV = "scores.csv"  # what people are given


def labels_of(samples: Sequence[Sample]) -> np.ndarray:
    """(n, C) int8 of 1, 0 and -1 (unknown). Raises DataError where a sample has none at all."""
    found = [sample.labels for sample in samples if sample.labels is not None]
    if len(found) < len(samples):
        raise DataError(
            f"{len(samples) - len(found):,} of {len(samples):,} images have no labels, which classification reads. "
            "The dataset's reader must give each image `labels`, -1 where nobody knows."
        )
    return np.stack(found)


def require_one_class(labels: np.ndarray, chosen_by: str) -> None:
    """Refuses images of which one class cannot be the answer: it would be the first of the card.

    Args:
        labels: (n, C) of 1, 0 and -1.
        chosen_by: what takes one class an image.

    Raises:
        DataError: an image has no class, or several.
    """
    shown = (labels == 1).sum(axis=1)
    if (shown == 1).all():
        return
    raise DataError(
        f"{int((shown == 0).sum()):,} of {len(labels):,} images have no class and {int((shown > 1).sum()):,} have several, where "
        f"{chosen_by} takes exactly one an image. Give images without a finding a class of their own, or take each class by itself."
    )


def write(folder: Path, job: Job, part: Part, class_scores: np.ndarray) -> None:
    """Writes (N, C) scores as float32 columns beside the image ids."""
    import pyarrow as pa

    dataset = job.experiment.dataset
    columns = {"id": pa.array(part.ids, pa.string())}
    columns |= {name: class_scores[:, k].astype(np.float32) for k, name in enumerate(dataset.classes)}
    parquet.write(folder / SCORES_FILE, job, columns, split=dataset.split, split_rule=dataset.split_rule.rule)


def read_scores(path: Path) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """(N, C) float64 class probabilities of a file, its image ids and its classes, in order.

    Raises:
        UsageError: not such a file.
    """
    try:
        with parquet.opened(path) as file:
            ids, classes = file.ids, tuple(name for name in file.names if name != "id")
            columns = [file.values(name) for name in classes]
    except UsageError as error:
        raise UsageError(f"Cannot read the class scores {path}: {error}") from None
    found = np.stack(columns, axis=1).astype(np.float64) if columns else np.zeros((len(ids), 0))
    return found, ids, classes


def export(file: Path) -> tuple[str, bytes] | None:
    """As `Kind.export`: a table of comma-separated values, an image a line, in as many digits as give the same numbers again."""
    if file.name != SCORES_FILE:
        return None
    found, ids, classes = read_scores(file)
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", *classes])
    table.writerows([name, *row] for name, row in zip(ids, exact(found).reshape(found.shape).astype(str).tolist(), strict=True))
    return SCORES_CSV, text.getvalue().encode()


def rescored(file: Path, part: Part, card: DatasetCard, *, exclusive: bool, calibrated: bool) -> Scores:
    """Scores a file of class scores against the part's labels; raises as `Kind.rescore`."""
    given, ids, classes = read_scores(file)
    submitted.require_same_images(file, ids, part, card)
    if classes != card.classes:
        raise UsageError(f"{file} scores the classes {', '.join(classes)}; the task's are {', '.join(card.classes)}.")
    if calibrated and ((given < 0).any() or (given > 1).any()):
        raise UsageError(
            f"{file} has scores from {given.min():.4g} to {given.max():.4g}; this task's are probabilities, from 0 to 1. "
            "Are these logits, or per cents?"
        )
    placed = np.empty_like(given)
    placed[submitted.positions(ids, part)] = given
    return scores.score_classification(placed, part.annotations, card.classes, exclusive, calibrated=calibrated)
