"""Your own images with a table: whole-image labels, or boxes. The card's block is `CsvData`.

One row an image with a column for each class; or a row for each finding, with a column that names it, and columns for its box where there
are boxes. An image that only stands in a row without a finding or a box is one without a finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmark.cards.own_data import BoxColumns, CsvData
from benchmark.errors import DataError
from benchmark.readers.kit.blanks import is_empty
from benchmark.readers.kit.boxes import numbers_of
from benchmark.readers.kit.own import TWO_PATIENTS, TWO_SPLITS
from benchmark.readers.kit.own_boxes import Drawn, DrawnReader, drawn_oddities
from benchmark.readers.kit.own_images import ImageFiles
from benchmark.readers.kit.own_table import rows_of

JOINED_BY = "|"
STRANGE = "values that the card does not know"


class DatasetReader(DrawnReader[CsvData]):
    """One table."""

    looked_for = drawn_oddities(
        "rows of an image that is not there",
        "image files that nothing lists",
        "rows twice",
        STRANGE,
        "annotations of an unknown category",
        TWO_SPLITS,
        TWO_PATIENTS,
        "images that cannot be opened",
        "coordinates outside 0..1",
    )

    def read(self) -> Mapping[str, Path]:
        own, card = self.own, self.card
        self.masked = own.boxes is not None  # type: ignore[misc]
        self.drawn_in = {}
        self._labels: dict[str, np.ndarray] = {}
        self._require_classes()
        pictures = self.image_files_in(own.images)
        path = self.file(own.table, "csv.table")
        self.tables = (path,)
        boxes = () if own.boxes is None else own.boxes.columns
        split = "" if card.split is None else card.split.column
        columns = (own.image, own.finding, own.patient, split, *boxes, *own.labels.values())
        rows: set[tuple[str, ...]] = set()
        refused: set[str] = set()
        seen: dict[str, None] = {}
        for line, cells in rows_of(path, columns, card.name, "csv"):
            where = f"{path.name} line {line:,}"
            place = pictures.find(cells[own.image])
            if place is None or place in refused:
                if place is None:
                    self.odd.add("rows of an image that is not there", where)
                continue
            row = tuple(cells.values())
            if row in rows or (own.labels and place in seen):
                self.odd.add("rows twice", where)
                continue
            rows.add(row)
            if place not in seen and own.boxes is not None and self.usable(place, pictures.paths[place]) is None:
                refused.add(place)
                continue
            seen[place] = None
            self.say_patient(place, cells.get(own.patient, ""))
            self.say_column(place, cells.get(split, ""))
            self._row(place, cells, where)
        for what, place in self.doubted:
            if what == STRANGE:  # it may be any class by another name: none is certainly absent
                labels = self._labels[place]
                labels[labels == 0] = -1
        for place in pictures.paths:
            if place not in seen and place not in refused:
                self.odd.add("image files that nothing lists", self.called(place))
        if own.boxes is not None and own.boxes.unit == "pixels":
            self.require_pixels(seen, path.name, "Say `unit: fractions` under `csv.boxes`.")
        return self._used(pictures, seen)

    def labels_of(self, sample_id: str) -> np.ndarray | None:
        return self._labels.get(sample_id) if self.own.boxes is None else None

    def kinds_shown(self, sample_id: str) -> list[str]:
        if self.own.boxes is not None:
            return super().kinds_shown(sample_id)
        return [self.card.classes[k] for k in np.flatnonzero(self._labels[sample_id] == 1)]

    def counts(self) -> dict[str, int]:
        if self.own.boxes is not None:
            return super().counts()
        return {"positives": sum(bool((self._labels[i] == 1).any()) for i in self.images)}

    # ------------------------------------------------------------------------------------------------------------- private

    def _require_classes(self) -> None:
        own, classes = self.own, self.card.classes
        if own.labels and set(own.labels) != set(classes):
            raise DataError(
                f"{self.card.name}: `csv.labels` has columns for {', '.join(own.labels)}, and the card's classes are {', '.join(classes)}."
            )
        if not own.labels and not own.finding and len(classes) != 1:
            raise DataError(f"{self.card.name}: {len(classes)} classes, and `csv.finding` names no column that says which one a box is of.")

    def _used(self, pictures: ImageFiles, seen: Mapping[str, None]) -> dict[str, Path]:
        return {place: path for place, path in pictures.paths.items() if place in seen}

    def _row(self, place: str, cells: Mapping[str, str], where: str) -> None:
        if self.own.labels:
            self._labels[place] = np.array([self._value(cells[self.own.labels[name]], where) for name in self.card.classes], np.int8)
            return
        found = self._classes(cells, place, where)
        if self.own.boxes is None:
            labels = self._labels.setdefault(place, np.zeros(len(self.card.classes), np.int8))
            labels[found] = 1
            return
        box = self._box(self.own.boxes, cells, place, where)
        if box is not None:
            for label in found:
                self.keep(place, self.drawn_on[place], Drawn(label, box, where))

    def _value(self, cell: str, where: str) -> int:
        own = self.own
        if cell in own.positive:
            return 1
        if cell in own.negative:
            return 0
        if cell not in own.unknown:
            self.odd.add(STRANGE, f"{where}, {cell[:20]!r}" if self.names_files else where)
        return -1

    def _classes(self, cells: Mapping[str, str], place: str, where: str) -> list[int]:
        """Classes that a row names, as places in the card's list."""
        own, classes = self.own, self.card.classes
        if not own.finding:
            return [0]
        named = [name.strip() for name in cells[own.finding].split(JOINED_BY)]
        meant = [own.findings.get(name, name) for name in named if name not in own.nothing]
        for name in meant:
            if name not in classes:
                what = STRANGE if own.boxes is None else "annotations of an unknown category"
                self.odd.add(what, f"{where}, {name[:20]!r}" if self.names_files else where)
                if own.boxes is None:
                    self.doubted.add((STRANGE, place))
        return [classes.index(name) for name in meant if name in classes]

    def _box(self, asked: BoxColumns, cells: Mapping[str, str], place: str, where: str) -> tuple[float, float, float, float] | None:
        """xywh in pixels; None for a row without numbers. Raises DataError for cells that are no numbers."""
        written = [cells[column] for column in asked.columns]
        if all(map(is_empty, written)):
            return None
        a, b, c, d = numbers_of(written, ", ".join(asked.columns), f"{self.card.name}: {where}")
        x, y, width, height = {"xywh": (a, b, c, d), "xyxy": (a, b, c - a, d - b), "cxcywh": (a - c / 2, b - d / 2, c, d)}[asked.form]
        if asked.unit == "fractions":
            if min(x, y) < 0 or max(x + width, y + height) > 1:
                self.odd.add("coordinates outside 0..1", where)
            rows, columns = self.drawn_on[place]
            return x * columns, y * rows, width * columns, height * rows
        return x, y, width, height
