"""Classification of whole images: a probability per class, learned from labels, scored by ranking, stored as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from benchmark import registry
from benchmark.cards import DatasetCard, Experiment, Job, PromptCard, TaskCard
from benchmark.kinds.base import Frames, Part, Predicted, ScoredSplit, StoredForm, TrainedKind, warnings_of
from benchmark.kinds.kit import class_scores, parquet
from benchmark.metrics import scores
from benchmark.metrics.label_statistics import class_fields
from benchmark.metrics.scores import Scores
from benchmark.readers.base import Sample

if TYPE_CHECKING:
    import torch

    from benchmark.heads.base import Head, Targets


class Classification(TrainedKind):
    """Heads predict (B, C) probabilities; a head's `exclusive` says whether each image has exactly one class."""

    name = "classification"
    target = "labels"
    stored_as: ClassVar[StoredForm] = parquet

    def measured(self, task: TaskCard, dataset: DatasetCard, prompts: Mapping[str, PromptCard], exclusive: bool) -> frozenset[str]:
        return class_fields(len(dataset.classes), exclusive, calibrated=True, thresholds=False)

    def annotations(self, samples: Sequence[Sample], experiment: Experiment) -> np.ndarray:
        labels = class_scores.labels_of(samples)
        if registry.head(experiment.head).exclusive:
            class_scores.require_one_class(labels, f"the head {experiment.head}")
        return labels

    def n_positive(self, part: Part) -> int:
        return int((part.annotations == 1).any(axis=1).sum())

    def targets(self, part: Part, index: np.ndarray, device: torch.device) -> Targets:
        import torch

        from benchmark.heads.base import Targets

        return Targets(labels=torch.from_numpy(part.annotations[index]).to(device, dtype=torch.float32))

    def validate(self, predicted: Predicted, part: Part, class_names: tuple[str, ...], head: Head) -> dict[str, float]:
        return scores.classification_selection(_probabilities(predicted), part.annotations, class_names, head.exclusive)

    def test(self, predicted: Predicted, part: Part, card: DatasetCard, head: Head, batch_size: int) -> ScoredSplit:
        given = _probabilities(predicted)
        found = scores.score_classification(given, part.annotations, card.classes, head.exclusive)
        return ScoredSplit(found.metrics, found.statistics, given, warnings_of(found))

    def store(self, folder: Path, job: Job, part: Part, predictions: np.ndarray) -> None:
        """Writes (N, C) probabilities."""
        class_scores.write(folder, job, part, predictions)

    def export(self, file: Path, frame: Frames) -> tuple[str, bytes] | None:
        return class_scores.export(file)

    def rescore(self, file: Path, job: Job, part: Part, card: DatasetCard) -> Scores:
        exclusive = registry.head(job.experiment.head).exclusive
        return class_scores.rescored(file, part, card, exclusive=exclusive, calibrated=True)


KIND = Classification()


def _probabilities(predicted: Predicted) -> np.ndarray:
    """(n, C) float32."""
    return np.concatenate([found.float().cpu().numpy() for _, found in predicted])
