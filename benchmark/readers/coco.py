"""Your own images with COCO's JSON: boxes, polygons and run-length codes. The card's block is `CocoData`.

The file is taken for what people have, not for what the format says: what cannot be used is left out, counted and told, and an image keeps
the rest. Contradictions that would change what an image or a class is (one id for two of them) stop it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.cards.own_data import CocoData
from benchmark.cards.own_split import SplitName
from benchmark.errors import DataError, UsageError
from benchmark.imaging.coco_rle import runs
from benchmark.readers.kit.own_boxes import Drawn, DrawnReader, Outline, as_float, box_of, drawn_oddities, polygons
from benchmark.readers.kit.own_images import ImageFiles
from benchmark.readers.kit.text import read_json

SECTIONS = ("images", "annotations", "categories")


class DatasetReader(DrawnReader[CocoData]):
    """One JSON file, or one for each split."""

    looked_for = drawn_oddities(
        "images listed without a file",
        "image files that nothing lists",
        "images listed twice",
        "images that cannot be opened",
        "images of another size than listed",
        "images without an annotation",
        "annotations of an image that is not listed",
        "annotations of an unknown category",
        "annotations of a category that the card leaves out",
        "crowd annotations (iscrowd)",
        "annotations without an outline",
        "outlines that are none, beside a box",
        "outlines that are none",
    )

    def read(self) -> Mapping[str, Path]:
        given = self.own.annotations
        self.drawn_in = {}
        self._split_in: dict[str, SplitName] = {}
        self._listed: set[str] = set()
        pictures = self.image_files_in(self.own.images)
        used: dict[str, Path] = {}
        for split, name in [(None, given)] if isinstance(given, str) else list(given.items()):
            path = self.file(name, "coco.annotations")
            self.tables = (*self.tables, path)
            kept = self._read_file(path, name, pictures)
            used |= {place: pictures.paths[place] for place in kept}
            if split is not None:
                self._split_in |= dict.fromkeys(kept, split)
        for place in pictures.paths:
            if place not in self._listed:
                self.odd.add("image files that nothing lists", self.called(place))
        return {place: path for place, path in pictures.paths.items() if place in used}

    def annotation_split(self, place: str) -> SplitName | None:
        return self._split_in.get(place)

    def said_splits(self) -> tuple[SplitName, ...]:
        given = self.own.annotations
        by_file = isinstance(given, Mapping) and self.card.split is not None and self.card.split.by == "folder"
        return (*super().said_splits(), *(given if by_file else ()))

    def _read_file(self, path: Path, name: str, pictures: ImageFiles) -> list[str]:
        """Images that a file lists and that can be used."""
        content = self._content(path)
        labels = self._labels(content["categories"], path)
        places = self._images(content["images"], path, name.rpartition("/")[0], pictures)
        for number, entry in enumerate(content["annotations"], start=1):
            self._annotation(entry, f"{path.name} annotation {number:,}", labels, places)
        kept = [place for place in places.values() if place is not None]
        for place in kept:
            if place not in self.drawn_in:
                self.odd.add("images without an annotation", self.called(place))
        self.require_pixels(kept, name, "COCO's boxes and outlines are in pixels: multiply them by each image's width and height.")
        return kept

    def _content(self, path: Path) -> dict[str, list[dict[str, Any]]]:
        try:
            content = read_json(path, self.card.name, dict)
        except ValueError as error:
            raise DataError(f"{self.card.name}: {path.name} is no readable JSON ({error}). Export the file again.") from None
        for section in SECTIONS:
            listed = content.get(section)
            if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
                raise DataError(
                    f"{self.card.name}: {path.name} has no list `{section}` of objects. A COCO file has {', '.join(SECTIONS)}; found "
                    f"{', '.join(map(str, list(content)[:8])) or 'nothing'}."
                )
        return content

    def _labels(self, categories: list[dict[str, Any]], path: Path) -> dict[Any, int | None]:
        """Category id -> index into the card's classes; None for categories that the card leaves out."""
        named: dict[Any, str] = {}
        for number, entry in enumerate(categories, start=1):
            key, name = _id(entry.get("id")), str(entry.get("name", ""))
            if key is None or (key in named and named[key] != name):
                what = "no id" if key is None else f"the id {key} of {named[key]!r} once more, for {name!r}"
                raise DataError(f"{self.card.name}: {path.name} category {number:,} has {what}. Every category has an id of its own.")
            named[key] = name
        meant = {key: self.own.categories.get(name, name) for key, name in named.items()}
        if not set(meant.values()) & set(self.card.classes):
            raise DataError(
                f"{self.card.name}: no category of {path.name} is a class of the card. Categories: {', '.join(named.values()) or 'none'}; "
                f"classes: {', '.join(self.card.classes)}. Mend `classes`, or say `categories: {{name in the file: class}}`."
            )
        return {key: self.card.classes.index(name) if name in self.card.classes else None for key, name in meant.items()}

    def _images(self, entries: list[dict[str, Any]], path: Path, beside: str, pictures: ImageFiles) -> dict[Any, str | None]:
        """Image id -> place; None for images that are not used, which is told here once."""
        places: dict[Any, str | None] = {}
        names: dict[Any, str] = {}
        for number, entry in enumerate(entries, start=1):
            key, name, where = _id(entry.get("id")), entry.get("file_name"), f"{path.name} image {number:,}"
            if key is None or not isinstance(name, str) or not name:
                raise DataError(f"{self.card.name}: {where} has no id or no file_name. Export the file again.")
            if key in names:
                if names[key] != name:
                    raise DataError(
                        f"{self.card.name}: {where} has the id {key} of another image once more. Its annotations could be either's."
                    )
                self.odd.add("images listed twice", where)
                continue
            names[key], places[key] = name, None
            place = pictures.find(name, beside)
            if place is None:
                self.odd.add("images listed without a file", where)
            elif place in self._listed:
                self.odd.add("images listed twice", where)
            else:
                self._listed.add(place)
                if self.usable(place, pictures.paths[place], _listed_size(entry)) is not None:
                    places[key] = place
                    self.say_patient(place, entry.get(self.own.patient_key) if self.own.patient_key else None)
                    self.say_column(place, str(entry.get(self._split_key, "")))
        return places

    @property
    def _split_key(self) -> str:
        """Key of an image's entry that names its split, for `by: column`."""
        return "" if self.card.split is None else self.card.split.column

    def _annotation(self, entry: dict[str, Any], where: str, labels: Mapping[Any, int | None], places: Mapping[Any, str | None]) -> None:
        key, category = _id(entry.get("image_id")), _id(entry.get("category_id"))
        if key is None or key not in places:
            self.odd.add("annotations of an image that is not listed", where)
            return
        if category is None or category not in labels:
            self.odd.add("annotations of an unknown category", where)
            return
        place, label = places[key], labels[category]
        if label is None:
            self.odd.add("annotations of a category that the card leaves out", where)
        if place is None or label is None:
            return
        size = self.drawn_on[place]
        crowd = entry.get("iscrowd") in (1, True)
        if crowd:
            self.odd.add("crowd annotations (iscrowd)", where)
        box = _box(entry.get("bbox"))
        outline = self._outline(entry.get("segmentation"), size, where, filled=box is not None and not crowd)
        if box is None and isinstance(outline, tuple):
            box = box_of(outline)
        if crowd and outline is None:
            return
        if box is None:
            self.odd.add("boxes without area", where)
            return
        self.keep(place, size, Drawn(label, box, where, outline, is_box=not crowd))

    def _outline(self, given: object, size: tuple[int, int], where: str, *, filled: bool) -> Outline | None:
        """The outline; None where there is none.

        Args:
            filled: the entry has a box, which masks of outlines have in its place.
        """
        none = "outlines that are none, beside a box" if filled and self.own.masks == "segmentation" else "outlines that are none"
        if given in (None, [], {}):
            if self.own.masks == "segmentation":
                self.odd.add("annotations without an outline", where)
            return None
        if isinstance(given, dict):
            try:
                runs(given, size, where)
            except UsageError:
                self.odd.add(none, where)
                return None
            return given
        found = polygons(given, size)
        if found is None:
            self.odd.add(none, where)
        return found


def _id(value: object) -> int | str | None:
    """An id: a whole number, also as text or with a point, or any other text; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or value == "":
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return int(value) if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) < 19 else value


def _listed_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) that the file says of an image, where it says both."""
    height, width = (entry.get(key) for key in ("height", "width"))
    if isinstance(height, (int, float)) and isinstance(width, (int, float)) and 0 < height < math.inf and 0 < width < math.inf:
        return int(height), int(width)
    return None


def _box(given: object) -> tuple[float, float, float, float] | None:
    """xywh; None for what are no four numbers."""
    if not isinstance(given, list) or len(given) != 4:
        return None
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in given):
        return None
    left, top, width, height = map(as_float, given)
    return left, top, width, height
