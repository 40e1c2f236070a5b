"""One training run as released evaluation code does it: every epoch decodes and resizes every image and runs the encoder on it.

One run at a time, loader workers that read ahead, autograd through upsampling and loss. Truth is handed over ready-made, which favours
this side. The protocol between epochs is the project's own (`loop.Course`): the two sides must end at the same numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmark.bench.corpus import resized
from benchmark.cards import Experiment
from benchmark.encoders.sealed import SealedEncoder
from benchmark.heads.base import Head
from benchmark.metrics import dice, scores
from benchmark.training.data import Part
from benchmark.training.loop import Course, Selected, batches


class Images(Dataset):
    """Decodes and resizes on access."""

    def __init__(self, files: Sequence[Path], decode: Callable[[Path], np.ndarray]):
        self.files, self.decode = files, decode

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> np.ndarray:
        return resized(self.decode(self.files[i]))


@dataclass
class PlainRun:
    """What a run gave and where its time went."""

    selected: Selected
    test: dict[str, float]
    epoch_s: list[float] = field(default_factory=list)
    test_s: float = 0.0


@dataclass(frozen=True)
class Split:
    """One part with its image files."""

    part: Part
    images: Images


def run(
    experiment: Experiment, rate: float, encoder: SealedEncoder, head: Head, splits: dict[str, Split], batch_size: int, workers: int
) -> PlainRun:
    """Trains a segmentation head on a frozen encoder and tests it at its best epoch."""
    recipe, names = experiment.recipe, experiment.dataset.classes
    optimiser = torch.optim.Adam(list(head.parameters()), lr=rate, weight_decay=recipe.weight_decay)
    course = Course(experiment, optimiser)
    order = torch.Generator().manual_seed(experiment.order_seed)
    done = PlainRun(course.kept, {})
    encoder.set_mode("frozen")
    train = splits["train"]
    for epoch in range(recipe.max_epochs):
        began = time.perf_counter()
        losses = []
        for index, outputs in _outputs(encoder, head, train, batches(len(train.part), batch_size, order, recipe.drop_last), workers):
            loss = head.loss(outputs, train.part.targets(index, torch.device("cpu")))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
            course.kept.steps += 1
        line = course.line(epoch, losses, *_measure(encoder, head, splits["validation"], batch_size, names, workers))
        done.epoch_s.append(time.perf_counter() - began)
        if course.ends_after(line, lambda: {name: value.clone() for name, value in head.state_dict().items()}):
            break
    head.load_state_dict(course.kept.state)
    began = time.perf_counter()
    _, done.test = _measure(encoder, head, splits["test"], batch_size, names, workers)
    done.test_s = time.perf_counter() - began
    return done


def _outputs(encoder: SealedEncoder, head: Head, split: Split, indices: list[np.ndarray], workers: int) -> Iterator[tuple]:
    loader = DataLoader(split.images, batch_sampler=[index.tolist() for index in indices], num_workers=workers)
    for index, images in zip(indices, loader, strict=True):
        with torch.no_grad():
            pyramid = encoder.pyramid(images, head.strides)
        yield index, head(pyramid)


def _measure(encoder: SealedEncoder, head: Head, split: Split, batch_size: int, names: tuple[str, ...], workers: int) -> tuple[float, dict]:
    n = len(split.part)
    indices = [np.arange(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
    losses, counts = [], []
    with torch.no_grad():
        for index, outputs in _outputs(encoder, head, split, indices, workers):
            losses.append(float(head.loss(outputs, split.part.targets(index, torch.device("cpu")))))
            counts.append(dice.count_overlap(dice.binarise(head.predict(outputs).numpy()), split.part.masks(index)))
    return float(np.average(losses, weights=list(map(len, indices)))), scores.segmentation_selection(dice.join(counts), names)
