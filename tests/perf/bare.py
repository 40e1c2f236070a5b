"""The floor: a bare loop that does the same forwards and backwards as a run, over tensors already in memory.

No cache, no truth to fetch, no metric, no file; losses stay as tensors until the clock has stopped. Batches, rate and modes are those of
a run without warm-up, so its losses must be the run's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmark.encoders.sealed import SealedEncoder
from benchmark.heads.base import Head
from benchmark.kinds.base import Part
from benchmark.training.features import BATCH
from benchmark.training.loop import Precision, batches
from tests.perf.ingredients import Ingredients

Kept = dict[int, dict[int, torch.Tensor]]


@dataclass(frozen=True)
class BareRun:
    """Seconds in features, train, validation and test, and (training loss, validation loss) of every epoch."""

    seconds: dict[str, float]
    losses: tuple[tuple[float, float], ...]

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())


class BareLoop:
    """Encoder, head and Adam over batches in memory.

    Args:
        encoder, head: trained here; nobody else may hold them.
        rate: of Adam.
        kept: row of the cache -> its frozen features by stride; shared by the loops of one frozen encoder and head kind.
    """

    def __init__(self, ingredients: Ingredients, encoder: SealedEncoder, head: Head, rate: float, kept: Kept | None = None):
        recipe = ingredients.experiment.recipe
        self.ingredients, self.encoder, self.head = ingredients, encoder, head
        self.kept: Kept = {} if kept is None else kept
        trained = torch.nn.ModuleList([head, encoder]) if ingredients.finetune else head
        self.optimiser = torch.optim.Adam(list(trained.parameters()), lr=rate, weight_decay=recipe.weight_decay, fused=True)
        self.precision = Precision(ingredients.experiment, ingredients.device)
        self.steps = 0

    def compute_features(self, parts: Sequence[Part]) -> float:
        """Fills `kept` with what it lacks of the parts, `BATCH` images at a time. Returns the seconds inside the encoder."""
        self.encoder.set_mode("frozen")
        seconds = 0.0
        for part in parts:
            missing = [i for i, row in enumerate(part.rows) if int(row) not in self.kept]
            for start in range(0, len(missing), BATCH):
                index = missing[start : start + BATCH]
                images = self.images(part, np.array(index))
                with torch.no_grad(), self.precision.autocast():
                    took, pyramid = timed(partial(self.encoder.pyramid_of, images, self.head.strides))
                seconds += took
                for k, i in enumerate(index):
                    self.kept[int(part.rows[i])] = {stride: pyramid[stride][k].clone() for stride in self.head.strides}
        return seconds

    def images(self, part: Part, index: np.ndarray) -> torch.Tensor:
        """Normalised."""
        return self.encoder.normalise(part.images(index).to(self.ingredients.device))

    def in_memory(self, part: Part, index: np.ndarray) -> tuple[Callable[[], Any], Any]:
        """The forward of one batch that is already there, and its truth; of a frozen encoder, from features that must be kept."""
        truth = part.targets(index, self.ingredients.device)
        finetune = self.ingredients.finetune
        if finetune:
            images = self.images(part, index)
            read = images if self.head.reads_image else None
            return lambda: self.head(self.encoder.pyramid_of(images, self.head.strides), read), truth
        seen = self.images(part, index) if self.head.reads_image else None
        rows = [int(row) for row in part.rows[index]]
        pyramid = {stride: torch.stack([self.kept[row][stride] for row in rows]) for stride in self.head.strides}
        return lambda: self.head(pyramid, seen), truth

    def step(self, forward: Callable[[], Any], truth: Any) -> torch.Tensor:
        self.head.train()
        self.encoder.set_mode("training" if self.ingredients.finetune else "frozen")
        with self.precision.autocast():
            outputs = forward()
        loss = self.head.loss(outputs, truth)
        self.precision.step([loss], self.optimiser)
        self.steps += 1
        return loss.detach()

    def validate(self, forward: Callable[[], Any], truth: Any) -> torch.Tensor:
        self.head.eval()
        self.encoder.set_mode("eval")
        with torch.no_grad(), self.precision.autocast():
            outputs = forward()
        with torch.no_grad():
            return self.head.loss(outputs, truth)


def _stepped(loop: BareLoop, train: Sequence[tuple[Callable[[], Any], Any]]) -> list[torch.Tensor]:
    return [loop.step(forward, truth) for forward, truth in train]


def run(ingredients: Ingredients, rate: float, kept: Kept | None = None) -> BareRun:
    """The forwards and backwards of one run: a feature pass if the encoder is frozen, every epoch, one test.

    Args:
        kept: features that runs before it have computed; they cost nothing here.
    """
    encoder = ingredients.encoder()
    loop = BareLoop(ingredients, encoder, ingredients.head(encoder), rate, kept)
    data, recipe = ingredients.data, ingredients.experiment.recipe
    seconds = dict.fromkeys(("features", "train", "validation", "test"), 0.0)
    if not ingredients.finetune:
        seconds["features"] = loop.compute_features((data.train, data.validation, data.test))
    indices = {part.name: _in_order(len(part), data.batch_size) for part in (data.validation, data.test)}
    validation = [loop.in_memory(data.validation, index) for index in indices["validation"]]
    test = [loop.in_memory(data.test, index) for index in indices["test"]]
    order = torch.Generator().manual_seed(ingredients.experiment.order_seed)
    losses = []
    for _ in range(recipe.max_epochs):
        train = [loop.in_memory(data.train, index) for index in batches(len(data.train), data.batch_size, order, recipe.drop_last)]
        if recipe.max_steps is not None:
            train = train[: recipe.max_steps - loop.steps]
        took, trained = timed(partial(_stepped, loop, train))
        seconds["train"] += took
        took, validated = timed(lambda: [loop.validate(*batch) for batch in validation])
        seconds["validation"] += took
        mean = np.average([float(loss) for loss in validated], weights=[len(index) for index in indices["validation"]])
        losses.append((float(torch.stack(trained).mean()), float(mean)))
        if loop.steps == recipe.max_steps:
            break
    seconds["test"], _ = timed(lambda: [loop.validate(*batch) for batch in test])
    return BareRun(seconds, tuple(losses))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of some work, all of it done on any device, and what it gave."""
    began = time.perf_counter()
    done = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, done


def _in_order(n: int, batch_size: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
