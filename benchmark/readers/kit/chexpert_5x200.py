"""The three published versions of CheXpert 5x200, each by its rule: 200 frontal training images of one finding alone, for five findings.

They are different sets under one name (32 images in common between MGCA's and PRIOR's), so a score always says which one it used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmark.errors import DataError, SplitError
from benchmark.readers.kit.text import read_json

CLASSES = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
# What must be plainly absent as well. "No Finding" is not asked.
OTHERS = (
    "Enlarged Cardiomediastinum",
    "Lung Lesion",
    "Lung Opacity",
    "Pneumonia",
    "Pneumothorax",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
PER_CLASS = 200
GLORIA_SEED = 6  # GLoRIA seeds NumPy with it when the package is imported, just before its unseeded draw
BLANK = 2  # as `chexpert` reads an empty cell


class TrainRow(Protocol):
    """What the rules need of a row of train.csv (`chexpert.Study`)."""

    @property
    def path(self) -> str: ...
    @property
    def frontal(self) -> bool: ...
    @property
    def values(self) -> Mapping[str, int]: ...


def candidates(rows: Sequence[TrainRow], name: str) -> list[str]:
    """Frontal images with this finding certain and everything else certainly absent or not mentioned, in file order."""
    absent = (*(c for c in CLASSES if c != name), *OTHERS)
    return [r.path for r in rows if r.frontal and r.values[name] == 1 and all(r.values[other] in (0, BLANK) for other in absent)]


def mgca_set(rows: Sequence[TrainRow], per_class: int = PER_CLASS) -> tuple[str, ...]:
    """MGCA's: each class drawn with random_state 0; 1,000 paths in class order.

    Raises:
        SplitError: a class has too few candidates.
    """
    return _drawn(rows, [np.random.RandomState(0) for _ in CLASSES], per_class)


def gloria_set(rows: Sequence[TrainRow], per_class: int = PER_CLASS) -> tuple[str, ...]:
    """GLoRIA's rule with the draw of a fresh process: all classes from one generator seeded with 6. Its own list was never released."""
    return _drawn(rows, [np.random.RandomState(GLORIA_SEED)] * len(CLASSES), per_class)


def prior_set(path: Path, per_class: int | None = PER_CLASS) -> dict[str, int]:
    """PRIOR's released list: path -> class, in file order. Its rule looks at the five findings only, with uncertain ones decided first.

    Args:
        per_class: images each class must have; None for a generated corpus, whose classes only need to be equally large.

    Raises:
        DataError: not that file, or one that is cut off.
    """
    try:
        content = read_json(path, "CheXpert 5x200", dict)
        found = {entry["image_path"]: entry["label"].index(1) for entry in content.values()}
        whole = all(sorted(entry["label"]) == [0, 0, 0, 0, 1] for entry in content.values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{path.name} is not PRIOR's chexpert_5x200.json ({type(error).__name__}). Is the file cut off?") from None
    counts = np.bincount(list(found.values()), minlength=len(CLASSES)).tolist()
    wanted = per_class or counts[0]
    if not whole or counts != [wanted] * len(CLASSES):
        raise DataError(f"{path.name} has {counts} images of the five classes, expected {wanted} each. Is the file cut off?")
    return found


def fewest_candidates(rows: Sequence[TrainRow]) -> int:
    """How many images a class has at least: what a smaller corpus can give."""
    return min(len(candidates(rows, name)) for name in CLASSES)


def interleaved(paths: Sequence[str]) -> tuple[str, ...]:
    """The same images with classes taking turns, so that the first of them hold every class."""
    per_class = len(paths) // len(CLASSES)
    return tuple(paths[label * per_class + k] for k in range(per_class) for label in range(len(CLASSES)))


def _drawn(rows: Sequence[TrainRow], generators: Sequence[np.random.RandomState], per_class: int) -> tuple[str, ...]:
    drawn: list[str] = []
    for name, generator in zip(CLASSES, generators, strict=True):
        found = candidates(rows, name)
        if len(found) < per_class:
            raise SplitError(f"CheXpert 5x200: {len(found)} images have {name} alone, {per_class} are needed. Is train.csv complete?")
        # pandas' sample(n) is the head of a permutation.
        drawn += [found[i] for i in generator.permutation(len(found))[:per_class]]
    return tuple(drawn)
