"""Runs of one frozen encoder and task trained side by side: each keeps its own rate, order, plateau, checkpoint and end.

Features and masks of a batch are fetched once for all runs that see it. What a run computes does not depend on the others, to the bit;
against `loop.train`, which takes the steps with autograd, losses and metrics agree within 1e-5.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch

from benchmark.cards import EncoderMode, Epoch, Experiment, Job, digest_of
from benchmark.errors import LobeError
from benchmark.kinds.base import NEGATIVE_LOSS
from benchmark.metrics import dice, scores, spec
from benchmark.registry import optional, plugin
from benchmark.training.data import JobData, draw_seed
from benchmark.training.features import FeatureBank
from benchmark.training.loop import RunState, Selected, batches, optimiser_of
from benchmark.training.model import Model

OWN = {"learning_rate": None, "head_seed": 0, "order_seed": 0}  # runs of one group may differ in these, and in their grids


def group_key(job: Job) -> str | None:
    """Equal for jobs that may train together; None for a job that trains alone."""
    e = job.experiment
    if e.encoder is not EncoderMode.FROZEN or e.precision != "float32" or e.device_type != "cpu":
        return None
    if not _stacks(e.head) or e.recipe.augmentation is not None:
        return None
    recipe = e.recipe.model_copy(update={"grid": ()})
    same_images = {"order_seed": draw_seed(e) or 0}
    return digest_of(e.model_copy(update={**OWN, **same_images, "recipe": recipe}).model_dump(mode="json"))


def train_together(
    models: Sequence[Model], data: JobData, experiments: Sequence[Experiment], learning_rates: Sequence[float]
) -> Iterator[tuple[int, Epoch | Selected | LobeError]]:
    """Trains every head as `loop.train` would, yielding (run, event): every epoch, then the result or the error.

    Args:
        models: one per run, on one encoder and bank, each head with its own initialisation; heads of a kind that offers `stack`.
        experiments: of one `group_key`.
    """
    bank = models[0].bank
    assert bank is not None
    recipe, names = experiments[0].recipe, experiments[0].dataset.classes
    stack = plugin("heads", experiments[0].head).stack([model.head for model in models])
    run_states = [
        RunState(e, optimiser_of(recipe, list(model.head.parameters()), rate))
        for e, model, rate in zip(experiments, models, learning_rates, strict=True)
    ]
    # Runs of one order seed draw the same batches: one generator for all of them.
    orders = {e.order_seed: torch.Generator().manual_seed(e.order_seed) for e in experiments}
    alive = list(range(len(models)))
    for epoch in range(recipe.max_epochs):
        if not alive:
            return
        started = time.monotonic()
        drawn = {seed: batches(len(data.train), data.batch_size, order, recipe.drop_last) for seed, order in orders.items()}
        losses: dict[int, list[torch.Tensor]] = {run: [] for run in alive}
        for step in range(min(map(len, drawn.values()))):
            for seed, order in drawn.items():
                members = [run for run in alive if experiments[run].order_seed == seed]
                if members:
                    _step(stack, members, data, order[step], bank, run_states, losses)
            if run_states[alive[0]].kept.steps == recipe.max_steps:
                break
        measured = _validate(stack, alive, data, names, bank)
        for run in alive:
            run_states[run].kept.seconds += (time.monotonic() - started) / len(alive)
        for run in tuple(alive):
            run_state = run_states[run]
            try:
                line = run_state.line(epoch, losses[run], *measured[run])
                yield run, line
                ended = run_state.ends_after(line, partial(models[run].snapshot, finetune=False))
            except LobeError as error:
                alive.remove(run)
                yield run, error
                continue
            if ended:
                alive.remove(run)
                yield run, run_state.kept
    for run in alive:
        yield run, run_states[run].kept


def _stacks(head: str) -> bool:
    """Whether a head's module offers `stack`. One that cannot be used does not: its jobs say why when they are fitted."""
    try:
        return optional("heads", head, "stack") is not None
    except LobeError:
        return False


def _step(stack, members: list[int], data: JobData, index: np.ndarray, bank: FeatureBank, run_states: list[RunState], losses: dict) -> None:
    found = stack.gradients(members, bank.pyramid(data.train, index), data.train.masks(index))
    for run, loss in zip(members, found, strict=True):
        run_states[run].optimiser.step()
        run_states[run].kept.steps += 1
        losses[run].append(loss)


def _validate(stack, alive: list[int], data: JobData, names: tuple[str, ...], bank: FeatureBank) -> dict[int, tuple[float, dict]]:
    """run -> mean loss and selection metrics, as `evaluate.validate` gives them."""
    part, weights = data.validation, []
    found: dict[int, list] = {run: [] for run in alive}
    for start in range(0, len(part), data.batch_size):
        index = np.arange(start, min(start + data.batch_size, len(part)))
        weights.append(len(index))
        for run, measured in zip(alive, stack.measure(alive, bank.pyramid(part, index), part.masks(index)), strict=True):
            found[run].append(measured)
    measured = {}
    for run, rows in found.items():
        loss = float(np.average([float(value) for value, _ in rows], weights=weights))
        with spec.only_own(part.own_metrics):
            found_of_run = scores.segmentation_selection(dice.join([counts for _, counts in rows]), names)
        measured[run] = loss, found_of_run | {NEGATIVE_LOSS: -loss}
    return measured
