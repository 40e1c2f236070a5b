"""One loop for all methods: shows pairs, minimises the objective's losses, and stops with a sentence when a loss is not finite.

Every step is a function of the seed and its number: which pairs, which views, which sentences, in which order. So a run that was stopped
goes on to the bits of one that was not, and processes that share a batch train what one process trains.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmark import parallel
from benchmark.cards.pretraining import OptimiserCard, PretrainingCard, StageCard
from benchmark.encoders.words import Words
from benchmark.errors import TrainingError, UsageError
from benchmark.generators import seed_all
from benchmark.objectives.kit.base import Encoded, Objective
from benchmark.objectives.kit.group import Group
from benchmark.pretraining.pairs import Pairs
from benchmark.pretraining.towers import Towers
from benchmark.pretraining.views import Views
from benchmark.training.checkpoint import Checkpoint, TrainingState
from benchmark.training.free_memory import BetweenSteps

DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Step:
    """What one step of the optimiser did; losses are sums over all processes, means over the batch's groups.

    Attributes:
        number: from 0.
        pairs: shown so far, this step's included.
        pairs_here: those of them that this process has seen begin: the rest came with the checkpoint.
        losses: by name, weighted.
        rate: of the step.
        seconds: since the loop began in this process.
    """

    number: int
    pairs: int
    pairs_here: int
    losses: dict[str, float]
    rate: float
    seconds: float

    @property
    def loss(self) -> float:
        return sum(self.losses.values())


class Trained(nn.Module):
    """Everything that a step changes, as one module."""

    def __init__(self, towers: Towers, objective: Objective):
        super().__init__()
        self.towers, self.objective = towers, objective

    def train(self, mode: bool = True) -> Trained:
        super().train(mode)
        self.towers.image.set_mode("training" if mode else "eval")
        return self


class Course:
    """Which pairs come when: whole rounds through all pairs, each in an order of its own; a rest that fills no batch is left out.

    Raises:
        UsageError: fewer pairs than a batch, or a budget that contradicts itself or has no step for one of its stages.
    """

    def __init__(self, n_pairs: int, card: PretrainingCard, seed: int):
        budget = card.budget
        if n_pairs < budget.batch:
            raise UsageError(f"Recipe {card.name}: a batch of {budget.batch} pairs, and there are {n_pairs:,}. Use more images.")
        if budget.batch % budget.group:
            raise UsageError(f"Recipe {card.name}: a batch of {budget.batch} pairs is no whole number of groups of {budget.group}.")
        if budget.schedule == "restarts" and budget.period is None:
            raise UsageError(f"Recipe {card.name}: the schedule `restarts` needs a `period` in steps.")
        begin = [one.begins for one in budget.stages]
        if begin and not (begin[0] == 0 and begin == sorted(begin) and begin[-1] < 1):
            raise UsageError(
                f"Recipe {card.name}: its stages begin at {', '.join(f'{one:g}' for one in begin)}. Give rising shares from 0."
            )
        self.n_pairs, self.budget, self.seed = n_pairs, budget, seed
        self.in_round = n_pairs // budget.batch
        self.n_steps = math.ceil(budget.pairs / budget.batch)
        # As objectives ask: a share of the budget lies behind once `step / n_steps` reaches it.
        steps, end = range(self.n_steps), self.n_steps
        self.starts = [next((step for step in steps if step / end >= one.begins), end) for one in budget.stages]
        ends = [*self.starts[1:], end][: len(self.starts)]
        for stage, first, last in zip(budget.stages, self.starts, ends, strict=True):
            if first >= last:
                shown = f"{budget.pairs:,} pairs, {budget.batch} a step"
                raise UsageError(f"Recipe {card.name}: {shown}, leave no step for the stage that begins at {stage.begins:g}. Show more.")

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(batch,) int64 numbers of pairs, and their keys: seed, round and pair decide a key."""
        round_, place = divmod(step, self.in_round)
        order = np.random.default_rng([self.seed, 3, round_ if self.budget.order == "anew" else 0]).permutation(self.n_pairs)
        index = order[place * self.budget.batch : (place + 1) * self.budget.batch]
        return index, ((self.seed % 2**20) << 43) + (round_ % 2**11 << 32) + index

    def rate(self, step: int) -> float:
        """Share of the recipe's rate: a linear rise, then the schedule's fall; in each stage anew."""
        budget, (first, end, stage) = self.budget, self._part(step)
        rise, peak = (budget.warm_up, 1.0) if stage is None else (stage.warm_up, stage.rate)
        done, n_steps = (step - first) / (end - first), end - first
        if done < rise:
            share = (step - first + 1) / max(1, math.ceil(rise * n_steps))
        elif budget.schedule == "constant":
            return peak
        elif budget.schedule == "swinging":
            share = _falling(step - first, self.in_round)
        elif budget.schedule == "restarts":
            assert budget.period is not None  # required where the course is made
            share = _falling((step - first) % budget.period, budget.period)
        else:
            share = _falling(done - rise, 1 - rise)
        return peak * (budget.lowest + (1 - budget.lowest) * share)

    def begins_stage(self, step: int) -> bool:
        """Whether a stage after the first begins, with an optimiser that knows nothing yet."""
        return step > 0 and self._part(step)[0] == step

    def _part(self, step: int) -> tuple[int, int, StageCard | None]:
        """First step, end and card of the stage that a step lies in; of the whole budget where it has no stages."""
        stages = self.budget.stages
        if not stages:
            return 0, self.n_steps, None
        place = sum(step >= start for start in self.starts) - 1
        return self.starts[place], [*self.starts[1:], self.n_steps][place], stages[place]


