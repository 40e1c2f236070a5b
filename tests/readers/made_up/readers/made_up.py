"""A made-up release: one table of boxes, a row a box, and PNG files beside it. The test set is the release's, validation is held out."""

from __future__ import annotations

from collections.abc import Iterable

from benchmark.readers.base import Check
from benchmark.readers.kit.boxed import BoxedReader, boxes_of
from benchmark.readers.kit.boxes import numbers_of, require_box
from benchmark.readers.kit.checks import first_sample_check, release_checks, split_checks
from benchmark.readers.kit.tables import locate, read_table, rows_by_name
from benchmark.readers.kit.walk import find_files

TABLE, COLUMNS = "boxes.csv", ("image", "patient", "part", "x", "y", "width", "height")
SIDE = 512


class DatasetReader(BoxedReader):
    """Images of the table. An id is a file stem; patients are known."""

    side = SIDE

    def open(self) -> None:
        folder = self.folder_with(TABLE)
        self.tables = (folder / TABLE,)
        self._patients: dict[str, str] = {}
        self.subset = {}
        listed: dict[str, list[tuple[int, tuple[float, ...]]]] = {}
        for line, row in rows_by_name(read_table(folder / TABLE, self.card.name), COLUMNS, self.card.name):
            listed.setdefault(row["image"], []).extend(_boxes(row, f"{self.card.name}: {TABLE} line {line:,}"))
            self._patients[row["image"]], self.subset[row["image"]] = row["patient"], row["part"]
        self.boxes = {i: boxes_of(boxes) for i, boxes in listed.items()}
        self.images = locate(self.boxes, find_files(folder, ".png"), self.card.name, TABLE)
        self.release = "first edition"

    def patient_of(self, sample_id: str) -> str | None:
        return self._patients[sample_id]

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
    box = numbers_of(cells, "x, y, width, height", where)
    require_box(box, SIDE, where)
    return [(0, box)]
