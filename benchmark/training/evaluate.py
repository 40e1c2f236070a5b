"""Loss, metrics and predictions of a part: cheap ones every epoch, all of them once on the test split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmark.cards import DatasetCard
from benchmark.heads.base import Head, ImageDetections
from benchmark.metrics import dice, scores
from benchmark.metrics.anchors import dice_anchors
from benchmark.metrics.boxes import Detections
from benchmark.training.data import Part
from benchmark.training.model import Model

NEGATIVE_LOSS = "negative_loss"  # what papers that stop by validation loss select: the highest is the best, as everywhere

Autocast = Callable[[], AbstractContextManager]


@dataclass(frozen=True)
class Tested:
    """Everything the test split gave.

    Attributes:
        masks: (N, C, S, S) bool at probability 0.5, for segmentation heads.
        detections: for detection heads.
        class_scores: (N, C) float32 probabilities, for classification heads.
        statistics: per-image sufficient statistics, ready for JSON.
        warnings: metrics that are undefined on this split, with the reason.
    """

    metrics: dict[str, float]
    statistics: dict[str, Any]
    masks: np.ndarray | None
    detections: Detections | None
    warnings: tuple[str, ...]
    class_scores: np.ndarray | None = None


def validate(model: Model, part: Part, batch_size: int, class_names: tuple[str, ...], autocast: Autocast) -> tuple[float, dict[str, float]]:
    """Mean loss over the part (batches weighted by their images) and the metrics that selection needs."""
    model.start_evaluation()
    losses, weights, counts, found = [], [], [], []
    for index, outputs in _outputs(model, part, batch_size, autocast):
        targets = part.targets(index, model.device)
        losses.append(model.head.loss(outputs, targets))
        weights.append(len(index))
        predicted = model.head.predict(outputs)
        if model.head.kind == "segmentation":
            counts.append(dice.count_overlap(_binary(predicted), part.masks(index)))
        elif model.head.kind == "classification":
            found.append(predicted.float().cpu().numpy())
        else:
            found += _on_cpu(predicted)
    loss = float(np.average(torch.stack(losses).double().cpu().numpy(), weights=weights))
    if model.head.kind == "segmentation":
        return loss, scores.segmentation_selection(dice.join(counts), class_names) | {NEGATIVE_LOSS: -loss}
    if model.head.kind == "classification":
        metrics = scores.classification_selection(np.concatenate(found), part.class_labels, class_names, model.head.exclusive)
        return loss, metrics | {NEGATIVE_LOSS: -loss}
    return loss, scores.detection_selection(_flat(found, part.frame_name), part.truth(), class_names)


def test(model: Model, part: Part, batch_size: int, card: DatasetCard, autocast: Autocast) -> Tested:
    """All metrics of the test part, with predictions and statistics."""
    model.start_evaluation()
    if model.head.kind == "segmentation":
        masks: list[np.ndarray] = []

        def chunks() -> Iterator[np.ndarray]:
            for _, outputs in _outputs(model, part, batch_size, autocast):
                probabilities = model.head.predict(outputs).float().cpu().numpy()
                masks.append(dice.binarise(probabilities))
                yield probabilities

        truth = part.masks(np.arange(len(part)))
        found = scores.score_segmentation(chunks(), truth, card.classes, card.mask_source == "masks", batch_size)
        return Tested(found.metrics, found.statistics, np.concatenate(masks), None, _warnings(found))
    if model.head.kind == "classification":
        given = np.concatenate([model.head.predict(o).float().cpu().numpy() for _, o in _outputs(model, part, batch_size, autocast)])
        found = scores.score_classification(given, part.class_labels, card.classes, model.head.exclusive)
        return Tested(found.metrics, found.statistics, None, None, _warnings(found), given)
    per_image: list[ImageDetections] = []
    for _, outputs in _outputs(model, part, batch_size, autocast):
        per_image += _on_cpu(model.head.predict(outputs))
    detections = _flat(per_image, part.frame_name)
    found = scores.score_detection(detections, part.truth(), card.classes)
    return Tested(found.metrics, found.statistics, None, detections, _warnings(found))


def anchors(head: Head, part: Part, classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Scores on the part that need no model, for heads that segment; empty for detection, where an empty prediction scores 0."""
    if head.kind != "segmentation":
        return {}
    return dice_anchors(part.masks(np.arange(len(part))), classes, head.grid)


def _outputs(model: Model, part: Part, batch_size: int, autocast: Autocast) -> Iterator[tuple[np.ndarray, Any]]:
    for start in range(0, len(part), batch_size):
        index = np.arange(start, min(start + batch_size, len(part)))
        with torch.no_grad(), autocast():
            outputs = model.outputs(part, index)
        with torch.no_grad():
            yield index, outputs


def _binary(probabilities: torch.Tensor) -> np.ndarray:
    return dice.binarise(probabilities.float().cpu().numpy())


def _on_cpu(found: list[ImageDetections]) -> list[ImageDetections]:
    return [ImageDetections(d.boxes_xywh.cpu(), d.confidence.cpu(), d.labels.cpu()) for d in found]


def _flat(found: list[ImageDetections], frame: str) -> Detections:
    counts = [len(d.confidence) for d in found]
    return Detections(
        image=np.repeat(np.arange(len(found)), counts).astype(np.int64),
        xywh=torch.cat([d.boxes_xywh for d in found]).double().numpy().reshape(-1, 4),
        label=torch.cat([d.labels for d in found]).numpy().astype(np.int64),
        n_images=len(found),
        frame=frame,
        confidence=torch.cat([d.confidence for d in found]).double().numpy(),
    )


def _warnings(found: scores.Scores) -> tuple[str, ...]:
    return tuple(f"{name} is undefined: {why}" for name, why in found.undefined.items())
