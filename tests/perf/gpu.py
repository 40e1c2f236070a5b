"""Steps on a GPU, at the batch sizes and in the precision of the protocol, and the hours the whole suite would take from them.

Only where a CUDA device is there: without one nothing is measured, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch

from benchmark import registry
from benchmark.machine import usable_cores
from benchmark.training.determinism import prepare_process
from benchmark.training.loop import train
from benchmark.training.model import Model
from tests.perf import alternatives, protocol
from tests.perf.corpus import PATIENTS_QUICK, corpus, frame_size, jobs
from tests.perf.ingredients import Ingredients, gather, plain_model, png_files
from tests.perf.measure import Measurement, Timed, alternate
from tests.perf.stepping import Ours, compare_steps

NEAR = 1.10
TOLERANCE = 1e-3  # of losses in fp16
NEAR_TASKS = ("rsna-yolov3-finetune-100", "rsna-yolov3-frozen-100", "siim-unet-finetune-100")  # 3, 6, 13
ALSO = ("siim-unet-frozen-100", "rsna-linear-frozen-100")  # measured for the projection, which needs one task of every kind
WORKERS = 10  # of the plain way's loader
PATIENTS, LIMIT = 220, 128  # a limited run's batch is at most half its training images, and the protocol's is 64
NO_GPU = "none: torch finds no CUDA device here, so the rows of tasks 3, 6 and 13 and the projected GPU-hours were not measured"


def rows(quick: bool, folder: Path) -> tuple[list[Measurement], str]:
    """Rows, and a sentence on the device."""
    if not torch.cuda.is_available():
        return [], NO_GPU
    return list(measure(quick, folder, "cuda")), torch.cuda.get_device_name()


def measure(
    quick: bool,
    folder: Path,
    device_type: Literal["cpu", "cuda"],
    tasks: Sequence[str] = NEAR_TASKS + ALSO,
    other_ways: bool = True,
) -> Iterator[Measurement]:
    """Steps of every kind of task at full batch, the plain way's epoch, and the projection. A CPU takes hours unless `quick`.

    Args:
        tasks: fewer of them leave out the projection, which needs one of every kind.
        other_ways: the rows on the plain way, memory formats and compiling as well.
    """
    repeats, limit, patients = (1, 8, PATIENTS_QUICK) if quick else (20, LIMIT, PATIENTS)
    largest = 0.0
    costs: dict[tuple[str, str], tuple[protocol.ImageCosts, protocol.ImageCosts]] = {}
    for task in tasks:
        given = _given(task, folder, patients, limit, device_type, frame_size(quick))
        e = given.experiment
        (step, *losses), (forward, *others) = [(pair[:2], *pair[2:]) for pair in compare_steps(given, repeats)]
        n = given.data.batch_size, min(given.data.batch_size, len(given.data.validation))
        plain_costs, fast_costs = (
            protocol.ImageCosts(
                once=0.0, train=step[side].median / n[0], validation=forward[side].median / n[1], test=forward[side].median / n[1]
            )
            for side in (0, 1)
        )
        costs[e.head, e.encoder] = (plain_costs, fast_costs)
        for what, (plain, fast), (one, other), images in (
            ("training step", step, losses, n[0]),
            ("validation forward", forward, others, n[1]),
        ):
            largest = max(largest, abs(one - other))
            yield Measurement(
                what=f"{task} on the {'GPU' if device_type == 'cuda' else 'CPU'}, {e.precision}, batch {images}, {what}",
                plain=plain,
                fast=fast,
                goal="near",
                target=NEAR if task in NEAR_TASKS else None,
                compared="loss of the last repetition",
                difference=abs(one - other),
                tolerance=TOLERANCE,
                details={"ms an image": round(fast.median / images * 1000, 3)},
            )
        if task == NEAR_TASKS[0] and other_ways:
            yield _against_plain(task, given, folder)
            yield alternatives.channels_last(f"{task} on the GPU", given, repeats, TOLERANCE)
            yield from alternatives.compiled(f"{task} on the GPU", given, repeats, TOLERANCE, folder / "gpu" / "compiled")
    if set(tasks) == {*NEAR_TASKS, *ALSO}:
        yield from hours(costs, largest)


def _given(task: str, folder: Path, patients: int, limit: int, device_type: Literal["cpu", "cuda"], size: int) -> Ingredients:
    root = corpus(folder, registry.task(task).dataset, patients)
    job, inputs = jobs(
        folder / "gpu",
        root,
        task,
        limit=limit,
        threads=1,
        runs=1,
        card={"fraction": 1.0},
        device_type=device_type,
        frame_size=size,
        grid=(),
        max_epochs=1,
        patience=1,
        warmup_steps=0,
    )
    prepare_process(1)
    return gather(job[0].experiment, inputs)


def _against_plain(task: str, given: Ingredients, folder: Path) -> Measurement:
    """An epoch of training and validation, from files against from the cache."""
    images, decoder = png_files(given, folder / "gpu" / "png" / given.experiment.dataset.name)
    workers = min(WORKERS, usable_cores())
    plain, fast, one, other = alternate(
        lambda: _epoch(given, plain_model(given, images, given.encoder(), workers)), lambda: _epoch(given, Ours(given).model), 2
    )
    return Measurement(
        what=f"{task} on the GPU, an epoch with validation, against the plain way",
        plain=plain,
        fast=fast,
        compared="validation loss of the epoch",
        difference=abs(one - other),
        tolerance=TOLERANCE,
        details={"loader workers of the plain side": workers, "decoder of the plain side": decoder},
    )


def _epoch(given: Ingredients, model: Model) -> float:
    e = given.experiment
    (line,) = train(model, given.data, e, e.recipe.learning_rate, e.dataset.classes)
    model.start_evaluation()  # stops a loader
    return line.validation_loss


def hours(costs: dict[tuple[str, str], tuple[protocol.ImageCosts, protocol.ImageCosts]], difference: float) -> list[Measurement]:
    """All 136 runs from the measured steps: decoding, features and metrics are not in it."""
    projected = []
    for name in ("fewest_epochs", "most_epochs"):
        seconds = [0.0, 0.0]
        for card in map(registry.task, registry.suite("lovt-18").tasks):
            size = protocol.full_size(card.id)
            for side in (0, 1):
                seconds[side] += protocol.run_seconds(size, costs[card.head, card.encoder][side], getattr(size, name))
        projected.append(
            Measurement(
                what=f"GPU-hours of the full suite, the {name.replace('_', ' ')}, forwards and backwards alone (computed)",
                plain=Timed(seconds=(seconds[0],)),
                fast=Timed(seconds=(seconds[1],)),
                goal="near",
                compared="losses of all steps it rests on",
                difference=difference,
                tolerance=TOLERANCE,
                details={"GPU-hours": round(seconds[1] / 3600, 2)},
            )
        )
    return projected
