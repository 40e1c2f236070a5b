"""What a pair costs a method: floating-point operations as torch counts them, and seconds on this machine, at places along the budget.

Methods add losses as they go, so one number would not do. Both are measured on steps of the real training, forward and backward.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark import json_files, private
from benchmark.cards import PretrainingCard, digest_of

FILE = "costs.json"
N_PLACES = 8  # along the budget
SAME = 0.05  # steps whose operations differ by less take the same time
VERSION = 1  # of how costs are measured


@dataclass(frozen=True)
class Cost:
    """
    Attributes:
        flops: (N,) operations of a pair in the N-th part of the budget, parts of equal length; a product and its sum are two.
        seconds: the same, on the machine that measured it.
    """

    flops: tuple[float, ...]
    seconds: tuple[float, ...]

    def flops_until(self, pairs: float, of: int) -> float:
        """Operations of the first pairs of a budget of `of` pairs."""
        return _until(self.flops, pairs, of)

    def seconds_until(self, pairs: float, of: int) -> float:
        return _until(self.seconds, pairs, of)

    def pairs_for(self, flops: float, of: int) -> float:
        """Pairs of a budget of `of` after which so many operations are done; `of` where it never gets there."""
        part, done = of / len(self.flops), 0.0
        for number, each in enumerate(self.flops):
            if done + each * part >= flops:
                return number * part + (flops - done) / each
            done += each * part
        return float(of)


def address(card: PretrainingCard, threads: int, device_type: str) -> str:
    """Of what a cost depends on; the number of pairs to show is not among it."""
    shown = card.model_dump(mode="json", exclude={"title", "name"})
    shown["budget"].pop("pairs")
    return digest_of([shown, threads, device_type, VERSION])[:16]


def known(out: Path) -> dict[str, Cost]:
    """Measured costs by address; a file that cannot be read holds none."""
    try:
        content = json_files.read(out / FILE)
        return {name: Cost(tuple(map(float, one["flops"])), tuple(map(float, one["seconds"]))) for name, one in content.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def remember(out: Path, costs: Mapping[str, Cost]) -> None:
    private.root(out)
    temporary = out / f".{FILE}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps({name: asdict(one) for name, one in costs.items()}), encoding="utf-8")
    temporary.replace(out / FILE)


def equal_compute(recipes: Sequence[PretrainingCard], costs: Mapping[str, Cost]) -> dict[str, int]:
    """Recipe -> pairs, in whole batches, after which it has cost what the cheapest costs in all.

    Args:
        costs: by the recipe's name.
    """
    ends = {card.name: -(-card.budget.pairs // card.budget.batch) * card.budget.batch for card in recipes}
    cheapest = min(costs[card.name].flops_until(ends[card.name], ends[card.name]) for card in recipes)
    found = {}
    for card in recipes:
        batch, end = card.budget.batch, ends[card.name]
        steps = round(costs[card.name].pairs_for(cheapest, end) / batch)
        found[card.name] = min(max(steps, 1) * batch, end)
    return found


def measured(card: PretrainingCard, loaded, folder: Path, *, threads: int, device_type: str, n_places: int = N_PLACES) -> Cost:
    """Steps of the recipe on its own pairs: a counted one at each place, and a timed one where the count has changed.

    Args:
        loaded: pairs to train on and to validate on, as `benchmark.pretraining.pairs.load` gives them.
        folder: for a vocabulary.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from benchmark.encoders.words import Words
    from benchmark.objectives.kit.group import Group
    from benchmark.pretraining import loop, run
    from benchmark.pretraining.views import Views
    from benchmark.training.determinism import prepare_process, required_device

    prepare_process(threads)
    device = required_device(device_type)
    train = loaded[0]
    course = loop.Course(len(train), card, 0)
    # Fused attention is no product that the counter knows of: it counts the same network with its attention written out.
    trained, reader = run.untrained(card, train, 0, folder, tells_attention=True)
    trained = trained.to(device).train()
    words = Words(reader, train.reports, card.pairs.joined, card.text.padded_to)
    feed = loop.Feed(train, words, Views(card.image.augmentation, card.image.size), card.pairs.sentences, device)
    group = card.budget.group

    def step(number: int, done: float) -> None:
        index, keys = course.batch(number)
        trained.zero_grad(set_to_none=True)
        dtype = loop.DTYPES[card.budget.precision]
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            encoded = feed.encoded(index[:group], keys[:group], trained)
            losses = trained.objective(encoded, Group.alone(group), done)
        torch.stack(list(losses.values())).sum().backward()

    flops: list[float] = []
    seconds: list[float] = []
    step(0, 0.5 / n_places)  # the first one makes what later ones find
    for place in range(n_places):
        done = (place + 0.5) / n_places
        with FlopCounterMode(display=False) as counter:
            step(place, done)
        flops.append(counter.get_total_flops() / group)
        if flops[:-1] and abs(flops[-1] / flops[-2] - 1) < SAME:
            seconds.append(seconds[-1])
            continue
        began = time.perf_counter()
        step(place, done)
        if device.type == "cuda":  # pragma: no cover: needs CUDA
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - began) / group)
    return Cost(tuple(flops), tuple(seconds))


def _until(each: Sequence[float], pairs: float, of: int) -> float:
    part = of / len(each)
    return sum(one * min(max(pairs - number * part, 0.0), part) for number, one in enumerate(each))
