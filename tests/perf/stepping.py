"""One training step and one validation forward of the project's loop, and the same of a bare one."""

from __future__ import annotations

import numpy as np
import torch

from benchmark.training.features import FeatureBank
from benchmark.training.loop import Precision, optimiser_of
from benchmark.training.model import Model
from benchmark.training.options import RunOptions
from tests.perf.bare import BareLoop
from tests.perf.ingredients import Ingredients
from tests.perf.measure import alternate


class Ours:
    """The project's step on one job: `loop.train`'s lines for one batch."""

    def __init__(self, given: Ingredients):
        self.given = given
        encoder = given.encoder()
        head = given.head(encoder)
        self.precision = Precision(given.experiment, given.device)
        bank = None
        if not given.finetune:
            bank = FeatureBank(encoder, head.strides, RunOptions().feature_budget_bytes, self.precision.autocast)
            for part in (given.data.train, given.data.validation):
                bank.prepare(part)
        self.model = Model(encoder, head, bank, given.device)
        recipe = given.experiment.recipe
        trained = self.model.trained_modules(given.finetune)
        self.optimiser = optimiser_of(recipe, list(trained.parameters()), recipe.learning_rate)

    def step(self, index: np.ndarray) -> float:
        self.model.start_epoch()
        if not self.given.finetune:
            self.model.freeze_encoder()
        with self.precision.autocast():
            outputs = self.model.outputs(self.given.data.train, index)
        loss = self.model.head.loss(outputs, self.given.data.train.targets(index, self.model.device))
        self.precision.step([loss], self.optimiser)
        return float(loss.detach())

    def validate(self, index: np.ndarray) -> float:
        self.model.start_evaluation()
        with torch.no_grad(), self.precision.autocast():
            outputs = self.model.outputs(self.given.data.validation, index)
        with torch.no_grad():
            return float(self.model.head.loss(outputs, self.given.data.validation.targets(index, self.model.device)))


def bare_loop(given: Ingredients) -> BareLoop:
    """With its features, if the encoder is frozen."""
    encoder = given.encoder()
    loop = BareLoop(given, encoder, given.head(encoder), given.experiment.recipe.learning_rate)
    if not given.finetune:
        loop.compute_features((given.data.train, given.data.validation))
    return loop


def compare_steps(given: Ingredients, repeats: int) -> tuple[tuple, tuple]:
    """(plain, fast, loss, loss) of a training step and of a validation forward, after one untimed step of both sides."""
    ours, floor = Ours(given), bare_loop(given)
    index, held_out = np.arange(given.data.batch_size), np.arange(min(given.data.batch_size, len(given.data.validation)))
    train, validation = floor.in_memory(given.data.train, index), floor.in_memory(given.data.validation, held_out)
    float(floor.step(*train)), ours.step(index)  # both sides take as many steps, so their losses stay those of one network
    return (
        alternate(lambda: float(floor.step(*train)), lambda: ours.step(index), repeats),
        alternate(lambda: float(floor.validate(*validation)), lambda: ours.validate(held_out), repeats),
    )
