"""What a fresh process does for `lobe bench growth`: one piece of work, with the package of whichever commit its PYTHONPATH names.

Started as `python -P growth_child.py WHAT GIVEN RESULT`, the last two JSON files. It calls what both commits have, and imports it where it
is needed: a command that plans must not pay for torch. Every result says how much memory the process took at most.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

Given = Mapping[str, Any]
QUICK_S, REPEATS = 5.0, 3  # what takes no longer is done so often


def command(given: Given) -> dict[str, Any]:
    """`lobe` with `words`."""
    from benchmark.cli import main

    with mock.patch.object(sys, "argv", ["lobe", *given["words"]]), _steps(given):
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise
    return {}


def files(given: Given) -> dict[str, Any]:
    """Writes the files of one test with `boxes_per_image` boxes on each image, as a run does, and counts their bytes."""
    from benchmark.kinds.kit import stored

    job, inputs = next(_planned(given["request"]))
    part = _test_part(job, inputs)
    tested = _tested(job, part, inputs.card, given["boxes_per_image"], seed=0)
    seconds: list[float] = []
    while not seconds or (len(seconds) < REPEATS and seconds[0] <= QUICK_S):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as made:
            began = time.perf_counter()
            stored.write(Path(made), job, part, tested, with_examples=False)
            seconds.append(time.perf_counter() - began)
            n_bytes = sum(file.stat().st_size for file in Path(made).iterdir())
    return {"write_s": sorted(seconds)[len(seconds) // 2], "bytes": n_bytes, "boxes": len(part) * given["boxes_per_image"]}


def records(given: Given) -> dict[str, Any]:
    """Fills the output folder of `request` with a record, and predictions of its own, for every job that it plans.

    All but job, metrics and predictions is that of the one record of the same head in the folder `like`.
    """
    from benchmark.kinds.kit import stored
    from benchmark.store import Store

    template = next(record for record in Store(Path(given["like"])).all() if record.job.experiment.head == given["head"])
    store, part, made = Store(Path(given["request"]["out"])), None, []
    # A folder that is made anew after a loss of power need not survive one.
    with store.lock(), mock.patch.object(os, "fsync"), _steps(given):
        for seed, (job, inputs) in enumerate(_planned(given["request"])):
            part = _test_part(job, inputs) if part is None else part
            tested = _tested(job, part, inputs.card, given["boxes_per_image"], seed)
            with tempfile.TemporaryDirectory() as folder:
                stored.write(Path(folder), job, part, tested, with_examples=False)
                content = {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}
            made.append(job)
            store.put(template.model_copy(update={"key": job.key, "job": job, "metrics": tested.metrics}), content)
        store.plan(made)
    return {"records": len(made)}


def floor(given: Given) -> dict[str, Any]:
    """The least that the jobs of `request` cost together: one pass of the encoder, and each head on tensors in memory.

    A head costs what the harness's own loop costs on features that are there: steps, validation after each epoch, one test with all
    metrics.
    """
    import numpy as np
    import torch

    from benchmark.events import Steps
    from benchmark.training import evaluate
    from benchmark.training.determinism import prepare_process
    from benchmark.training.loop import Precision, train
    from benchmark.training.model import Model
    from tests.perf import bare
    from tests.perf.ingredients import gather

    class InMemory:
        """Features of every image as tensors, in the place of a bank."""

        def __init__(self, kept: bare.Kept, strides: tuple[int, ...]):
            self.kept, self.strides = kept, strides

        def pyramid(self, part: Any, index: np.ndarray) -> dict[int, torch.Tensor]:
            rows = [int(row) for row in part.rows[index]]
            return {stride: torch.stack([self.kept[row][stride] for row in rows]) for stride in self.strides}

    with _steps(given):
        jobs = list(_planned(given["request"]))
    prepare_process(jobs[0][0].experiment.threads)
    kept: bare.Kept = {}
    pass_s = heads_s = 0.0
    ready = []
    for job, inputs in jobs:
        ingredients = gather(job.experiment, inputs)
        encoder = ingredients.encoder()
        ready.append((job, inputs, ingredients, encoder, ingredients.head(encoder)))
    # Heads that read most levels first: the others then find theirs among them.
    for job, inputs, ingredients, encoder, head in sorted(ready, key=lambda one: -len(one[4].strides)):
        data, experiment = ingredients.data, job.experiment
        pass_s += bare.BareLoop(ingredients, encoder, head, 0.0, kept).compute_features((data.train, data.validation, data.test))
        model = Model(encoder, head, InMemory(kept, head.strides), ingredients.device)
        began = time.perf_counter()
        training = Steps(train(model, data, experiment, _rate(job), experiment.dataset.classes))
        for _ in training:
            pass
        model.restore(training.result.state, False)
        predicted = evaluate.predictions(model, data.test, data.batch_size, Precision(experiment, ingredients.device).autocast)
        evaluate.test(predicted, data.test, data.batch_size, inputs.card, head)
        heads_s += time.perf_counter() - began
    return {"pass_s": pass_s, "heads_s": heads_s, "images": len(kept)}


WORK: dict[str, Callable[[Given], dict[str, Any]]] = {"command": command, "files": files, "records": records, "floor": floor}


def _steps(given: Given) -> AbstractContextManager[Any]:
    """Smoke runs are planned with `steps` by head, or with each head's own."""
    return mock.patch("benchmark.plan.smoke_steps", given["steps"].__getitem__) if given["steps"] else nullcontext()


