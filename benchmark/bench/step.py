"""One training step and one validation forward of the project's loop against a bare loop that does the same number on tensors in memory."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark import registry
from benchmark.bench.corpus import corpus, jobs
from benchmark.bench.measure import Report, Row, alternate, report
from benchmark.cards import EncoderMode
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.heads.base import HeadRequest, seeded_init
from benchmark.registry import plugin
from benchmark.training.data import JobData, load
from benchmark.training.determinism import prepare_process
from benchmark.training.features import FeatureBank
from benchmark.training.loop import Precision
from benchmark.training.model import Model

SIDES = (
    "plain: a bare loop, forward, loss, backward, Adam, over tensors already in memory. fast: the project's step, which fetches images or "
    "features and truth for every batch. The goal is to be near: fast / plain."
)
NEAR = 1.10
TASKS = (  # 5, 11, 3, 10, 13, 15
    "rsna-yolov3-frozen-10",
    "covid-rural-unet-frozen-100",
    "rsna-yolov3-finetune-100",
    "covid-rural-unet-finetune-100",
    "siim-unet-finetune-100",
    "object-cxr-yolov3-finetune-100",
)


def run(quick: bool, folder: Path) -> Report:
    started = time.monotonic()
    cores = os.cpu_count() or 1
    batch, repeats = (2, 1) if quick else (16, 3)
    rows: list[Row] = []
    for task in TASKS[:2] if quick else TASKS:
        dataset = registry.task(task).dataset
        root = corpus(folder, dataset, 14 if quick else {"covid-rural": 90, "siim": 80}.get(dataset, 110))
        planned, place = jobs(folder, root, task, limit=4 * batch, threads=cores, runs=1, card={"fraction": 1.0}, batch_size=batch, grid=())
        prepare_process(cores)
        data = _loaded(planned[-1].experiment, place)
        ours = _Side.of(planned[-1].experiment, place, data)
        rows += _rows(task, ours, copy.deepcopy(ours.parts()), data, batch, repeats)
    sizes = {"batch": batch, "repetitions": repeats, "threads": cores}
    return report("step", SIDES, quick, sizes, rows, started)


@dataclass
class _Side:
    """The project's step on one task."""

    model: Model
    experiment: Any
    optimiser: torch.optim.Optimizer
    features_s: float

    @classmethod
    def of(cls, experiment, place, data: JobData) -> _Side:
        ref = experiment.backbone.model_copy(update={"model": place.backbone_model})
        encoder = SealedEncoder(build_backbone(ref, place.weights, init_seed=ref.init_seed)[0], experiment.dataset.statistics)
        request = HeadRequest(
            channels=encoder.backbone.spec.strides,
            n_classes=len(experiment.dataset.classes),
            frame_size=experiment.dataset.frame_size,
            switches=experiment.switches,
        )
        head = seeded_init(lambda: plugin("heads", experiment.head).build(request), experiment.head_seed)
        finetune = experiment.encoder is EncoderMode.FINETUNE
        bank, began = None, time.perf_counter()
        if not finetune:
            bank = FeatureBank(encoder, head.strides, place.feature_budget_bytes)
            for part in (data.train, data.validation):
                bank.prepare(part)
        features_s = time.perf_counter() - began
        model = Model(encoder, head, bank, torch.device("cpu"))
        optimiser = torch.optim.Adam(list(model.trained_modules(finetune).parameters()), lr=1e-4, weight_decay=1e-6)
        return cls(model, experiment, optimiser, features_s)

    def parts(self) -> tuple:
        """Modules and optimiser, to copy as one so that the copy's optimiser holds the copy's parameters."""
        return self.model.encoder, self.model.head, self.optimiser


def _loaded(experiment, place) -> JobData:
    loading = load(experiment, place)
    while True:
        try:
            next(loading)
        except StopIteration as ended:
            return ended.value


def _rows(task: str, ours: _Side, bare: tuple, data: JobData, batch: int, repeats: int) -> list[Row]:
    encoder, head, optimiser = bare
    finetune = ours.experiment.encoder is EncoderMode.FINETUNE
    index = np.arange(batch)
    validation = np.arange(min(batch, len(data.validation)))
    precision = Precision(ours.experiment, torch.device("cpu"))

    def our_step() -> float:
        ours.model.head.train()
        ours.model.encoder.set_mode("training" if finetune else "frozen")
        with precision.autocast():
            outputs = ours.model.outputs(data.train, index)
        loss = ours.model.head.loss(outputs, data.train.targets(index, ours.model.device))
        precision.step(loss, ours.optimiser)
        return float(loss.detach())

    def our_forward() -> float:
        ours.model.start_evaluation()
        with torch.no_grad():
            outputs = ours.model.outputs(data.validation, validation)
            return float(ours.model.head.loss(outputs, data.validation.targets(validation, ours.model.device)))

    forward, truth = _in_memory(ours, data.train, index, encoder, head)
    forward_validation, truth_validation = _in_memory(ours, data.validation, validation, encoder, head)

    def bare_step() -> float:
        head.train()
        encoder.set_mode("training" if finetune else "frozen")
        loss = head.loss(forward(), truth)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    def bare_forward() -> float:
        head.eval()
        encoder.set_mode("eval")
        with torch.no_grad():
            return float(head.loss(forward_validation(), truth_validation))

    bare_step(), our_step()  # both sides take as many steps, so their losses stay those of one network
    rows = []
    for what, plain_side, fast_side in (("training step", bare_step, our_step), ("validation forward", bare_forward, our_forward)):
        plain, fast, one, other = alternate(plain_side, fast_side, repeats)
        rows.append(
            Row(
                what=f"{task}, {what}",
                plain=plain,
                fast=fast,
                goal="near",
                target=NEAR,
                compared="loss of the last repetition",
                difference=abs(one - other),
                tolerance=1e-5,
                details={
                    "ms an image": round(fast.median / batch * 1000, 3),
                    "feature pass, ms an image": round(ours.features_s / (len(data.train) + len(data.validation)) * 1000, 3),
                },
            )
        )
    return rows


def _in_memory(ours: _Side, part, index: np.ndarray, encoder: SealedEncoder, head) -> tuple[Callable[[], Any], Any]:
    """A forward on tensors that are already there, and the truth."""
    truth = part.targets(index, torch.device("cpu"))
    images = encoder.normalise(part.images(index))
    seen = images if head.reads_image else None
    if ours.model.bank is None:
        return lambda: head(encoder.pyramid_of(images, head.strides), seen), truth
    pyramid = {stride: level.clone() for stride, level in ours.model.bank.pyramid(part, index).items()}
    return lambda: head(pyramid, seen), truth
