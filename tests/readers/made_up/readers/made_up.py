"""A made-up release: one table of boxes, a row a box, and PNG files beside it. The test set is the release's, validation is held out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError
from benchmark.imaging.picture import read_grey
from benchmark.readers.base import Check
from benchmark.readers.kit.boxed import BoxedReader, boxes_of
from benchmark.readers.kit.boxes import require_box
from benchmark.readers.kit.checks import first_sample_check, release_checks, split_checks
from benchmark.readers.kit.holdout import official_test_and_holdout
from benchmark.readers.kit.splits import Splits
from benchmark.readers.kit.tables import locate, read_table, rows_by_name
from benchmark.readers.kit.walk import find_files

TABLE, COLUMNS = "boxes.csv", ("image", "patient", "part", "x", "y", "width", "height")
RULE = "official test, stratified holdout"
SIDE = 512


class DatasetReader(BoxedReader):
    """Images of the table. An id is a file stem; patients are known."""

    side = SIDE

    def open(self) -> None:
        self._table = self.folder_with(TABLE) / TABLE
        self._patients: dict[str, str] = {}
        self.subset = {}
        listed: dict[str, list[tuple[int, tuple[float, ...]]]] = {}
        for line, row in rows_by_name(read_table(self._table, self.card.name), COLUMNS, self.card.name):
            listed.setdefault(row["image"], []).extend(_boxes(row, f"{self.card.name}: {TABLE} line {line:,}"))
            self._patients[row["image"]], self.subset[row["image"]] = row["patient"], row["part"]
        self.boxes = {i: boxes_of(boxes) for i, boxes in listed.items()}
        self.images = locate(self.boxes, find_files(self._table.parent, ".png"), self.card.name, TABLE)
        self.release = "first edition"

    def patient_of(self, sample_id: str) -> str | None:
        return self._patients[sample_id]

    def decode(self, sample_id: str) -> np.ndarray:
        return read_grey(self.images[sample_id], sample_id)

    def label_files(self) -> tuple[Path, ...]:
        return (self._table,)

    def split(self, rule: SplitRule) -> Splits:
        return official_test_and_holdout(self.ids_of("train"), self.ids_of("test"), self.kind_of, rule, RULE, self.card.name)

    def checks(self) -> Iterable[Check]:
        counts = {
            "images": len(self.images),
            "boxes": sum(map(self.n_boxes, self.ids)),
            "patients": len(set(self._patients.values())),
        }
        yield from release_checks(self, counts, "Fetch the table again.")
        yield from split_checks(self, patient_of=self._patients.get)
        yield first_sample_check(self)


def _boxes(row: dict[str, str], where: str) -> list[tuple[int, tuple[float, ...]]]:
    """Label and xywh of a row; none of an image without a finding."""
    cells = [row[name] for name in COLUMNS[3:]]
    if not any(cells):
        return []
    try:
        box = tuple(map(float, cells))
    except ValueError:
        raise DataError(f"{where}: {', '.join(cells)} are not four numbers.") from None
    require_box(box, SIDE, where)
    return [(0, box)]
