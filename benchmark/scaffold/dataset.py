"""`lobe new dataset`: cards for a folder of one's own data, with what was guessed and what was not, and its measured statistics.

Two files are written, the dataset's card and the cards of tasks that its labels allow; nothing in the data folder is touched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from benchmark import registry
from benchmark.cards import DatasetCard
from benchmark.cards.own_split import OWN_SPLIT
from benchmark.errors import LobeError, UsageError
from benchmark.files import write_atomically, writing
from benchmark.imaging.equalise import equalise
from benchmark.readers.base import Reader, open_reader
from benchmark.scaffold.card_text import dataset_text, tasks_text
from benchmark.scaffold.guess import guess
from benchmark.scaffold.guessed import Guess, renamed
from benchmark.scaffold.survey import survey

MOST_MEASURED = 500  # training images


@dataclass(frozen=True)
class Measured:
    """Training images after histogram equalisation, on the [0, 1] scale.

    Attributes:
        n_images: that were decoded, the first of the training split.
        n_train: in it.
        wide: whether one has more than 8 bits.
    """

    mean: float
    std: float
    n_images: int
    n_train: int
    wide: bool


@dataclass(frozen=True)
class Written:
    """
    Attributes:
        data: folder to name with `--data`.
        guessed: what was guessed and from what, one sentence each.
        unknown: what nothing told.
        problem: why the card cannot be used as it is; empty where it can.
        tasks: their names, the quickest first.
    """

    card: DatasetCard
    files: tuple[Path, ...]
    data: Path
    guessed: tuple[str, ...]
    unknown: tuple[str, ...]
    problem: str
    tasks: tuple[str, ...]


def new_dataset(folder: Path, out: Path, name: str | None = None, classes: Sequence[str] = ()) -> Written:
    """Looks at a folder and writes `datasets/NAME.yaml` and `tasks/NAME.yaml` below `out`.

    Args:
        name: of the dataset; None makes one of the folder's name.
        classes: names in place of those that were guessed, in their order; empty keeps them.

    Raises:
        UsageError: nothing in the folder is understood, the name is taken or none, or a file is there already.
    """
    place = Path(os.path.abspath(folder))  # a link keeps its own name
    name = _usable_name(name, place)
    files = tuple(out / section / f"{name}.yaml" for section in ("datasets", "tasks"))
    for file in files:
        if file.exists():
            raise UsageError(f"{file} exists already: remove it, or give another --name.")
    made = renamed(guess(survey(place)), classes)
    card = _card(name, place.name, made)
    measured, problem = _measured(card, place)
    tasks, of_tasks = tasks_text(card, measured)
    for file, text in zip(files, (dataset_text(card, made, measured, problem), of_tasks), strict=True):
        with writing(file, "Name another folder with --out."):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, text.encode())
    guessed = tuple(f"{key}: {_shown(key, made)} ({reason})" for key, reason in made.reasons.items())
    return Written(card, files, place.parent, guessed, made.unknown, problem, tasks)


def _usable_name(given: str | None, place: Path) -> str:
    name = given if given is not None else re.sub(r"[^a-z0-9]+", "-", place.name.lower()).strip("-") or "own-data"
    taken = {*registry.datasets(), *registry.suites(), *registry.collections()}
    if given is None and name in taken:
        name = f"{name}-own"
    if name in taken:
        raise UsageError(f"There is a dataset or a suite {name!r} already: give another --name.")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise UsageError(f"{name!r} is no name of a dataset: small letters, digits and single dashes between them.")
    return name


def _card(name: str, folder: str, made: Guess) -> DatasetCard:
    content: dict[str, Any] = {"name": name, "folder": folder, "classes": made.classes, made.block: made.given, "split": made.split}
    try:
        return DatasetCard.model_validate(content)
    except ValidationError as error:  # a guess that cannot be: of strange names, for one
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UsageError(f"{folder}: its card would not be valid ({wrong}). Write one by hand: docs/your-data.md.") from None


def _measured(card: DatasetCard, place: Path) -> tuple[Measured | None, str]:
    """What the training images say; and what keeps the card from being used, if anything does."""
    try:
        reader = open_reader(card, place)
        train = reader.split(card.splits[OWN_SPLIT])["train"]
        return measure(reader, train), ""
    except LobeError as error:
        return None, str(error)


def measure(reader: Reader, train: Sequence[str]) -> Measured | None:
    """Mean and deviation over pixels of the first training images that can be read; None where none can."""
    n_images = n_pixels = 0
    total = squares = 0.0
    wide = False
    for sample_id in train[:MOST_MEASURED]:
        try:
            pixels = reader.sample(sample_id).image()
        except LobeError:  # `lobe data verify` names them
            continue
        values = equalise(pixels).astype(np.float64) / 255
        wide |= pixels.dtype != np.uint8
        n_images, n_pixels = n_images + 1, n_pixels + values.size
        total, squares = total + float(values.sum()), squares + float((values**2).sum())
    if not n_pixels:
        return None
    mean = total / n_pixels
    return Measured(mean, float(np.sqrt(max(squares / n_pixels - mean**2, 1e-12))), n_images, len(train), wide)


def _shown(key: str, made: Guess) -> str:
    if key == "classes":
        return ", ".join(made.classes)
    value = made.split if key == "split" else made.given.get(key)
    return ", ".join(f"{name} {said}" for name, said in value.items()) if isinstance(value, dict) else f"{value}"
