"""The pretraining loop against a bare one, by method: pairs per second, distance to the machine's matrix products, memory."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmark import registry
from benchmark.cards import PretrainingCard
from benchmark.encoders.words import Batch, Words
from benchmark.machine import peak_memory_bytes
from benchmark.objectives.kit.group import Group
from benchmark.pretraining import loop, pairs
from benchmark.pretraining import run as pretraining
from benchmark.pretraining.views import Views
from benchmark.study import costs
from benchmark.training.determinism import prepare_process
from tests.perf.corpus import corpus, n_cores
from tests.perf.measure import BenchResult, Measurement, Timed, alternate, report
from tests.perf.page import PRODUCT
from tests.perf.step import product_speed

SIDES = (
    "plain: a bare loop over a method's own encoders and objective: forward, losses, backward, Adam, on frames and tokens that lie in "
    "memory as the steps need them. fast: the project's loop, which draws pairs, views and sentences for every step and looks at the "
    "losses. The goal is to be near: fast / plain. Both train the same network from the same start. The peak is that of a process which "
    "does nothing but the project's side."
)
NEAR = 1.10
TOLERANCE = 1e-5
RECIPES = ("convirt-phantom", "lovt-phantom", "gloria-phantom", "prior-phantom", "g2d-phantom", "mgca-phantom")
QUICK = ("convirt-phantom",)


def run(quick: bool, folder: Path) -> BenchResult:
    started = time.monotonic()
    cores = n_cores(quick)
    prepare_process(cores)
    n_steps, repeats = (2, 1) if quick else (6, 5)
    data = corpus(folder, "mimic-cxr", 40 if quick else 120) / registry.dataset("mimic-cxr").folder
    speed = product_speed(256 if quick else 2048)
    rows = [_row(name, data, folder / "vocabulary" / name, n_steps, repeats, cores, speed) for name in (QUICK if quick else RECIPES)]
    card = _card(RECIPES[0], n_steps)
    sizes = {"steps": n_steps, "batch": card.budget.batch, "pixels": card.image.size, "repetitions": repeats, "cores": cores}
    return report("pretrain", SIDES, quick, {**sizes, PRODUCT: round(speed, 1)}, rows, started)


def _card(name: str, n_steps: int) -> PretrainingCard:
    """The recipe with a rate that stays, of so many steps."""
    card = registry.recipe(name)
    budget = card.budget.model_copy(update={"pairs": n_steps * card.budget.batch, "warm_up": 0.0, "schedule": "constant"})
    return card.model_copy(update={"budget": budget})


def _row(name: str, data: Path, folder: Path, n_steps: int, repeats: int, cores: int, speed: float) -> Measurement:
    card = _card(name, n_steps)
    loaded = pairs.load(card.pairs, data, card.image.size, 0)
    ours = partial(_ours, card, loaded[0], folder)
    bare = partial(_bare, card, loaded[0], folder)
    for side in (ours, bare):  # what the first steps load and allocate
        side(2)()
    plain, fast, losses, own = _timed(bare, ours, n_steps, repeats)
    cost = costs.measured(card, loaded, folder, threads=cores, device_type="cpu", n_places=2)
    shown = n_steps * card.budget.batch
    per_second = shown / fast.median
    flops = cost.flops_until(shown, shown) / shown
    return Measurement(
        what=f"{card.title.partition(',')[0]}: {n_steps} steps",
        plain=plain,
        fast=fast,
        goal="near",
        target=NEAR,
        compared="the loss of every step, relative",
        difference=max(abs(one / other - 1) for one, other in zip(losses, own, strict=True)),
        tolerance=TOLERANCE,
        details={
            "pairs/s": round(per_second, 1),
            "GFLOP a pair": round(flops / 1e9, 3),
            "share of the machine's matrix products, %": round(100 * flops * per_second / 1e9 / speed, 1),
            "peak of the process, MB": round(_peak_mb(card, data, folder, cores)),
        },
    )


def _timed(
    bare: Callable[[int], Callable[[], list[float]]], ours: Callable[[int], Callable[[], list[float]]], n_steps: int, repeats: int
) -> tuple[Timed, Timed, list[float], list[float]]:
    """Steps alone are timed: what a side needs before the first one is made outside the clock."""
    sides = [(bare(n_steps), ours(n_steps)) for _ in range(repeats)]
    turns = [iter([pair[k] for pair in sides]) for k in range(2)]
    return alternate(lambda: next(turns[0])(), lambda: next(turns[1])(), repeats)


def _ours(card: PretrainingCard, train: pairs.Pairs, folder: Path, n_steps: int) -> Callable[[], list[float]]:
    """The project's loop, ready to run; gives the losses."""
    trained, feed, course = _made(card, train, folder)

    def steps() -> list[float]:
        found = []
        for step in loop.train(trained, feed, course, card):
            found.append(step.loss)
            if len(found) == n_steps:
                break
        return found

    return steps


def _bare(card: PretrainingCard, train: pairs.Pairs, folder: Path, n_steps: int) -> Callable[[], list[float]]:
    """The bare loop, its frames and tokens in memory."""
    trained, feed, course = _made(card, train, folder)
    given = [_tensors(feed, course, number) for number in range(n_steps)]
    optimiser = loop.optimiser_of(card.optimiser, trained)

    def steps() -> list[float]:
        found = []
        for number, (frames, words, keys) in enumerate(given):
            torch.manual_seed(loop.draws(course.seed, number))
            optimiser.zero_grad(set_to_none=True)
            encoded = trained.towers.encode(frames, words, keys, trained.objective)
            losses = trained.objective(encoded, Group.alone(len(keys)), number / course.n_steps)
            loss = torch.stack(list(losses.values())).sum()
            loss.backward()
            if card.budget.clip is not None:
                torch.nn.utils.clip_grad_norm_(trained.parameters(), card.budget.clip)
            optimiser.step()
            trained.objective.after_step()
            found.append(float(loss.detach()))
        return found

    return steps


def _tensors(feed: loop.Feed, course: loop.Course, number: int) -> tuple[torch.Tensor, Batch, torch.Tensor]:
    index, keys = course.batch(number)
    frames = torch.from_numpy(feed.views.of(feed.pairs.frames[index], keys.tolist()))
    return frames, feed.words.batch(list(index), feed.how, keys.tolist()), torch.from_numpy(keys)


def _made(card: PretrainingCard, train: pairs.Pairs, folder: Path) -> tuple[loop.Trained, loop.Feed, loop.Course]:
    trained, reader = pretraining.untrained(card, train, 0, folder)
    views = Views(card.image.augmentation, card.image.size)
    feed = loop.Feed(train, Words(reader, train.reports), views, card.pairs.sentences, torch.device("cpu"))
    return trained.train(), feed, loop.Course(len(train), card, 0)


def _peak_mb(card: PretrainingCard, data: Path, folder: Path, cores: int) -> float:
    """Of a process of its own, which loads the pairs and takes three steps."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_here, (card, data, folder, cores))


def _peak_here(card: PretrainingCard, data: Path, folder: Path, cores: int) -> float:
    prepare_process(cores)
    train, _ = pairs.load(card.pairs, data, card.image.size, 0)
    _ours(card, train, folder, 3)()
    return peak_memory_bytes() / 2**20
