"""Your own images with YOLO's text files: a line for each object, class number first. The card's block is `YoloData`.

A line of five numbers is a box (centre x, centre y, width, height), a longer one a polygon (x y x y ...), all in fractions of the image as
it is shown. A sixth number behind a box is a confidence, which is the sign of predictions and is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmark.cards.own_data import YoloData
from benchmark.errors import DataError
from benchmark.readers.kit.own_boxes import Drawn, DrawnReader, box_of, drawn_oddities, polygons
from benchmark.readers.kit.own_images import filled_in
from benchmark.readers.kit.text import numbered_lines
from benchmark.readers.kit.walk import files_in

TOLERANCE = 1e-4  # tools write six digits, and round


class DatasetReader(DrawnReader[YoloData]):
    """One text file an image."""

    looked_for = drawn_oddities(
        "images that cannot be opened",
        "images without an annotation",
        "annotations of an image that is not listed",
        "lines that are no object",
        "lines with a confidence",
        "coordinates outside 0..1",
        "class numbers without a name",
        "annotations of a category that the card leaves out",
        "annotations without an outline",
        "outlines that are none",
    )

    def read(self) -> Mapping[str, Path]:
        self.drawn_in = {}
        self._texts: dict[str, Path] = {}
        pictures = self.image_files_in(self.own.images)
        used = {place: path for place, path in pictures.paths.items() if self.usable(place, path) is not None}
        for place in used:
            path = self.root / f"{filled_in(self.own.labels, place)}.txt"
            if path.is_file():
                self._texts[place] = path
                self._read_text(place, path)
            if place not in self.drawn_in:
                self.odd.add("images without an annotation", self.called(place))
        if not self._texts:
            raise DataError(
                f"{self.card.name}: no image has a text file at {self.own.labels}.txt in {self.root}, which the card names "
                "in `yolo.labels`."
            )
        self._require_labelled(place for place in used if place not in self.own.leave_out)
        known = {f"{filled_in(self.own.labels, place)}.txt" for place in pictures.paths}
        folders = {path.parent for path in self._texts.values()}
        for path in sorted({path for folder in folders for path in files_in(folder, ".txt")}):
            place = path.relative_to(self.root).as_posix()
            if place not in known and path.name.lower() != "classes.txt":
                self.odd.add("annotations of an image that is not listed", place if self.names_files else "a text file")
        return used

    def files_of(self, sample_id: str) -> tuple[Path, ...]:
        """The image, and the text that its masks are drawn from."""
        return (self.path_of(sample_id), *self.labels_beside(sample_id))

    def labels_beside(self, place: str) -> tuple[Path, ...]:
        return tuple(filter(None, [self._texts.get(place)]))

    def _require_labelled(self, places: Iterable[str]) -> None:
        """Refuses a folder of images that nobody labelled, of which every image would be one without a finding.

        A folder of texts is there for it, if only an empty one, where somebody looked.
        """
        listed: dict[Path, list[str]] = {}
        for place in places:
            text = self.root / f"{filled_in(self.own.labels, place)}.txt"
            listed.setdefault(text.parent, []).append(place)
        bare = [folder for folder in listed if not folder.is_dir()]
        if bare:
            first = listed[bare[0]][0]
            which = (first.rpartition("/")[0] or self.own.images) if self.names_files else f"of {self.called(first)}"
            texts = f" {bare[0].relative_to(self.root).as_posix()}" if self.names_files else ""
            raise DataError(
                f"{self.card.name}: no image of the folder {which} has a text file, and the folder{texts} of their texts is not there "
                f"({len(bare):,} of {len(listed):,} such folders): unlabelled, or without a finding? Without a finding, make the folder, "
                "empty or with an empty text for each. Unlabelled, take the images out: move them away, or name them in `leave_out`."
            )

    def _read_text(self, place: str, path: Path) -> None:
        for number, line in numbered_lines(path, self.card.name):
            where = f"{path.name if self.names_files else self.called(place)} line {number:,}"
            try:
                values = [float(cell) for cell in line.split()]
            except ValueError:
                values = []
            if len(values) < 5 or not all(map(math.isfinite, values)) or not values[0].is_integer():
                self.odd.add("lines that are no object", where)
            elif (label := self._label(int(values[0]), where)) is not None:
                self._object(place, label, values[1:], where)

    def _label(self, number: int, where: str) -> int | None:
        names = self.own.names or self.card.classes
        if not 0 <= number < len(names):
            self.odd.add("class numbers without a name", where)
            return None
        if names[number] not in self.card.classes:
            self.odd.add("annotations of a category that the card leaves out", where)
            return None
        return self.card.classes.index(names[number])

    def _object(self, place: str, label: int, values: list[float], where: str) -> None:
        rows, columns = size = self.drawn_on[place]
        if len(values) <= 5:
            x, y, width, height = values[:4]
            box = ((x - width / 2) * columns, (y - height / 2) * rows, width * columns, height * rows)
            edges = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            outline = None
            if len(values) == 5:
                self.odd.add("lines with a confidence", where)
            elif self.own.masks == "segmentation":
                self.odd.add("annotations without an outline", where)
        else:
            scaled = [value * (columns if k % 2 == 0 else rows) for k, value in enumerate(values)]
            outline = polygons([scaled], size)
            if outline is None:
                self.odd.add("outlines that are none", where)
                return
            box, edges = box_of(outline), values
        if min(edges) < -TOLERANCE or max(edges) > 1 + TOLERANCE:
            self.odd.add("coordinates outside 0..1", where)
        self.keep(place, size, Drawn(label, box, where, outline))
