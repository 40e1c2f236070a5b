"""Your own images with a caption each, which stands for its report. The card's block is `PairData`. Captions are never logged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmark.cards.own_data import PairData
from benchmark.errors import DataError
from benchmark.readers.kit.blanks import is_empty
from benchmark.readers.kit.own import OwnReader
from benchmark.readers.kit.own_images import ImageFiles, filled_in
from benchmark.readers.kit.own_table import rows_of
from benchmark.readers.kit.text import read_text


class DatasetReader(OwnReader[PairData]):
    """A table with both, or a text file beside each image."""

    looked_for = ("rows of an image that is not there", "rows twice", "images without a caption")

    def read(self) -> Mapping[str, Path]:
        self._texts: dict[str, Path] = {}
        self._sections: dict[str, dict[str, str]] = {}
        pictures = self.image_files_in(self.own.images)
        self._captions = self._from_table(pictures) if self.own.table else self._from_files(pictures)
        if not self._captions:
            raise DataError(f"{self.card.name}: no image of {self.root} has a caption. Is `pairs` of the card right?")
        for place in pictures.paths:
            if place not in self._captions:
                self.odd.add("images without a caption", self.called(place))
        return {place: path for place, path in pictures.paths.items() if place in self._captions}

    def report_of(self, sample_id: str) -> str:
        return self._captions[sample_id]

    def sections_of(self, sample_id: str) -> Mapping[str, str]:
        """The sections that the card's table tells apart and that are not empty; else the caption as one."""
        return self._sections.get(sample_id) or {"report": self._captions[sample_id]}

    def texts_of(self, sample_id: str) -> tuple[Path, ...]:
        return self.labels_beside(sample_id)

    def labels_beside(self, place: str) -> tuple[Path, ...]:
        return tuple(filter(None, [self._texts.get(place)]))

    def _from_table(self, pictures: ImageFiles) -> dict[str, str]:
        own = self.own
        path = self.file(own.table, "pairs.table")
        self.tables = (path,)
        split = "" if self.card.split is None else self.card.split.column
        found: dict[str, str] = {}
        columns = {"": own.caption} if own.caption else own.sections
        for line, cells in rows_of(path, (own.image, *columns.values(), own.patient, split), self.card.name, "pairs"):
            where, place = f"{path.name} line {line:,}", pictures.find(cells[own.image])
            if place is None:
                self.odd.add("rows of an image that is not there", where)
            elif place in found:
                self.odd.add("rows twice", where)
            elif said := {name: text for name, column in columns.items() if (text := self._text(cells[column]))}:
                found[place] = " ".join(said.values())
                if own.sections:
                    self._sections[place] = said
                self.say_patient(place, cells.get(own.patient, ""))
                self.say_column(place, cells.get(split, ""))
        return found

    def _from_files(self, pictures: ImageFiles) -> dict[str, str]:
        found: dict[str, str] = {}
        for place in pictures.paths:
            path = self.root / f"{filled_in(self.own.texts, place)}.txt"
            if path.is_file() and (caption := self._text(read_text(path, self.card.name))):
                found[place], self._texts[place] = caption, path
        return found

    def _text(self, written: str) -> str:
        """A caption or section on one line; empty where it holds no more than a tool's word for a missing cell."""
        text = " ".join(written.split())
        if not is_empty(text):
            return text
        if text:
            self.read_anew.add("captions")
        return ""
