"""Boxes and outlines of one's own data: which are usable, what is odd about the others, and masks made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from pycocotools import mask as coco_mask

from benchmark.cards.own_data import OwnData
from benchmark.errors import DataError
from benchmark.imaging.coco_rle import decode
from benchmark.readers.base import Sample
from benchmark.readers.kit.boxed import boxes_of
from benchmark.readers.kit.boxes import box_masks
from benchmark.readers.kit.own import OwnReader

BOX_ODDITIES = ("annotations twice", "boxes without area", "boxes with their centre outside the image", "boxes that leave the image")
ROUNDED = 0.5  # pixels by which a box may leave its image without being told: tools round
FRACTIONS_END = 2  # fractions end at 1, and at 2 where corners are taken for widths and heights
FAR = 2  # sides of an image by which an outline may leave it; drawing one takes memory by its length

Outline = tuple[tuple[float, ...], ...] | Mapping[str, object]
"""Polygons, each x, y, x, y, ... in pixels; or a run-length code as COCO writes it."""
Block = TypeVar("Block", bound=OwnData)


@dataclass(frozen=True)
class Drawn:
    """One annotation.

    Attributes:
        label: index into the card's classes.
        box_xywh: in pixels.
        outline: None where there is only the box.
        is_box: False for crowds, which are part of masks alone.
        place: file and line, entry or number.
    """

    label: int
    box_xywh: tuple[float, float, float, float]
    place: str
    outline: Outline | None = None
    is_box: bool = True


class DrawnReader(OwnReader[Block]):
    """Base of readers whose images have boxes, outlines, or both.

    Attributes:
        drawn_in: id -> its usable annotations, in the order of the file.
    """

    masked = True
    drawn_in: dict[str, list[Drawn]]

    def keep(self, place: str, size: tuple[int, int], one: Drawn) -> None:
        """Adds a usable annotation to an image; what is odd about it goes into `odd`.

        Args:
            size: (height, width) of the image in pixels.
        """
        problem, usable = fault_of(one.box_xywh, size)
        if problem:
            self.odd.add(problem, one.place)
        if not usable:
            return
        listed = self.drawn_in.setdefault(place, [])
        if any((other.label, other.box_xywh, other.outline) == (one.label, one.box_xywh, one.outline) for other in listed):
            self.odd.add("annotations twice", one.place)
            return
        listed.append(one)

    def require_pixels(self, places: Iterable[str], file: str, mend: str) -> None:
        """Refuses boxes that all end within two pixels of the image's corner, whatever four numbers they are: such are fractions.

        So are outlines, where masks are made of them: tools write boxes and outlines by code of their own.

        Args:
            places: images that one file lists. Another file may be in other units.
            file: its name, for sentences.
            mend: a sentence that says what to do.

        Raises:
            DataError: they do.
        """
        drawn = [one for place in places for one in self.drawn_in.get(place, ())]
        ends = {"boxes": [max(left + width, top + height) for left, top, width, height in (one.box_xywh for one in drawn)]}
        if self.own.mask_source == "masks":
            ends["outlines"] = [max(map(max, one.outline)) for one in drawn if isinstance(one.outline, tuple)]
        for what, listed in ends.items():
            if listed and max(listed) <= FRACTIONS_END:
                raise DataError(
                    f"{self.card.name}: all {len(listed):,} {what} of {file} end within {FRACTIONS_END} pixels of the image's upper left "
                    f"corner. These are fractions of its width and height, read as pixels. {mend}"
                )

    def sample(self, sample_id: str) -> Sample:
        sample = super().sample(sample_id)
        boxes, labels = boxes_of([(one.label, one.box_xywh) for one in self.drawn_in.get(sample_id, ()) if one.is_box])
        return replace(sample, boxes_xywh=boxes, box_labels=labels)

    def is_positive(self, sample_id: str) -> bool:
        return bool(self.drawn_in.get(sample_id))

    def kinds_shown(self, sample_id: str) -> list[str]:
        return [self.card.classes[one.label] for one in self.drawn_in.get(sample_id, ())]

    def counts(self) -> dict[str, int]:
        boxes = [sum(one.is_box for one in self.drawn_in.get(i, ())) for i in self.images]
        return {"positives": sum(map(self.is_positive, self.images)), "boxes": sum(boxes)}

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(C, H, W) bool: outlines where the card says so and there is one, filled boxes elsewhere, united by class."""
        n_classes = len(self.card.classes)
        listed = self.drawn_in.get(sample_id, [])
        if self.own.mask_source == "boxes":
            boxes, labels = boxes_of([(one.label, one.box_xywh) for one in listed if one.is_box])
            return box_masks(boxes, labels, n_classes, shape)
        bare = [one for one in listed if one.outline is None]
        boxes, labels = boxes_of([(one.label, one.box_xywh) for one in bare])
        masks = box_masks(boxes, labels, n_classes, shape)
        for one in listed:
            if one.outline is not None:
                masks[one.label] |= filled(one.outline, shape, one.place)
        return masks


def fault_of(box_xywh: Sequence[float], size: tuple[int, int]) -> tuple[str, bool]:
    """What is odd about a box (of `oddities.RULES`, or nothing), and whether it is used."""
    left, top, width, height = box_xywh
    rows, columns = size
    if not all(map(math.isfinite, box_xywh)) or min(width, height) <= 0:
        return "boxes without area", False
    if not (0 <= left + width / 2 < columns and 0 <= top + height / 2 < rows):
        return "boxes with their centre outside the image", False
    outside = max(-left, -top, left + width - columns, top + height - rows) > ROUNDED
    return ("boxes that leave the image" if outside else ""), True


def polygons(given: object, size: tuple[int, int]) -> tuple[tuple[float, ...], ...] | None:
    """COCO's polygons of one annotation; None for what is none: fewer than three points, no finite numbers, or far outside the image."""
    if not isinstance(given, list) or not given:
        return None
    listed = [given] if all(_is_number(value) for value in given) else given
    found = []
    for one in listed:
        if not isinstance(one, list) or len(one) < 6 or len(one) % 2 or not all(_is_number(value) for value in one):
            return None
        points = np.array(one, np.float64).reshape(-1, 2)
        if (np.abs(points) > FAR * np.array(size[::-1])).any():
            return None
        found.append(tuple(float(value) for value in one))
    return tuple(found)


def box_of(outline: tuple[tuple[float, ...], ...]) -> tuple[float, float, float, float]:
    """The tight box of polygons, xywh."""
    points = np.concatenate([np.array(one).reshape(-1, 2) for one in outline])
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right - left, bottom - top


def filled(outline: Outline, shape: tuple[int, int], where: str) -> np.ndarray:
    """(H, W) bool: the union of polygons as pycocotools fills them, or a run-length code.

    Raises:
        UsageError: a run-length code that is none, or of another size.
    """
    if isinstance(outline, Mapping):
        return decode(dict(outline), shape, where)
    codes = coco_mask.frPyObjects([list(one) for one in outline], *shape)
    found: np.ndarray = coco_mask.decode(coco_mask.merge(codes)).astype(bool)
    return found


def as_float(value: float) -> float:
    """A number of JSON; infinity for a whole one of more digits than a float holds."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def drawn_oddities(*others: str) -> tuple[str, ...]:
    """What a reader of boxes looks for, beside its own."""
    return (*others, *BOX_ODDITIES)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(as_float(value))
