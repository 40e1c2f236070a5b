"""Scores of classes as a file, and their scoring: what a classifier and zero-shot classification share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.cards import DatasetCard, Job
from benchmark.errors import DataError, UsageError
from benchmark.kinds.base import Part
from benchmark.kinds.kit import parquet, submitted
from benchmark.metrics import scores
from benchmark.metrics.scores import Scores
from benchmark.readers.base import Sample

SCORES_FILE = "scores.parquet"


def labels_of(samples: Sequence[Sample]) -> np.ndarray:
    """(n, C) int8 of 1, 0 and -1 (unknown). Raises DataError where a sample has none at all."""
    found = [sample.labels for sample in samples if sample.labels is not None]
    if len(found) < len(samples):
        raise DataError(
            f"{len(samples) - len(found):,} of {len(samples):,} images have no labels, which classification reads. "
            "The dataset's reader must give each image `labels`, -1 where nobody knows."
        )
    return np.stack(found)


def write(folder: Path, job: Job, part: Part, class_scores: np.ndarray) -> None:
    """Writes (N, C) scores as float32 columns beside the image ids."""
    import pyarrow as pa

    dataset = job.experiment.dataset
    columns = {"id": pa.array(part.ids, pa.string())}
    columns |= {name: class_scores[:, k].astype(np.float32) for k, name in enumerate(dataset.classes)}
    parquet.write(folder / SCORES_FILE, job, columns, split=dataset.split, split_rule=dataset.split_rule.rule)


def read_scores(path: Path) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """(N, C) float32 class probabilities of a file, its image ids and its classes, in order.

    Raises:
        UsageError: not such a file.
    """
    try:
        table = parquet.read(path)
        ids = tuple(table.column("id").to_pylist())
        classes = tuple(name for name in table.column_names if name != "id")
        found = np.stack([table.column(name).to_numpy() for name in classes], axis=1)
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"Cannot read the class scores {path}: {error}.") from None
    return found, ids, classes


def rescored(file: Path, part: Part, card: DatasetCard, *, exclusive: bool, calibrated: bool) -> Scores:
    """Scores a file of class scores against the part's labels; raises as `Kind.rescore`."""
    given, ids, classes = read_scores(file)
    submitted.require_same_images(file, ids, part, card)
    if classes != card.classes:
        raise UsageError(f"{file} scores the classes {', '.join(classes)}; the task's are {', '.join(card.classes)}.")
    placed = np.empty_like(given)
    placed[submitted.positions(ids, part)] = given
    return scores.score_classification(placed, part.annotations, card.classes, exclusive, calibrated=calibrated)
