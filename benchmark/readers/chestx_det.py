"""ChestX-Det: thirteen findings on re-labelled NIH radiographs, each with a box and a polygon; official training and test files.

The two JSON files hold one entry per image, with lists of findings, boxes and polygons of equal length. Images carry new numbers, so their
NIH patients are not known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError
from benchmark.readers.base import Check
from benchmark.readers.kit.boxed import BoxedReader
from benchmark.readers.kit.boxes import xywh_of
from benchmark.readers.kit.checks import first_sample_check, release_checks, split_checks, tolerated
from benchmark.readers.kit.splits import Splits
from benchmark.readers.kit.tables import class_index, locate, released
from benchmark.readers.kit.text import read_json
from benchmark.readers.kit.walk import find_files

FILES = {"train": "ChestX_Det_train.json", "test": "ChestX_Det_test.json"}
SIDE = 1024  # rows and columns of every image; boxes and polygons are in these pixels
FIELDS = ("file_name", "syms", "boxes", "polygons")
# The released polygons end at most 9 pixels from their box (all 9,639 compared); x and y exchanged are further off.
MOST_APART = 16

_NAME = re.compile(r"[0-9]+\.png")


@dataclass(frozen=True)
class Annotated:
    """One image of a JSON file.

    Attributes:
        xyxy: (n, 4) int64, left, top, right and bottom in pixels.
        labels: (n,) int64, index into the card's classes.
        polygons: n arrays (k, 2) int32 of x and y.
    """

    subset: str
    xyxy: np.ndarray
    labels: np.ndarray
    polygons: tuple[np.ndarray, ...]


class DatasetReader(BoxedReader):
    """Images of both files; an id is a file name. Patients are not known."""

    side, drawn = SIDE, "boxes and polygons"

    def open(self) -> None:
        self._base = base = self.folder_with(FILES["train"])
        self._annotated: dict[str, Annotated] = {}
        self.tables = tuple(map(self._read, FILES))
        self.subset = {i: one.subset for i, one in self._annotated.items()}
        self.boxes = {i: (xywh_of(one.xyxy.astype(np.float64)), one.labels) for i, one in self._annotated.items()}
        found = {f"{stem}.png": paths for stem, paths in find_files(base, ".png").items()}
        self.images = locate(self._annotated, found, self.card.name, " and ".join(FILES.values()))
        self.release = "training and test file with polygons"

    def checks(self) -> Iterable[Check]:
        yield from release_checks(self, self._counts(), "The file was edited or cut; fetch it again from the source in the card.")
        yield from split_checks(self, self.n_boxes, self.is_positive, split=self._split_with_whole_training)
        yield tolerated(self.card, "boxes that repeat another of their image", sum(map(_n_repeated, self._annotated.values())))
        yield first_sample_check(self)

    # ------------------------------------------------------------------------------------------------------------ reading

    def _read(self, subset: str) -> Path:
        path = released(self._base, FILES[subset], self.card.name)
        try:
            entries = read_json(path, self.card.name, list)
        except ValueError as error:
            raise DataError(f"{self.card.name}: {path.name} is no readable JSON ({error}). Fetch the file again.") from None
        if not entries:
            raise DataError(f"{self.card.name}: {path.name} holds no images. Fetch the file again.")
        for number, entry in enumerate(entries, start=1):
            where = f"{self.card.name}: {path.name} entry {number:,}"
            if not isinstance(entry, dict) or set(entry) != set(FIELDS):
                found = ", ".join(entry) if isinstance(entry, dict) else type(entry).__name__
                raise DataError(f"{where}: {found}; expected {', '.join(FIELDS)}. (ChestX-Det10 has no polygons and is another release.)")
            name = entry["file_name"]
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise DataError(f"{where}: {name!r} is no file name such as 36200.png.")
            if name in self._annotated:
                raise DataError(f"{where}: {name} is listed a second time, first in {FILES[self._annotated[name].subset]}.")
            self._annotated[name] = self._parse(subset, entry, f"{where} ({name})")
        return path

    def _parse(self, subset: str, entry: dict[str, Any], where: str) -> Annotated:
        names, boxes, polygons = (entry[field] for field in FIELDS[1:])
        if not all(isinstance(listed, list) for listed in (names, boxes, polygons)) or not len(names) == len(boxes) == len(polygons):
            raise DataError(f"{where}: syms, boxes and polygons are not three lists of one length.")
        labels = [class_index(name, self.card.classes, where, "finding") for name in names]
        corners = [_corners(box, f"{where}, box {k}") for k, box in enumerate(boxes, start=1)]
        outlines = [
            _outline(points, box, f"{where}, polygon {k}") for k, (points, box) in enumerate(zip(polygons, corners, strict=True), start=1)
        ]
        xyxy = np.array(corners, dtype=np.int64).reshape(-1, 4)
        return Annotated(subset, xyxy, np.array(labels, dtype=np.int64), tuple(outlines))

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(C, H, W) bool: filled polygons, their outline included, united by class."""
        self.require_frame(sample_id, shape)
        one = self._annotated[sample_id]
        masks = np.zeros((len(self.card.classes), *shape), dtype=np.uint8)
        for label, points in zip(one.labels, one.polygons, strict=True):
            cv2.fillPoly(masks[label], [points], 1)
        return masks.astype(bool)

    def _split_with_whole_training(self, rule: SplitRule) -> Splits:
        return {"official_train": self.ids_of("train"), **self.split(rule)}

    def _counts(self) -> dict[str, int]:
        counts = {"images": len(self._annotated)}
        for subset in FILES:
            counts |= self.counts_of(subset)
        per_class = Counter(int(label) for one in self._annotated.values() if one.subset == "train" for label in one.labels)
        counts |= {f"train_{name.lower().replace(' ', '_')}": per_class[k] for k, name in enumerate(self.card.classes)}
        return counts


def _corners(box: Any, where: str) -> tuple[int, ...]:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_whole(value) for value in box):
        raise DataError(f"{where}: {box} are not four whole numbers left, top, right, bottom.")
    left, top, right, bottom = box
    if not (0 <= left < right <= SIDE and 0 <= top < bottom <= SIDE):
        raise DataError(
            f"{where}: {box} are not 0 <= left < right <= {SIDE} and 0 <= top < bottom <= {SIDE}. The original release has no such box."
        )
    return left, top, right, bottom


def _outline(points: Any, box: tuple[int, ...], where: str) -> np.ndarray:
    """(k, 2) int32; raises DataError for what is no polygon, or one that lies elsewhere than its box."""
    pairs = isinstance(points, list) and all(isinstance(p, list) and len(p) == 2 and all(map(_is_whole, p)) for p in points)
    if not pairs or len(points) < 3:
        raise DataError(f"{where}: not a list of at least three pairs of whole numbers x, y.")
    outline = np.array(points, dtype=np.int32)
    extent = (*outline.min(axis=0).tolist(), *outline.max(axis=0).tolist())
    if max(abs(edge - side) for edge, side in zip(extent, box, strict=True)) > MOST_APART:
        raise DataError(
            f"{where}: it reaches from x {extent[0]} to {extent[2]} and y {extent[1]} to {extent[3]}, and its box is {list(box)}. "
            "In the original release they agree: is this an edited copy, or are x and y exchanged?"
        )
    return outline


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _n_repeated(one: Annotated) -> int:
    return len(one.labels) - len({(int(label), *box) for label, box in zip(one.labels, one.xyxy.tolist(), strict=True)})
