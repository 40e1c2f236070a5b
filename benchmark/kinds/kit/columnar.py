"""Predictions as columns: a row per image with lists of its boxes or masks, and what maps them back to original pixels.

The header names frame, classes and split. A file may come from anywhere, so that header and columns are checked and rows are named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import json_files
from benchmark.errors import FrameMismatch, UsageError
from benchmark.kinds.kit import coco_json, heading, parquet
from benchmark.kinds.kit.heading import REAL, WHOLE, Heading, Placement
from benchmark.metrics.columns import Lists, narrow

# Columns of `Placement`. Boxes have a width and a height of their own.
PLACED = {name: f"image_{name}" if name in ("height", "width") else name for name in (*WHOLE, *REAL)}


def write(path: Path, about: Heading, columns: Mapping[str, Any]) -> None:
    """
    Args:
        columns: `Lists` of as many images as `about` has.
    """
    import pyarrow as pa

    header = {"key": about.key, "task": about.task, "frame": about.frame, "classes": json.dumps(about.classes)}
    if about.split is not None:
        header |= dict(zip(("split", "split_rule"), about.split, strict=True))
    beside: dict[str, Any] = {"id": pa.array(about.ids, pa.string())}
    if about.placement is not None:
        beside |= {PLACED[name]: narrow(getattr(about.placement, name)) for name in WHOLE}
        beside |= {PLACED[name]: getattr(about.placement, name) for name in REAL}
    parquet.save(path, {**beside, **columns}, header)


@dataclass(frozen=True)
class Predictions:
    """A file of predictions, its columns yet to be read.

    Attributes:
        frame: in which they were measured.
        own_classes: names in the file's order.
        places: class number of each of them.
    """

    file: parquet.Opened
    frame: str
    own_classes: tuple[str, ...]
    places: tuple[int, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return self.file.ids

    @cached_property
    def heading(self) -> Heading:
        """Raises UsageError where columns that place the images make no sense."""
        placement = None
        if set(PLACED.values()) <= set(self.file.names):
            placed = {name: self.file.values(column) for name, column in PLACED.items()}
            if any(placed[name].dtype != np.int64 for name in WHOLE):
                raise UsageError(f"{self.file.path}: sizes and paddings of its images are no whole numbers.")
            placement = Placement(**{name: values if name in WHOLE else values.astype(np.float64) for name, values in placed.items()})
        given = self.file.header
        split = parquet.split_in(given)
        return Heading(given.get("key", ""), given.get("task", ""), self.frame, split, self.own_classes, self.ids, placement)

    def lists(self, names: Sequence[str], images: Sequence[int] | None = None) -> dict[str, Lists]:
        """Columns of one shape: each image has as many values of one as of the others.

        Raises:
            UsageError: it has not; the row is named.
        """
        found = {name: self.file.numbers(name, images) for name in names}
        first = names[0]
        for name in names[1:]:
            unequal = np.flatnonzero(found[name].counts != found[first].counts)
            if len(unequal):
                row = int(unequal[0])
                where = self.file.named(row if images is None else images[row])
                raise UsageError(
                    f"{self.file.path}, {where}: {found[first].counts[row]:,} values of {first} and {found[name].counts[row]:,} of {name}."
                )
        return found

    def codes(self, column: str, images: Sequence[int] | None = None) -> dict[tuple[int, int], tuple[bytes, str]]:
        """By place of the image and class number: a run-length code, and where it stands.

        Raises:
            UsageError: an image has more or fewer of them than there are classes; the row is named.
        """
        found = {}
        for row, each in zip(range(len(self.ids)) if images is None else images, self.file.codes(column, images), strict=True):
            where = f"{self.file.path}, {self.file.named(row)}"
            if len(each) != len(self.places):
                raise UsageError(f"{where}: {len(each):,} run-length codes for {len(self.places)} classes. Every class has one.")
            for label, name, code in zip(self.places, self.own_classes, each, strict=True):
                found[row, label] = code, f"{where}, class {name}"
        return found

    def require(self, good: np.ndarray, values: Lists, what: str, expected: str, images: Sequence[int] | None = None) -> None:
        """Raises UsageError that names the row of the first of the values that are not good."""
        if not good.all():
            place = int(np.flatnonzero(~good)[0])
            row = int(np.searchsorted(np.cumsum(values.counts), place, side="right"))
            where = self.file.named(row if images is None else images[row])
            raise UsageError(f"{self.file.path}, {where}: its {what} holds {values.values[place]!s}, expected {expected}.")


@contextmanager
def opened(path: Path, classes: Sequence[str] | None = None) -> Iterator[Predictions]:
    """A file of predictions.

    Args:
        classes: names that the file's must be, in any order; None takes the file's.

    Raises:
        UsageError: not such a file, or other classes.
        FrameMismatch: it does not say in which frame it was measured.
    """
    with parquet.opened(path) as file:
        if "frame" not in file.header:
            raise FrameMismatch(f'{path} does not say in which frame it was measured: its header needs `frame`, such as "padded-224".')
        own = _classes(path, file.header)
        yield Predictions(file, file.header["frame"], own, tuple(heading.class_places(path, own, classes, "classes")))


def heading_of(path: Path) -> Heading:
    """What a file in either form says beside its boxes or masks; raises as `opened`."""
    if not is_one(path):
        return coco_json.heading_in(path, coco_json.load(path))
    with opened(path) as given:
        return given.heading


def made_for(path: Path) -> tuple[str, str] | None:
    """Name and rule of the split, of a file in either form; None where it does not say.

    Raises:
        UsageError: not a file of predictions.
        FrameMismatch: boxes or masks without their frame.
    """
    if not is_one(path):
        return coco_json.made_for(path)
    with opened(path) as found:
        return parquet.split_in(found.file.header)


def names_in(path: Path) -> set[str]:
    """Texts that may name images, of a file in either form; raises as the `names_in` of that form."""
    return parquet.names_in(path) if parquet.is_one(path) else coco_json.names_in(path)


def is_one(path: Path) -> bool:
    """Whether predictions are in columns and not JSON. Raises UsageError for a file that cannot be opened."""
    try:
        return parquet.is_one(path)
    except OSError as error:
        raise UsageError(f"Cannot read the predictions {path}: {error}.") from None


def _classes(path: Path, header: Mapping[str, str]) -> tuple[str, ...]:
    try:
        found = json_files.parse(header["classes"], list)
    except (KeyError, ValueError):
        found = None
    if found is None or not all(isinstance(name, str) for name in found) or len(set(found)) != len(found):
        raise UsageError(f'{path}: its header needs `classes`, a list of different names in JSON, such as ["mass", "nodule"].')
    return tuple(found)
