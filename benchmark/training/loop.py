"""The training loop: one plain loop that fits on a screen and knows no head by name.

Source of every rule: LoVT 1.2 (optimiser, schedule, early stopping, checkpoint), 2.4 (freezing) and 8 (quirks, as switches).
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import torch

from benchmark import parallel
from benchmark.cards import EncoderMode, Epoch, Experiment
from benchmark.errors import TrainingError
from benchmark.training.checkpoint import Checkpoint, Parts, selected_from_plain, selected_to_plain
from benchmark.training.data import JobData
from benchmark.training.evaluate import validate
from benchmark.training.model import Model


@dataclass
class Selected:
    """What the loop leaves behind: the best state by the validation metric, and how it got there."""

    state: dict[str, torch.Tensor] = field(default_factory=dict)
    epoch: int = -1
    metrics: dict[str, float] = field(default_factory=dict)
    curve: list[Epoch] = field(default_factory=list)
    steps: int = 0
    best: float = -math.inf


def train(
    model: Model,
    data: JobData,
    experiment: Experiment,
    learning_rate: float,
    class_names: tuple[str, ...],
    checkpoint: Checkpoint | None = None,
) -> Generator[Epoch, None, Selected]:
    """Trains until patience, epochs or step budget end it, yielding every epoch; the earlier epoch wins a tie.

    Args:
        checkpoint: where to go on from, if it holds something, and what to save between epochs.

    Raises:
        TrainingError: the loss became NaN or infinite, or a fine-tuned encoder never unfroze.
    """
    recipe, switches = experiment.recipe, experiment.switches
    finetune = experiment.encoder is EncoderMode.FINETUNE
    parameters = list(model.trained_modules(finetune).parameters())
    warmup = data.warmup_steps if finetune else 0
    start_rate = recipe.warmup_learning_rate if warmup else learning_rate
    optimiser = torch.optim.Adam(parameters, lr=start_rate, weight_decay=recipe.weight_decay)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=recipe.plateau_factor, patience=recipe.plateau_patience)
    precision = Precision(experiment, model.device)
    order = torch.Generator().manual_seed(experiment.order_seed)
    kept, waited, stop_best, first = Selected(), 0, -math.inf, 0
    parts = Parts(model.trained_modules(finetune), {"optimiser": optimiser, "plateau": plateau, "scaler": precision.scaler}, order)
    if checkpoint is not None and (saved := checkpoint.load(parts, model.device)) is not None:
        selected_from_plain(kept, saved["kept"])
        waited, stop_best, first = saved["waited"], saved["stop_best"], saved["next_epoch"]

    for epoch in range(first, recipe.max_epochs):
        model.start_epoch()
        losses = []
        for index in batches(len(data.train), data.batch_size, order, recipe.drop_last):
            if not finetune or kept.steps < warmup:
                model.freeze_encoder()
            elif kept.steps == warmup:
                model.unfreeze_encoder(batchnorm_trains=switches.batchnorm_at_unfreezing == "train" or not losses)
                _set_rate(optimiser, learning_rate)
            if finetune and kept.steps >= warmup and switches.plateau_after_warmup == "undone":
                _set_rate(optimiser, learning_rate)
            mine = parallel.own(index)
            with precision.autocast():
                outputs = model.outputs(data.train, mine)
            targets = data.train.targets(mine, model.device)
            loss = parallel.part_of_loss(model.head.loss, outputs, targets, len(mine), len(index), model.head.mean_over_images)
            precision.step(loss, optimiser)
            losses.append(parallel.total(loss.detach()))
            kept.steps += 1
            if kept.steps == recipe.max_steps:
                break
        train_loss = float(torch.stack(losses).mean())
        rate = optimiser.param_groups[0]["lr"]
        validation_loss, metrics = parallel.led(lambda: validate(model, data.validation, data.batch_size, class_names, precision.autocast))
        if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
            raise TrainingError(
                f"The loss is not finite in epoch {epoch} (training {train_loss}, validation {validation_loss}) at learning rate {rate:g}."
            )
        plateau.step(validation_loss)
        line = Epoch(
            epoch=epoch, step=kept.steps, train_loss=train_loss, validation_loss=validation_loss, learning_rate=rate, metrics=metrics
        )
        kept.curve.append(line)
        yield line
        if experiment.select not in metrics:
            raise TrainingError(f"{experiment.select} cannot be computed: the validation split has no positive image. Use more images.")
        value = metrics[experiment.select]
        if value > kept.best:
            kept.best, kept.epoch, kept.metrics, kept.state = value, epoch, metrics, model.snapshot(finetune)
        waited = 0 if value - recipe.min_delta > stop_best else waited + 1
        stop_best = max(stop_best, value) if waited == 0 else stop_best
        if waited >= recipe.patience or kept.steps == recipe.max_steps:
            break
        if checkpoint is not None and parallel.rank() == 0:
            progress = {"kept": selected_to_plain(kept), "waited": waited, "stop_best": float(stop_best), "next_epoch": epoch + 1}
            checkpoint.save_if_due(parts, progress)
    if finetune and kept.steps <= warmup:
        raise TrainingError(f"The encoder was never fine-tuned: {kept.steps} steps, all inside the warm-up of {warmup}.")
    return kept


def batches(n: int, batch_size: int, generator: torch.Generator, drop_last: bool) -> list[np.ndarray]:
    """One epoch's shuffled batches of indices; the generator's state carries on to the next epoch."""
    order = torch.randperm(n, generator=generator).numpy()
    stop = n - n % batch_size if drop_last else n
    return [order[i : i + batch_size] for i in range(0, stop, batch_size)]


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


class Precision:
    """Autocast and gradient scaling as the experiment's precision asks."""

    def __init__(self, experiment: Experiment, device: torch.device):
        dtypes = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
        self.dtype, self.device = dtypes[experiment.precision], device
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def step(self, loss: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad(set_to_none=True)
        if not loss.requires_grad:
            raise TrainingError("The loss does not depend on any trained parameter.")
        self.scaler.scale(loss).backward()
        parallel.sum_gradients(p for group in optimiser.param_groups for p in group["params"])
        self.scaler.step(optimiser)
        self.scaler.update()
