"""The project's loop against a bare one: one step, one validation forward, and a whole run with all that surrounds them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark import registry
from benchmark.cards import Record
from benchmark.errors import TrainingError
from benchmark.events import Finished
from benchmark.execute.work import WorkUnit, run_unit
from benchmark.training.determinism import prepare_process
from tests.perf import alternatives, bare, gpu, protocol
from tests.perf.corpus import frame_size, jobs, n_cores, shared_corpus
from tests.perf.ingredients import Ingredients, gather
from tests.perf.measure import BenchResult, Compared, Measurement, Timed, alternate, report
from tests.perf.page import FLOPS, PER_IMAGE, PRODUCT
from tests.perf.stepping import bare_loop, compare_steps

SIDES = (
    "plain: a bare loop, forward, loss, backward, Adam, over tensors already in memory. fast: the project's own, which fetches images or "
    "features and truth for every batch; for a whole run also decoding, cache, features, all metrics and the files of predictions (the "
    "bare loop has the feature pass as well, not the rest). The goal is to be near: fast / plain. At the reduced size what a run costs "
    "once (an encoder built and held to its contract, decoding, writing predictions) weighs far more than in a full run, which the "
    "computed rows stand for; those and the phases take the quickest turn of each phase on both sides. A profile of one such run of "
    "rsna-yolov3-frozen-10 spent 0.88 of 10.2 s on suppressing boxes, 23 ms an image of validation and test, 0.56 on building encoder and "
    "head, 0.47 on decoding, 0.37 on writing. The network is hardly trained: of 3,087 candidates an image 3,076 have a confidence at which "
    "LoVT's rule leaves none out, and 1,912 survive to be scored and written. Rows on channels_last and on compiling set another way to "
    "run against the harness's own: torch's default format stays where nothing was gained, and compiling is `lobe run --compile`. There a "
    "ratio below 1 is time lost."
)
NEAR, NEAR_SUM = 1.10, 1.20
TOLERANCE = 1e-5
TASKS = (  # 3, 5, 10, 11, 13, 15
    "rsna-yolov3-finetune-100",
    "rsna-yolov3-frozen-10",
    "covid-rural-unet-finetune-100",
    "covid-rural-unet-frozen-100",
    "siim-unet-finetune-100",
    "object-cxr-yolov3-finetune-100",
)
QUICK = ("covid-rural-linear-frozen-100",)  # the quick `suite` compares a U-Net with its bare loop
FORMATS = ("rsna-yolov3-finetune-100", "siim-unet-finetune-100")  # measured in both memory formats
COMPILED = ("rsna-yolov3-finetune-100",)  # compiling takes longer than all its steps here


def run(quick: bool, folder: Path) -> BenchResult:
    started = time.monotonic()
    cores = n_cores(quick)
    limit, batch, epochs, repeats, rounds = (4, 2, 1, 1, 1) if quick else (16, 8, 2, 7, 2)
    rows: list[Measurement] = []
    for task in QUICK if quick else TASKS:
        dataset = registry.task(task).dataset
        root = shared_corpus(folder, dataset, quick)
        (job,), inputs = jobs(
            folder / "step",
            root,
            task,
            limit=limit,
            threads=cores,
            runs=1,
            card={"fraction": 1.0},
            batch_size=batch,
            grid=(),
            max_epochs=epochs,
            patience=epochs,
            warmup_steps=0,
            frame_size=frame_size(quick),
        )
        prepare_process(cores)
        given = gather(job.experiment, inputs)
        rows += _steps(task, given, repeats)
        empty = iter(folder / "step" / f"{task}-{turn}" / "images" for turn in range(rounds))
        rows += _whole_run(task, given, WorkUnit(task, (job,), inputs), empty, rounds)
        if quick or task in FORMATS:
            rows.append(alternatives.channels_last(task, given, repeats, TOLERANCE))
        if quick or task in COMPILED:
            rows += alternatives.compiled(task, given, repeats, TOLERANCE, folder / "step" / "compiled", traced_only=quick)
    on_gpu, sentence = gpu.rows(quick, folder)
    sizes = {
        "images a split, at most": limit,
        "batch": batch,
        "epochs of a whole run": epochs,
        "repetitions of a step": repeats,
        "turns of a whole run": rounds,
        "threads": cores,
        PRODUCT: round(product_speed(256 if quick else 2048), 1),
        "GPU": sentence,
    }
    return report("step", SIDES, quick, sizes, [*rows, *on_gpu], started)


def _steps(task: str, given: Ingredients, repeats: int) -> list[Measurement]:
    rows = []
    sizes = {"training step": given.data.batch_size, "validation forward": min(given.data.batch_size, len(given.data.validation))}
    flops = count_flops(given)
    for (what, n), (plain, fast, one, other) in zip(sizes.items(), compare_steps(given, repeats), strict=True):
        rows.append(
            Measurement(
                what=f"{task}, {what}",
                plain=plain,
                fast=fast,
                goal="near",
                target=NEAR,
                compared="loss of the last repetition",
                difference=abs(one - other),
                tolerance=TOLERANCE,
                details={
                    PER_IMAGE: round(fast.median / n * 1000, 3),
                    FLOPS: round(flops[what] / 1e9, 3),
                },
            )
        )
    return rows


def product_speed(side: int) -> float:
    """GFLOP/s of a float32 product of square matrices, the best of five."""
    a, b = torch.ones(side, side), torch.ones(side, side)
    return 2 * side**3 / min(bare.timed(lambda: a @ b)[0] for _ in range(5)) / 1e9


def count_flops(given: Ingredients) -> dict[str, float]:
    """Floating-point operations an image in the matrix products and convolutions of a step and of a validation forward, counted."""
    loop = bare_loop(given)
    index = np.arange(given.data.batch_size)
    held_out = index[: len(given.data.validation)]
    train, validation = loop.in_memory(given.data.train, index), loop.in_memory(given.data.validation, held_out)
    found = {}
    for what, n, work in (
        ("training step", len(index), lambda: loop.step(*train)),
        ("validation forward", len(held_out), lambda: loop.validate(*validation)),
    ):
        with FlopCounterMode(display=False) as counter:
            work()
        found[what] = counter.get_total_flops() / n
    return found


def _whole_run(task: str, given: Ingredients, unit: WorkUnit, empty, rounds: int) -> list[Measurement]:
    """A run from raw files to its record against its bare loop, at the reduced size, and computed for the whole protocol."""
    records: list[Record] = []
    floors: list[bare.BareRun] = []
    _, fast, _, _ = alternate(
        lambda: floors.append(bare.run(given, given.experiment.recipe.learning_rate)),
        lambda: records.append(_record(replace(unit, inputs=replace(unit.inputs, cache=next(empty))))),
        rounds,
    )
    inside = Timed(seconds=tuple(floor.total_s for floor in floors))  # its tensors are brought into memory outside the clock
    # Phase by phase the quickest turn of either side: other load on the machine only adds to a time.
    record = records[-1].model_copy(update={"timings_s": _least([record.timings_s for record in records])})
    floor = replace(floors[-1], seconds=_least([floor.seconds for floor in floors]))
    phases = {f"fast, seconds in {name}": round(seconds, 3) for name, seconds in record.timings_s.items()}
    phases |= {f"bare, seconds in {name}": round(seconds, 3) for name, seconds in floor.seconds.items()}
    beyond = record.timings_s["training"] - floor.seconds["train"] - floor.seconds["validation"]
    phases["fetching, selection metrics and bookkeeping in training, seconds (computed)"] = round(beyond, 3)
    phases["all metrics in test, seconds (computed)"] = round(record.timings_s["test"] - floor.seconds["test"], 3)
    compared: Compared = {
        "compared": "losses of every epoch",
        "difference": max(
            max(abs(line.train_loss - one), abs(line.validation_loss - other))
            for line, (one, other) in zip(record.curve, floor.losses, strict=True)
        ),
        "tolerance": TOLERANCE,
    }
    what = f"{task}, a whole run at the reduced size"
    measured = Measurement(what=what, plain=inside, fast=fast, goal="near", target=NEAR_SUM, details=phases, **compared)
    size = protocol.full_size(task)
    ours, bare_costs = protocol.of_run(record, floor)
    seconds = [protocol.task_seconds(size, costs, size.fewest_epochs) for costs in (bare_costs, ours)]
    computed = Measurement(
        what=f"{task}, {size.runs} runs of {size.fewest_epochs} epochs on all images (computed)",
        plain=Timed(seconds=(seconds[0],)),
        fast=Timed(seconds=(seconds[1],)),
        goal="near",
        target=NEAR_SUM,
        **compared,
    )
    return [measured, computed]


def _least(turns: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: min(turn[name] for turn in turns) for name in turns[0]}


def _record(unit: WorkUnit) -> Record:
    (record,) = (event.record for event in run_unit(unit) if isinstance(event, Finished))
    if record.failure is not None:
        raise TrainingError(f"{unit.name} failed, so there is nothing to measure: {record.failure.sentence}")
    return record
