"""Fits a head that keeps its training examples instead of taking steps: one pass over them, and one look at the validation split.

No learning rate, no epoch and no choice among states: the record has the validation metrics and no curve.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch

from benchmark.cards import Epoch, Experiment
from benchmark.errors import TrainingError
from benchmark.training.data import JobData
from benchmark.training.evaluate import validate
from benchmark.training.loop import Precision, Selected
from benchmark.training.model import Model


def learn_at_once(model: Model, data: JobData, experiment: Experiment) -> Generator[Epoch, None, Selected]:
    """Gives the head every training image once, in the split's order; yields no epoch.

    Returns:
        The head's state and its validation metrics; no steps were taken.

    Raises:
        TrainingError: the metric that the card selects by cannot be computed on the validation split.
    """
    precision, index = Precision(experiment, model.device), np.arange(len(data.train))
    model.start_epoch()
    model.freeze_encoder()
    with torch.no_grad():
        kept = []
        for start in range(0, len(index), data.batch_size):
            with precision.autocast():
                kept.append(model.outputs(data.train, index[start : start + data.batch_size]))
        model.head.learn_at_once(torch.cat(kept), data.train.targets(index, model.device))
    yield from ()
    _, metrics = validate(model, data.validation, data.batch_size, experiment.dataset.classes, precision.autocast)
    if experiment.select not in metrics:
        raise TrainingError(f"{experiment.select} cannot be computed: the validation split has no positive image. Use more images.")
    return Selected(state=model.snapshot(finetune=False), epoch=0, metrics=metrics, best=metrics[experiment.select])
