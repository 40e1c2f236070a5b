"""The training loop: one plain loop that fits on a screen and names no head.

Source of every rule: LoVT 1.2 (optimiser, schedule, early stopping, checkpoint), 2.4 (freezing) and 8 (quirks, as switches).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmark import generators, parallel
from benchmark.cards import EncoderMode, Epoch, Experiment, Recipe
from benchmark.errors import TrainingError
from benchmark.training.checkpoint import Checkpoint, TrainingState, selected_from_plain, selected_to_plain
from benchmark.training.data import JobData
from benchmark.training.evaluate import validate
from benchmark.training.free_memory import BetweenSteps, give_back
from benchmark.training.micro_batches import losses_of_pieces
from benchmark.training.model import Model


@dataclass
class Selected:
    """Result of training: the best state by the validation metric, and the curve that led to it.

    `seconds` is the run's share of the time where runs train together.
    """

    state: dict[str, torch.Tensor] = field(default_factory=dict)
    epoch: int = -1
    metrics: dict[str, float] = field(default_factory=dict)
    curve: list[Epoch] = field(default_factory=list)
    steps: int = 0
    best: float = -math.inf
    seconds: float = 0.0


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
    optimiser = optimiser_of(recipe, parameters, start_rate)
    run_state = RunState(experiment, optimiser)
    kept = run_state.kept
    precision = Precision(experiment, model.device)
    order = torch.Generator().manual_seed(experiment.order_seed)
    state = TrainingState(model.trained_modules(finetune), {"optimiser": optimiser, "course": run_state, "scaler": precision.scaler}, order)
    saved = None if checkpoint is None else checkpoint.load(state, model.device)
    first = 0 if saved is None else saved["next_epoch"]
    give_back()
    between_steps = BetweenSteps()

    for epoch in range(first, recipe.max_epochs):
        model.start_epoch()
        seen = data.train.in_epoch(epoch)
        losses: list[torch.Tensor] = []
        for index in batches(len(data.train), data.batch_size, order, recipe.drop_last):
            if not finetune or kept.steps < warmup:
                model.freeze_encoder()
            elif kept.steps == warmup:
                model.unfreeze_encoder(batchnorm_trains=switches.batchnorm_at_unfreezing == "train" or not losses)
                _set_rate(optimiser, learning_rate)
            if finetune and kept.steps >= warmup and switches.plateau_after_warmup == "undone":
                _set_rate(optimiser, learning_rate)
            losses.append(precision.step(losses_of_pieces(model, seen, index, precision.autocast), optimiser))
            kept.steps += 1
            between_steps()
            if kept.steps == recipe.max_steps:
                break
        validation_loss, metrics = parallel.led(lambda: validate(model, data.validation, data.batch_size, class_names, precision.autocast))
        line = run_state.line(epoch, losses, validation_loss, metrics)
        yield line
        if run_state.ends_after(line, lambda: model.snapshot(finetune)):
            break
        if checkpoint is not None:
            checkpoint.save_if_due(state, {"next_epoch": epoch + 1}, parallel.gathered(generators.state()))
    if finetune and kept.steps <= warmup:
        raise TrainingError(f"The encoder was never fine-tuned: {kept.steps} steps, all inside the warm-up of {warmup}.")
    return kept


class RunState:
    """Per-run state updated after each epoch: plateau schedule, best checkpoint, early stopping (LoVT 1.2).

    Args:
        optimiser: of the run; the plateau rule halves its rate.

    Attributes:
        kept: the best state so far; the loop counts `kept.steps`.
    """

    def __init__(self, experiment: Experiment, optimiser: torch.optim.Optimizer):
        recipe = experiment.recipe
        self.experiment, self.optimiser, self.kept = experiment, optimiser, Selected()
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser, factor=recipe.plateau_factor, patience=recipe.plateau_patience
        )
        self._waited, self._stop_best = 0, -math.inf

    def line(self, epoch: int, losses: list[torch.Tensor], validation_loss: float, metrics: dict[str, float]) -> Epoch:
        """The epoch's line of the curve; afterwards the rate is the next epoch's.

        Raises:
            TrainingError: a loss is not finite.
        """
        train_loss = float(torch.stack(losses).mean())
        rate = self.optimiser.param_groups[0]["lr"]
        if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
            raise TrainingError(
                f"The loss is not finite in epoch {epoch} (training {train_loss}, validation {validation_loss}) at learning rate {rate:g}."
            )
        self._plateau.step(validation_loss)
        line = Epoch(
            epoch=epoch,
            step=self.kept.steps,
            train_loss=train_loss,
            validation_loss=validation_loss,
            learning_rate=rate,
            metrics=metrics,
        )
        self.kept.curve.append(line)
        return line

    def ends_after(self, line: Epoch, snapshot: Callable[[], dict[str, torch.Tensor]]) -> bool:
        """Keeps the state if the epoch is the best so far; True when patience or step budget is used up."""
        recipe, select, kept = self.experiment.recipe, self.experiment.select, self.kept
        if select not in line.metrics:
            raise TrainingError(f"{select} cannot be computed: the validation split has no positive image. Use more images.")
        value = line.metrics[select]
        if value > kept.best:
            kept.best, kept.epoch, kept.metrics, kept.state = value, line.epoch, line.metrics, snapshot()
        self._waited = 0 if value - recipe.min_delta > self._stop_best else self._waited + 1
        self._stop_best = max(self._stop_best, value) if self._waited == 0 else self._stop_best
        return self._waited >= recipe.patience or kept.steps == recipe.max_steps

    def state_dict(self) -> dict[str, Any]:
        """All state except the optimiser's, as tensors and plain values."""
        kept, plateau = selected_to_plain(self.kept), self._plateau.state_dict()
        return {"kept": kept, "plateau": plateau, "waited": self._waited, "stop_best": float(self._stop_best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        selected_from_plain(self.kept, state["kept"])
        self._plateau.load_state_dict(state["plateau"])
        self._waited, self._stop_best = state["waited"], state["stop_best"]


def batches(n: int, batch_size: int, generator: torch.Generator, drop_last: bool) -> list[np.ndarray]:
    """One epoch's shuffled batches of indices; the generator's state carries on to the next epoch."""
    order = torch.randperm(n, generator=generator).numpy()
    stop = n - n % batch_size if drop_last else n
    return [order[i : i + batch_size] for i in range(0, stop, batch_size)]


def optimiser_of(recipe: Recipe, parameters: list[torch.nn.Parameter], rate: float) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser]
    return kind(parameters, lr=rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True)


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

    def step(self, of_pieces: Iterable[torch.Tensor], optimiser: torch.optim.Optimizer) -> torch.Tensor:
        """Takes one step on the sum of the losses of pieces over all processes; returns that sum, detached."""
        optimiser.zero_grad(set_to_none=True)
        losses = []
        for loss in of_pieces:
            if not loss.requires_grad:
                raise TrainingError("The loss does not depend on any trained parameter.")
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
            del loss  # and with it the graph, before the next piece's is made
        self.scaler.step(optimiser)
        self.scaler.update()
        return parallel.total(torch.stack(losses).sum())