def _planned(request: Given) -> Iterator[tuple[Any, Any]]:
    """Jobs of a request that are not stored yet, in the order of the plan, and where their inputs lie."""
    from benchmark.api import Request, plan_jobs

    asked = {**request, "out": Path(request["out"]), "cache": Path(request["cache"])}
    planned = plan_jobs(Request(**asked))
    inputs = {job.key: unit.inputs for unit in planned.todo for job in unit.jobs}
    yield from ((job, inputs[job.key]) for job in planned.jobs if job.key in inputs)


def _rate(job: Any) -> float:
    """A smoke run has one learning rate."""
    rate = job.experiment.learning_rate
    if rate is None:
        raise ValueError(f"{job.labels.task} has no learning rate of its own.")
    return rate


def _test_part(job: Any, inputs: Any) -> Any:
    from benchmark.contents import drained
    from benchmark.training.data import load

    return drained(load(job.experiment, inputs)).test


def _tested(job: Any, part: Any, card: Any, boxes_per_image: int, seed: int) -> Any:
    """What testing a detector gives that finds so many boxes on each image: places at random, sides and confidences as of one that has
    hardly been trained, in float32 as a network gives them."""
    import numpy as np
    import torch

    from benchmark.heads.base import ImageDetections

    rng = np.random.default_rng(seed)
    frame = job.experiment.dataset.frame_size

    def of_image() -> ImageDetections:
        sides = np.clip(rng.lognormal(np.log(0.15 * frame), 0.6, (boxes_per_image, 2)), 2, frame)
        boxes = np.concatenate([rng.uniform(0, frame, (boxes_per_image, 2)) - sides / 2, sides], axis=1)
        confidence = np.sort(0.2 + 0.6 * rng.beta(1, 4, boxes_per_image))[::-1].copy()
        tensors = (torch.from_numpy(values.astype(np.float32)) for values in (boxes, confidence))
        return ImageDetections(*tensors, torch.zeros(boxes_per_image, dtype=torch.int64))

    index = np.arange(len(part))
    return part.trained_kind.test([(index, [of_image() for _ in index])], part, card, None, len(part))


if __name__ == "__main__":
    what, given_file, result_file = sys.argv[1:]
    found = WORK[what](json.loads(Path(given_file).read_text()))

    import benchmark
    from benchmark.machine import peak_memory_bytes

    found |= {"peak_bytes": peak_memory_bytes(), "package": benchmark.__file__}
    Path(result_file).write_text(json.dumps(found))
