"""Loss, metrics and predictions of a part: cheap ones every epoch, all of them once on the test split. What they are, its kind says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from benchmark import kinds
from benchmark.cards import DatasetCard
from benchmark.encoders.text_contract import require_text_side
from benchmark.heads.base import Head
from benchmark.kinds.base import Part, Predicted, ScoredSplit
from benchmark.kinds.kit.embedding import UntrainedJob
from benchmark.kinds.kit.untrained import UntrainedKind
from benchmark.metrics import spec
from benchmark.training.free_memory import give_back
from benchmark.training.model import Model

Autocast = Callable[[], AbstractContextManager]


def validate(model: Model, part: Part, batch_size: int, class_names: tuple[str, ...], autocast: Autocast) -> tuple[float, dict[str, float]]:
    """Mean loss over the part (batches weighted by their images) and the metrics that selection needs."""
    model.start_evaluation()
    losses, weights = [], []

    def predicted() -> Iterator[tuple[np.ndarray, Any]]:
        for index, outputs in _outputs(model, part, batch_size, autocast):
            losses.append(model.head.loss(outputs, part.targets(index, model.device)))
            weights.append(len(index))
            yield index, model.head.predict(outputs)

    with spec.only_own(part.own_metrics):
        metrics = part.trained_kind.validate(predicted(), part, class_names, model.head)
    loss = float(np.average(torch.stack(losses).double().cpu().numpy(), weights=weights))
    return loss, metrics | part.trained_kind.of_loss(loss)


def predictions(model: Model, part: Part, batch_size: int, autocast: Autocast) -> Iterator[tuple[np.ndarray, Any]]:
    """What the trained model predicts of a part, batch by batch (`kinds.base.Predicted`)."""
    give_back()
    model.start_evaluation()
    for index, outputs in _outputs(model, part, batch_size, autocast):
        yield index, model.head.predict(outputs)


def test(predicted: Predicted, part: Part, batch_size: int, card: DatasetCard, head: Head) -> ScoredSplit:
    """All metrics of the test part, with predictions and statistics; reads the predictions to their end, where their checks are."""
    every = iter(predicted)
    with spec.only_own(part.own_metrics):
        tested = part.trained_kind.test(every, part, card, head, batch_size)
    deque(every, maxlen=0)
    return tested


def answer(given: UntrainedJob) -> ScoredSplit:
    """All metrics of the test part of a job that trains nothing.

    Raises:
        ConformanceError: the backbone has no text side, or its embeddings do not fit each other.
        DataError: images without a report or phrase where the task reads them.
    """
    require_text_side(given.encoder.backbone, given.job.labels.task)
    given.encoder.set_mode("frozen")
    kind = kinds.of_experiment(given.experiment)
    assert isinstance(kind, UntrainedKind)
    with torch.no_grad(), spec.only_own(given.experiment.own_metrics):
        return kind.answer(given)


def _outputs(model: Model, part: Part, batch_size: int, autocast: Autocast) -> Iterator[tuple[np.ndarray, Any]]:
    for start in range(0, len(part), batch_size):
        index = np.arange(start, min(start + batch_size, len(part)))
        with torch.no_grad(), autocast():
            outputs = model.outputs(part, index)
        with torch.no_grad():
            yield index, outputs