def _falling(done: float, of: float) -> float:
    """Half a cosine from 1 to 0; beyond `of` it rises again."""
    return 0.5 * (1 + math.cos(math.pi * done / of))


class Feed:
    """Pairs as tensors: views of frames, and tokens of what is read of their reports."""

    def __init__(self, pairs: Pairs, words: Words, views: Views, how: str, device: torch.device):
        self.pairs, self.words, self.views, self.how, self.device = pairs, words, views, how, device

    def encoded(self, index: Sequence[int] | np.ndarray, keys: np.ndarray, trained: Trained) -> Encoded:
        frames = torch.from_numpy(self.views.of(self.pairs.shown(index, keys), keys.tolist())).to(self.device)
        batch = self.words.batch(list(index), self.how, keys.tolist())
        return trained.towers.encode(frames, batch.to(self.device), torch.from_numpy(keys), trained.objective)


def train(
    trained: Trained,
    feed: Feed,
    course: Course,
    card: PretrainingCard,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Step]:
    """Trains to the end of the budget, from where the checkpoint stands.

    Raises:
        TrainingError: a loss is not finite; the sentence names the step.
    """
    if budget_leaves_some_out(card, parallel.size()):
        raise UsageError(f"Recipe {card.name}: {card.budget.batch // card.budget.group} groups a batch and {parallel.size()} processes.")
    budget, is_shared = card.budget, card.budget.group == card.budget.batch and parallel.size() > 1
    trained = parallel.with_global_batchnorm(trained) if is_shared else trained  # type: ignore[assignment]
    optimiser = optimiser_of(card.optimiser, trained)
    dtype = DTYPES[budget.precision]
    scaler = torch.amp.GradScaler(feed.device.type, enabled=dtype is torch.float16)
    order = torch.Generator().manual_seed(course.seed)
    state = TrainingState(trained, {"optimiser": optimiser, "scaler": scaler}, order)
    saved = None if checkpoint is None else checkpoint.load(state, feed.device)
    replica, between_steps, began = parallel.Replica(), BetweenSteps(), time.monotonic()
    first = 0 if saved is None else saved["step"]
    for step in range(first, course.n_steps):
        seed_all(draws(course.seed, step))  # of what falls out at random
        if course.begins_stage(step):
            optimiser.state.clear()
        rate = card.optimiser.rate * course.rate(step)
        for parameters in optimiser.param_groups:
            parameters["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        work = _Work(trained, feed, course, card, step)
        groups = list(_groups(budget.batch, budget.group))
        for k, (rows, group) in enumerate(groups):
            loss = replica.loss(trained, partial(work.loss, rows, group), k == len(groups) - 1)
            scaler.scale(loss).backward()
        losses = {name: float(parallel.total(value)) for name, value in work.summed.items()}
        if not all(map(math.isfinite, losses.values())):
            broken = ", ".join(f"{name} {value}" for name, value in losses.items() if not math.isfinite(value))
            raise TrainingError(f"{card.name}: a loss is not finite in step {step:,} of {course.n_steps:,} at rate {rate:g} ({broken}).")
        if budget.clip is not None:
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(trained.parameters(), budget.clip)
        scaler.step(optimiser)
        scaler.update()
        trained.objective.after_step()
        between_steps()
        if not is_shared:
            parallel.share_running_statistics(trained)  # each step: only the first process knows when it saves a checkpoint
        yield Step(step, (step + 1) * budget.batch, (step + 1 - first) * budget.batch, losses, rate, time.monotonic() - began)
        if checkpoint is not None:
            checkpoint.save_if_due(state, {"step": step + 1}, drawn=())


def draws(seed: int, step: int) -> int:
    """Seed of what a process draws in a step: another one on every process, and the same after a stop."""
    return int(np.random.SeedSequence([seed, 4, step, parallel.rank()]).generate_state(1, np.uint64)[0] >> 1)


class _Work:
    """The losses of one step, group by group; `summed` adds up what they were."""

    def __init__(self, trained: Trained, feed: Feed, course: Course, card: PretrainingCard, step: int):
        self.trained, self.feed, self.card = trained, feed, card
        self.done = step / course.n_steps
        self.index, self.keys = course.batch(step)
        self.summed: dict[str, Tensor] = {}

    def loss(self, rows: slice, group: Group) -> Tensor:
        """This process's part of the batch's mean over groups."""
        budget, device = self.card.budget, self.feed.device
        dtype = DTYPES[budget.precision]
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            encoded = self.feed.encoded(self.index[rows], self.keys[rows], self.trained)
            losses = self.trained.objective(encoded, group, self.done)
        share = budget.group / budget.batch
        for name, value in losses.items():
            self.summed[name] = self.summed.get(name, torch.zeros_like(value)) + value.detach() * share
        return torch.stack(list(losses.values())).sum() * share


@torch.no_grad()
def percentiles(trained: Trained, feed: Feed, done: float, batch: int, seed: int) -> np.ndarray:
    """(N,) share of the other reports that each image finds less like itself than its own: 0.5 by chance, 1 at best.

    Args:
        feed: of pairs that were not trained on; what is read of a report is the same every time.

    Raises:
        TrainingError: a vector is not finite. The losses of the last step do not show what that step made of the weights.
    """
    trained.eval()
    try:
        images, reports = [], []
        for first in range(0, len(feed.pairs), batch):
            index = np.arange(first, min(first + batch, len(feed.pairs)))
            keys = index + (seed % 2**31 << 32)  # a larger seed would leave int64
            found = trained.objective.embed(feed.encoded(index, keys, trained), Group.alone(len(index)), done)
            images.append(nn.functional.normalize(found[0].float(), dim=1))
            reports.append(nn.functional.normalize(found[1].float(), dim=1))
        scores = torch.cat(images) @ torch.cat(reports).T
        if not bool(scores.isfinite().all()):
            raise TrainingError(
                f"Vectors of held-out pairs are not finite after {100 * done:.0f} % of the budget: training has diverged, and no backbone "
                "of it is kept. Give the recipe a lower rate, or a `precision` of float32."
            )
        own = scores.diagonal()[:, None]
        below = (scores < own).sum(dim=1) + 0.5 * ((scores == own).sum(dim=1) - 1)
        shares: np.ndarray = below.double().div(len(scores) - 1).cpu().numpy()
        return shares
    finally:
        trained.train()


def optimiser_of(card: OptimiserCard, trained: nn.Module) -> torch.optim.Optimizer:
    """Two groups of parameters: those that decay, and norms, biases and scales, which do not unless the recipe says so."""
    parameters = [p for p in trained.parameters() if p.requires_grad]
    decays = [p for p in parameters if card.decays_all or p.dim() > 1]
    kept = [p for p in parameters if not (card.decays_all or p.dim() > 1)]
    groups = [{"params": decays, "weight_decay": card.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[card.name]
    return kind([one for one in groups if one["params"]], lr=card.rate, betas=card.betas)


def budget_leaves_some_out(card: PretrainingCard, n_processes: int) -> bool:
    """Whether some processes would have fewer groups of a batch than others."""
    n_groups = card.budget.batch // card.budget.group
    return n_groups > 1 and n_groups % n_processes != 0


def _groups(batch: int, size: int) -> Iterator[tuple[slice, Group]]:
    """This process's groups of a batch and their rows: shared by all processes where the batch is one group, else whole ones in turn."""
    if size == batch:
        group = Group.shared(batch)
        yield group.rows, group
        return
    for number in range(parallel.rank(), batch // size, parallel.size()):
        yield slice(number * size, (number + 1) * size), Group.alone(size)
