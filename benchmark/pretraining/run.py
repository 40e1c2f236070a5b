"""One pretraining from recipe and data to a backbone that `lobe run --backbone` takes: resumed where it stopped, told as it goes."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from pydantic import TypeAdapter, ValidationError

from benchmark import parallel, private
from benchmark.cards.pretraining import PretrainingCard
from benchmark.errors import CardError, UnknownName
from benchmark.heads.base import seeded_init
from benchmark.pretraining import export, loop, pairs, towers
from benchmark.pretraining.objectives.base import Objective
from benchmark.pretraining.views import Views
from benchmark.pretraining.words import Words
from benchmark.training.checkpoint import Checkpoint, discard
from benchmark.training.determinism import prepare_process, required_device

VERSION = 2  # of what this package computes; a change of digits raises it
CHECKPOINTS = "checkpoints"


@dataclass
class Telling:
    """Whom to tell: of images decoded, of every step, and of what validation found."""

    decoded: Callable[[int, int], None] = lambda done, of: None
    step: Callable[[loop.Step, int], None] = lambda step, n_steps: None
    validated: Callable[[loop.Step, float], None] = lambda step, percentile: None


@dataclass(frozen=True)
class Pretrained:
    """
    Attributes:
        card: file of the backbone's card, for `lobe run --backbone`.
        key: digest of recipe, pairs, seed and code version.
        percentile: of held-out reports at the end (`loop.percentile`).
        curve: step -> that.
        was_there: nothing was trained, the backbone of this key lay there.
    """

    card: Path
    key: str
    percentile: float
    curve: dict[int, float] = field(default_factory=dict)
    was_there: bool = False


def pretrain(
    card: PretrainingCard,
    data: Path,
    out: Path,
    seed: int = 0,
    *,
    threads: int = 1,
    device_type: str = "cpu",
    validations: int = 4,
    checkpoint_every_s: float = 300.0,
    tell: Telling | None = None,
) -> Pretrained:
    """Makes the backbone of a recipe, or finds it made.

    In each of several processes (`benchmark.parallel`) it trains its share of every batch; the first one writes what is left.

    Args:
        data: the dataset's folder.
        out: holds a folder for each recipe and seed; several processes see the same.
        validations: how often held-out pairs are looked at, the end included.

    Raises:
        CardError: the recipe asks its method for what it does not have.
        DataError, UsageError: of the pairs.
        TrainingError: a loss is not finite.
    """
    tell = tell or Telling()
    prepare_process(threads)
    device = required_device(device_type)
    folder = private.folder(out / f"{card.name}-{seed}")
    train, held_out = pairs.load(card.pairs, data, card.image.size, seed, tell.decoded)
    key = key_of(card, train, held_out, seed, threads, device_type)
    if (made := parallel.led(lambda: export.made(folder, key))) is not None:
        return Pretrained(made.card, key, made.percentile, made.curve, was_there=True)

    tokenizer = parallel.led(lambda: towers.tokenizer_of(card.text, train.reports, folder / "tokenizer"))
    module = module_of(card)
    options = options_of(card, module)
    built, reader = towers.build(card.image, card.text, tokenizer, seed, reads_attention=reads_attention(module))
    objective: Objective = seeded_init(lambda: module.build(built.widths, options), seed)
    trained = loop.Trained(built, objective).to(device).train()
    views, blank = Views(card.image.augmentation, card.image.size), Views("none", card.image.size)
    feed = loop.Feed(train, Words(reader, train.reports), views, card.pairs.sentences, device)
    validation = loop.Feed(held_out, Words(reader, held_out.reports), blank, "all", device)
    course = loop.Course(len(train), card, seed)
    marks = {round((k + 1) * course.n_steps / validations) for k in range(validations)}
    checkpoint = Checkpoint(private.folder(folder / CHECKPOINTS), key, card.optimiser.rate, checkpoint_every_s)
    curve = export.curve(folder, key)
    for step in loop.train(trained, feed, course, card, checkpoint):
        tell.step(step, course.n_steps)
        if step.number + 1 in marks:
            share = (step.number + 1) / course.n_steps
            found = parallel.led(partial(loop.percentile, trained, validation, share, card.budget.batch, seed))
            curve[step.number + 1] = found
            if parallel.rank() == 0:
                export.write_curve(folder, key, curve)
            tell.validated(step, found)
    file = parallel.led(lambda: export.write(folder, card, key, seed, trained, curve))
    if parallel.rank() == 0:
        discard(checkpoint.path.parent, key)
    return Pretrained(file, key, curve[course.n_steps], curve)


def key_of(card: PretrainingCard, train: pairs.Pairs, held_out: pairs.Pairs, seed: int, threads: int, device_type: str) -> str:
    """SHA-256 over all that decides the weights: recipe, pairs, seed, threads, device type and the version of this code."""
    decides = {
        "recipe": card.model_dump(mode="json", exclude={"title"}),
        "pairs": [train.digest, held_out.digest],
        "seed": seed,
        "threads": threads,
        "device_type": device_type,
        "version": VERSION,
        "torch": torch.__version__.split("+")[0],
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def module_of(card: PretrainingCard) -> ModuleType:
    """The method's module.

    Raises:
        UnknownName: there is none of that name.
    """
    found = importlib.import_module("benchmark.pretraining.objectives")
    known = sorted(one.name for one in pkgutil.iter_modules(found.__path__) if one.name != "base")
    if card.method not in known:
        raise UnknownName("method", card.method, known)
    return importlib.import_module(f"{found.__name__}.{card.method}")


def options_of(card: PretrainingCard, module: ModuleType) -> object:
    """The method's options as the recipe has them.

    Raises:
        CardError: an option that the method does not have, or a value that it cannot take.
    """
    known = tuple(module.Options.__dataclass_fields__)
    if unknown := [name for name in card.objective if name not in known]:
        raise CardError(f"Recipe {card.name}: objective `{unknown[0]}`: no such option. Method {card.method} has: {', '.join(known)}.")
    try:
        return TypeAdapter(module.Options).validate_python(card.objective)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "objective"
        raise CardError(f"Recipe {card.name}: objective `{where}`: {first['msg']}.") from None


def reads_attention(module: ModuleType) -> bool:
    """Whether the method's objective asks the text tower where it looked, which has to be known before the tower is built."""
    found = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Objective) and one is not Objective]
    return any(one.reads_attention for one in found)
