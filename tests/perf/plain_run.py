"""Training as released evaluation code does it: every epoch decodes and resizes every image and runs the encoder on it.

One run at a time, loader workers that read ahead, autograd through upsampling and loss. Truth is handed over ready-made, which favours
this side. The protocol of steps and epochs is the project's own (`loop.train`): the two sides must end at the same numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmark.cards import Experiment
from benchmark.encoders.sealed import SealedEncoder
from benchmark.events import Steps
from benchmark.heads.base import Head
from benchmark.kinds.base import Part
from benchmark.training.data import JobData
from benchmark.training.evaluate import validate
from benchmark.training.loop import Precision, Selected, batches, train
from benchmark.training.model import Model
from tests.perf.corpus import resized


class Images(Dataset):
    """Decodes and resizes on access."""

    def __init__(self, files: Sequence[Path], decode: Callable[[Path], np.ndarray], size: int):
        self.files, self.decode, self.size = files, decode, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> np.ndarray:
        return np.array(resized(self.decode(self.files[i]), self.size))  # writable, as a loader wants it


class PlainModel(Model):
    """Takes its images from a loader that decodes them, and runs the encoder on every batch.

    Args:
        images: part name -> files.
        workers: of the loader.
        order: draws the training batches as the loop does, so that the loader can read ahead of it.

    Attributes:
        seconds: "train" and "validation" (or another part) -> time spent between the start of reading it and the start of what follows.
    """

    def __init__(
        self,
        encoder: SealedEncoder,
        head: Head,
        data: JobData,
        images: dict[str, Images],
        workers: int,
        order: torch.Generator,
        drop_last: bool,
    ):
        super().__init__(encoder, head, None, encoder.mean.device)
        self.data, self.images, self.workers, self.order, self.drop_last = data, images, workers, order, drop_last
        self.seconds: dict[str, float] = {}
        self._loader: Iterator[torch.Tensor] | None = None
        self._reading, self._since = "", 0.0

    def start_epoch(self) -> None:
        self.stop()
        super().start_epoch()
        self._read("train", batches(len(self.data.train), self.data.batch_size, self.order, self.drop_last))

    def start_evaluation(self) -> None:
        self.stop()
        super().start_evaluation()

    def outputs(self, part: Part, index: np.ndarray) -> Any:
        if self._loader is None:
            n, size = len(part), self.data.batch_size
            self._read(part.name, [np.arange(start, min(start + size, n)) for start in range(0, n, size)])
        normalised = self.encoder.normalise(self._next_batch().to(self.device))
        return self.head(self.encoder.pyramid_of(normalised, self.head.strides), normalised if self.head.reads_image else None)

    def _next_batch(self) -> torch.Tensor:
        if self._loader is None:
            raise TypeError("No part is being read: start an epoch or an evaluation first.")
        return next(self._loader)

    def stop(self) -> None:
        """Ends the reading of a part and notes its time."""
        if self._loader is not None:
            self.seconds[self._reading] = self.seconds.get(self._reading, 0.0) + time.perf_counter() - self._since
        self._loader = None

    def _read(self, name: str, indices: list[np.ndarray]) -> None:
        self._reading, self._since = name, time.perf_counter()
        sampler = [index.tolist() for index in indices]
        self._loader = iter(DataLoader(self.images[name], batch_sampler=sampler, num_workers=self.workers))


@dataclass
class PlainRun:
    """What a run gave, and where its time went: seconds in train, validation and test."""

    selected: Selected
    test: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)


def run(experiment: Experiment, rate: float, model: PlainModel) -> PlainRun:
    """Trains, selects on validation, and tests once with the metrics that selection uses."""
    data, names = model.data, experiment.dataset.classes
    torch.manual_seed(experiment.head_seed)
    training = Steps(train(model, data, experiment, rate, names))
    for _ in training:
        pass
    selected = training.result
    model.restore(selected.state, experiment.encoder == "finetune")
    _, test = validate(model, data.test, data.batch_size, names, Precision(experiment, model.device).autocast)
    model.stop()
    return PlainRun(selected, test, model.seconds)
