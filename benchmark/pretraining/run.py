"""One pretraining from recipe and data to a backbone that `lobe run --backbone` takes: resumed where it stopped, told as it goes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from pydantic import TypeAdapter, ValidationError

from benchmark import parallel, private, registry
from benchmark.cards.pretraining import PretrainingCard
from benchmark.encoders.text import Tokenizer
from benchmark.encoders.words import Words
from benchmark.errors import CardError, UnknownName
from benchmark.heads.base import seeded_init
from benchmark.objectives.kit.base import Objective
from benchmark.pretraining import export, loop, pairs, towers
from benchmark.pretraining.views import PIPELINES, Views, still
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
        percentile: of held-out reports at the end, mean of `loop.percentiles`.
        curve: step -> that.
        held_out: the same for each held-out image.
        was_there: nothing was trained, the backbone of this key lay there.
    """

    card: Path
    key: str
    percentile: float
    curve: dict[int, float] = field(default_factory=dict)
    held_out: export.HeldOut = field(default_factory=export.HeldOut)
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
    keeps: Sequence[int] = (),
    loaded: tuple[pairs.Pairs, pairs.Pairs] | None = None,
    cache: Path | None = None,
    tell: Telling | None = None,
) -> Pretrained:
    """Makes the backbone of a recipe, or finds it made.

    In each of several processes (`benchmark.parallel`) it trains its share of every batch; the first one writes what is left.

    Args:
        data: the dataset's folder.
        out: holds a folder for each recipe and seed; several processes see the same.
        validations: how often held-out pairs are looked at, the end included.
        keeps: pairs, in whole batches, after which the encoder is written too (`export.kept_card`) and held-out pairs are looked at. At 0,
            the start, they are looked at alone: the encoder is the untrained one. The end is written anyway.
        loaded: what `pairs.load` gives for this recipe and seed, where a caller has it.
        cache: folder of all caches, from which frames are mapped; None holds them in memory.

    Raises:
        CardError: the recipe asks its method for what it does not have.
        DataError, UsageError: of the pairs; or the folder holds a finished backbone of another key.
        TrainingError: a loss is not finite.
    """
    tell = tell or Telling()
    prepare_process(threads)
    device = required_device(device_type)
    folder = private.folder(out / f"{card.name}-{seed}")
    train, held_out = loaded or pairs.load(card.pairs, data, card.image.size, seed, tell.decoded, cache)
    key = key_of(card, train, held_out, seed, threads, device_type)
    course = loop.Course(len(train), card, seed)
    kept = {n_pairs // card.budget.batch for n_pairs in keeps} - {course.n_steps}
    made = parallel.led(lambda: export.made(folder, key))
    if made is not None and made.held_out.holds(kept, card.budget.batch):
        curve = made.held_out.curve
        made.held_out.describe(train, held_out)  # an earlier version left less; the key says that these are the pairs
        return Pretrained(made.card, key, curve[max(curve)], curve, made.held_out, was_there=True)

    parallel.led(lambda: export.require_free(folder, key))
    trained, reader = untrained(card, train, seed, folder / "tokenizer")
    trained = trained.to(device).train()
    views, blank = Views(card.image.augmentation, card.image.size), Views(still(card.image.augmentation), card.image.size)
    words, heard = (Words(reader, one.reports, card.pairs.joined, card.text.padded_to) for one in (train, held_out))
    feed = loop.Feed(train, words, views, card.pairs.sentences, device)
    validation = loop.Feed(held_out, heard, blank, "all", device)
    marks = {round((k + 1) * course.n_steps / validations) for k in range(validations)} | kept
    # A checkpoint of a call that kept less does not go back to what it passed.
    state = f"{key}-{hashlib.sha256(repr(sorted(kept)).encode()).hexdigest()[:8]}" if kept else key
    checkpoint = Checkpoint(private.folder(folder / CHECKPOINTS), state, card.optimiser.rate, checkpoint_every_s)
    found = parallel.led(lambda: export.held_out(folder, key) if checkpoint.path.is_file() else export.HeldOut())
    found.describe(train, held_out)

    def look(step: int) -> None:
        """Held-out pairs after a step, and the encoder where it is kept."""
        done = step / course.n_steps
        seen = parallel.led(partial(loop.percentiles, trained, validation, done, card.budget.batch, seed))
        found.each[step] = seen.tolist()
        if parallel.rank() > 0:
            return
        if step in kept and step:
            export.keep(folder, card, key, seed, trained, step * card.budget.batch, found, done=done)
        else:
            export.write_held_out(folder, key, found)

    if 0 in kept and 0 not in found.each:
        look(0)
    for step in loop.train(trained, feed, course, card, checkpoint):
        tell.step(step, course.n_steps)
        if step.number + 1 in marks:
            look(step.number + 1)
            tell.validated(step, found.curve[step.number + 1])
    file = parallel.led(lambda: export.write(folder, card, key, seed, trained, found))
    if parallel.rank() == 0:
        discard(checkpoint.path.parent, state)
    return Pretrained(file, key, found.curve[course.n_steps], found.curve, found)


def untrained(
    card: PretrainingCard, train: pairs.Pairs, seed: int, folder: Path, *, tells_attention: bool = False
) -> tuple[loop.Trained, Tokenizer]:
    """Towers and objective as the seed makes them, and what reads reports.

    Args:
        folder: for the tokenizer: the hub's, or a vocabulary of the reports.
        tells_attention: the text tower computes its attention as matrix products, also where the objective does not ask for it.
    """
    tokenizer = parallel.led(lambda: towers.tokenizer_of(card.text, train.reports, folder))
    module = module_of(card)
    options = options_of(card, module)
    built, reader = towers.build(card.image, card.text, tokenizer, seed, reads_attention=tells_attention or reads_attention(module))
    if card.text.hub is not None and parallel.rank() == 0:
        reader.save(folder)  # what was made is read without the hub
    objective: Objective = seeded_init(lambda: module.build(built.widths, options), seed)
    return loop.Trained(built, objective), reader


def key_of(card: PretrainingCard, train: pairs.Pairs, held_out: pairs.Pairs, seed: int, threads: int, device_type: str) -> str:
    """SHA-256 over all that decides the weights: recipe, pairs, seed, threads, device type and the version of this code.

    Processes share a batch to rounding, so that their number is in no key, but where groups are smaller than the batch: each has running
    statistics of its own there, of which the mean is kept. A name of the hub, or a folder, says nothing of what lies there: of a text
    encoder that the recipe names, its files are among it.

    Raises:
        EnvironmentProblem: that text encoder cannot be had.
    """
    recipe = card.model_dump(mode="json", exclude={"title", "source", "unverified"})
    if card.text.hub is not None and Path(card.text.hub).is_dir():
        del recipe["text"]["hub"]  # where its files lie decides nothing
    decides = {
        "recipe": recipe,
        "pairs": [train.digest, held_out.digest],
        "seed": seed,
        "threads": threads,
        "device_type": device_type,
        **({"statistics of": parallel.size()} if card.budget.group < card.budget.batch and parallel.size() > 1 else {}),
        "version": VERSION,
        "torch": torch.__version__.split("+")[0],
        **({} if card.text.hub is None else {"text": towers.digest_of(card.text.hub)}),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def require_possible(card: PretrainingCard) -> None:
    """Looks at all that a recipe asks for but its data: method, options, pipeline, and what has to be on this machine. Builds nothing.

    Raises:
        CardError: the recipe asks for what there is not, or its budget contradicts itself.
        EnvironmentProblem: the library's weights, or the text encoder of the hub, are not on this machine.
    """
    options_of(card, module_of(card))
    if card.image.augmentation not in PIPELINES:
        raise UnknownName("augmentation", card.image.augmentation, sorted(PIPELINES))
    loop.Course(card.budget.batch, card, 0)
    towers.require_here(card.image, card.text)


def module_of(card: PretrainingCard) -> ModuleType:
    """The method's module.

    Raises:
        UnknownName: there is none of that name.
    """
    known = registry.plugins("objectives")
    if card.method not in known:
        raise UnknownName("method", card.method, known)
    return registry.plugin("objectives", card.method)


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


def turns_of(card: PretrainingCard) -> tuple[float, ...]:
    """Shares of the budget, inside it, at which a stage of the recipe begins or its method trains something else."""
    module = module_of(card)
    of_method = module.turns(options_of(card, module)) if hasattr(module, "turns") else ()
    return tuple(sorted({share for share in (*(one.begins for one in card.budget.stages), *of_method) if 0 < share < 1}))


def reads_attention(module: ModuleType) -> bool:
    """Whether the method's objective asks the text tower where it looked, which has to be known before the tower is built."""
    found = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Objective) and one is not Objective]
    return any(one.reads_attention for one in found)
