"""A made-up release: one table of boxes, a row a box, and PNG files beside it. The test set is the release's, validation is held out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError
from benchmark.imaging.picture import read_grey
from benchmark.readers.base import Check, Reader, Sample
from benchmark.readers.kit.boxes import box_masks, require_box, require_size
from benchmark.readers.kit.checks import first_sample_check, release_checks, split_checks
from benchmark.readers.kit.holdout import stratified_holdout
from benchmark.readers.kit.splits import Splits, require_rule
from benchmark.readers.kit.tables import locate, read_table, rows_by_name
from benchmark.readers.kit.walk import find_files

TABLE, COLUMNS = "boxes.csv", ("image", "patient", "part", "x", "y", "width", "height")
RULE = "official test, stratified holdout"
SIDE = 512


class DatasetReader(Reader):
    """Images of the table. An id is a file stem; patients are known."""

    def open(self) -> None:
        self._table = self.folder_with(TABLE) / TABLE
        self._boxes: dict[str, list[tuple[float, ...]]] = {}
        self._patients: dict[str, str] = {}
        self._subset: dict[str, str] = {}
        for line, row in rows_by_name(read_table(self._table, self.card.name), COLUMNS, self.card.name):
            self._add(row, f"{self.card.name}: {TABLE} line {line:,}")
        self.images = locate(self._boxes, find_files(self._table.parent, ".png"), self.card.name, TABLE)
        self.release = "first edition"

    def sample(self, sample_id: str) -> Sample:
        path, boxes = self.path_of(sample_id), np.array(self._boxes[sample_id], np.float64).reshape(-1, 4)
        return Sample(
            id=sample_id,
            patient_id=self._patients[sample_id],
            image=partial(self._image, sample_id),
            masks=partial(box_masks, boxes, np.zeros(len(boxes), np.int64), 1),
            boxes_xywh=boxes,
            box_labels=np.zeros(len(boxes), np.int64),
            files=(path,),
            positive=len(boxes) > 0,
        )

    def label_files(self) -> tuple[Path, ...]:
        return (self._table,)

    def split(self, rule: SplitRule) -> Splits:
        require_rule(rule, (RULE,), "seed", "validation_share", dataset=self.card.name)
        listed = {subset: [i for i, other in self._subset.items() if other == subset] for subset in ("train", "test")}
        train, validation = stratified_holdout(listed["train"], lambda i: str(bool(self._boxes[i])), rule, self.card.name)
        return {"train": tuple(train), "validation": tuple(validation), "test": tuple(listed["test"])}

    def checks(self) -> Iterable[Check]:
        counts = {
            "images": len(self.images),
            "boxes": sum(map(len, self._boxes.values())),
            "patients": len(set(self._patients.values())),
        }
        yield from release_checks(self, counts, "Fetch the table again.")
        yield from split_checks(self, patient_of=self._patients.get)
        yield first_sample_check(self)

    def _add(self, row: dict[str, str], where: str) -> None:
        sample_id = row["image"]
        boxes = self._boxes.setdefault(sample_id, [])
        self._patients[sample_id], self._subset[sample_id] = row["patient"], row["part"]
        cells = [row[name] for name in COLUMNS[3:]]
        if not any(cells):
            return
        try:
            box = tuple(map(float, cells))
        except ValueError:
            raise DataError(f"{where}: {', '.join(cells)} are not four numbers.") from None
        require_box(box, SIDE, where)
        boxes.append(box)

    def _image(self, sample_id: str) -> np.ndarray:
        path = self.images[sample_id]
        pixels = read_grey(path, sample_id)
        require_size(pixels.shape, (SIDE, SIDE), f"{path} (id {sample_id})")
        return pixels
