"""Object-CXR (JF Healthcare, MIDL 2020): rectangles, ellipses and polygons around foreign objects, in one text field per image.

That field has two readings (`kit.shapes`): `true` is the release's own geometry, `released` what LoVT's conversion made of it. They share
images and splits and differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from sklearn.model_selection import train_test_split

from benchmark.cards import SplitRule
from benchmark.errors import DataError, ImageError, TooFewImages
from benchmark.imaging.picture import size_of
from benchmark.readers.base import Check, Verdict
from benchmark.readers.kit.boxed import BoxedReader
from benchmark.readers.kit.checks import check_of, first_sample_check, release_checks, split_checks, tolerated
from benchmark.readers.kit.shapes import Shape, parse_annotation, released_boxes, released_masks, true_boxes, true_masks
from benchmark.readers.kit.splits import Splits, check_disjoint, require_rule
from benchmark.readers.kit.tables import Table, cells_of, read_table

RULE = "train-file-holdout"
SUBSETS = ("train", "dev", "test")  # files of the release; `test` exists only in the Kaggle mirror

# Outlines drawn over the left and upper edge reach 24 pixels beyond it (counted in LoVT's lists); how many do so at the other two edges is
# not known without the images, so a few are only a warning.
EDGE, MOST_OUTSIDE = 24, 0.01

_NAME_COLUMNS = ("image_name", "image_path")


@dataclass(frozen=True)
class _Row:
    subset: str
    line: int
    shapes: tuple[Shape, ...]


class DatasetReader(BoxedReader):
    """Object-CXR as the torrent, the Kaggle mirror or LoVT's `input` folder lay it out. The release carries no patients."""

    def open(self) -> None:
        self._base = self.folder_with("train.csv")
        subsets = [subset for subset in SUBSETS if subset != "test" or (self._base / "test.csv").exists()]
        self._rows: dict[str, _Row] = {}
        self.images: dict[str, Path] = {}
        for subset in subsets:
            self._add(subset)
        self.subset = {i: row.subset for i, row in self._rows.items()}
        self.tables = tuple(self._base / f"{subset}.csv" for subset in subsets)
        drawn = released_boxes if self.shapes == "released" else true_boxes
        self.boxes = {i: (drawn(row.shapes), np.zeros(len(row.shapes), np.int64)) for i, row in self._rows.items()}
        self.release = self._name_release(subsets)

    def split(self, rule: SplitRule) -> Splits:
        """Training and validation from train.csv by scikit-learn's `train_test_split`; test is the official dev set in file order."""
        require_rule(rule, (RULE,), "seed", "validation_share", dataset=self.card.name)
        train, dev = self.ids_of("train"), self.ids_of("dev")
        if len(train) < 2:
            raise TooFewImages(f"{self.card.name}: train.csv lists {len(train)} images; a split into training and validation needs 2.")
        training, validation = train_test_split(train, test_size=rule.validation_share, random_state=rule.seed)
        splits = {"train": tuple(training), "validation": tuple(validation), "test": tuple(dev)}
        check_disjoint(splits)
        return splits

    def checks(self) -> Iterable[Check]:
        counts = self._counts()
        expected = {k: n for k, n in self.card.expected.items() if k in counts or not k.startswith("test")}
        hint = "The file was edited or cut; fetch it again from the source in the dataset's card."
        yield from release_checks(self, counts, hint, expected)
        yield from split_checks(self, self.n_boxes, self.is_positive)
        yield tolerated(self.card, "boxes that start outside the image", sum(min(s.xyxy[:2]) < 0 for s in self._all_shapes()))
        yield check_of("boxes that end outside the image", f"under {MOST_OUTSIDE:.0%} of boxes", self._look_at_frames)
        yield first_sample_check(self)
        yield tolerated(self.card, "images without a label row", self.n_unlisted)

    def _add(self, subset: str) -> None:
        table = read_table(self._base / f"{subset}.csv", self.card.name)
        rows = self._parse(subset, table)
        self.images |= self.find_listed(self._base / subset, ".jpg", rows, table.path.name)
        self._rows |= rows

    def _parse(self, subset: str, table: Table) -> dict[str, _Row]:
        header = tuple(name.strip() for name in table.header)
        if len(header) != 2 or header[0] not in _NAME_COLUMNS or header[1] != "annotation":
            raise DataError(
                f"{self.card.name}: {table.path.name} has the columns {', '.join(header)}; expected image_name (or image_path), annotation."
            )
        rows: dict[str, _Row] = {}
        for line, (name, annotation) in cells_of(table, 2, self.card.name):
            sample_id = PurePosixPath(name.strip()).stem
            where = f"{self.card.name}: {table.path.name} line {line:,} ({sample_id or 'no image name'})"
            if not sample_id:
                raise DataError(f"{where}: the image name is empty.")
            earlier = rows.get(sample_id) or self._rows.get(sample_id)
            if earlier:
                raise DataError(f"{where}: the image is already listed in {earlier.subset}.csv line {earlier.line:,}; each has one row.")
            rows[sample_id] = _Row(subset, line, parse_annotation(annotation, where))
        return rows

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        row = self._rows[sample_id]
        height, width = shape
        for k, item in enumerate(row.shapes, start=1):
            left, top, right, bottom = item.xyxy
            if right <= 0 or bottom <= 0 or left >= width or top >= height:
                raise ImageError(
                    f"{self.card.name}: object {k} of {sample_id} (x {left:,} to {right:,}, y {top:,} to {bottom:,}) lies wholly outside "
                    f"the image of {height:,} rows x {width:,} columns, {row.subset}.csv line {row.line:,}. Was the image resized?"
                )
        return released_masks(row.shapes, shape) if self.shapes == "released" else true_masks(row.shapes, shape)

    def _look_at_frames(self) -> tuple[str, Verdict, str]:
        """Boxes against the sizes in the image headers. Images come in every size, so a resized copy shows nowhere else."""
        n_outside = n_boxes = 0
        for sample_id, row in self._rows.items():
            if row.shapes:
                height, width = size_of(self.images[sample_id], sample_id)
                n_boxes += len(row.shapes)
                n_outside += sum(s.xyxy[2] > width + EDGE or s.xyxy[3] > height + EDGE for s in row.shapes)
        if n_outside == 0:
            return "0", "ok", ""
        verdict: Verdict = "warning" if n_outside < MOST_OUTSIDE * n_boxes else "error"
        return f"{n_outside:,} of {n_boxes:,}", verdict, "Are the images resized? LOBE needs the original sizes."

    def _all_shapes(self) -> Iterator[Shape]:
        return (s for row in self._rows.values() if row.subset != "test" for s in row.shapes)

    def _counts(self) -> dict[str, int]:
        counts = {"images": len(self._rows), "positives": sum(map(self.is_positive, self._rows))}
        counts["boxes"] = sum(len(row.shapes) for row in self._rows.values())
        for subset in dict.fromkeys(self.subset.values()):
            counts |= self.counts_of(subset)
        return counts

    def _name_release(self, subsets: Sequence[str]) -> str:
        if "test" in subsets:
            return "Kaggle mirror with test.csv"
        return "LoVT's layout (input folder)" if self._base.name == "input" else "original train and dev files"
