"""Object-CXR (JF Healthcare, MIDL 2020): rectangles, ellipses and polygons around foreign objects, in one text field per image.

Two readings of that field live here. `true` is the release's own geometry; `released` is what LoVT's conversion made of it, for tables
that stand beside the paper's (docs/protocols/lovt.md, quirk 3). They share parsing, images and splits and differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import skimage.draw
from sklearn.model_selection import train_test_split

from benchmark.cards import SplitRule
from benchmark.errors import DataError, ImageError, TooFewImages
from benchmark.imaging.picture import GreyRule, read_grey, size_of
from benchmark.readers.base import Check, Reader, Sample, Verdict
from benchmark.readers.kit.boxes import xywh_of
from benchmark.readers.kit.checks import count_checks, first_sample_check, phantom_checks, split_checks, tolerated
from benchmark.readers.kit.splits import Splits, check_disjoint, require_rule
from benchmark.readers.kit.tables import Table, cells_of, locate, read_table
from benchmark.readers.kit.walk import find_files

RULE = "train-file-holdout"
SUBSETS = ("train", "dev", "test")  # files of the release; `test` exists only in the Kaggle mirror

# Outlines drawn over the left and upper edge reach 24 pixels beyond it (counted in LoVT's lists); how many do so at the other two edges is
# not known without the images, so a few are only a warning.
EDGE, MOST_OUTSIDE = 24, 0.01

_NAME_COLUMNS = ("image_name", "image_path")


class ShapeKind(IntEnum):
    """First number of an annotation."""

    RECTANGLE = 0
    ELLIPSE = 1
    POLYGON = 2


@dataclass(frozen=True)
class Shape:
    """One annotated object.

    Attributes:
        points: (n, 2) int64, x and y in pixels of the original image: top-left and bottom-right corner, or the polygon's corners.
    """

    kind: ShapeKind
    points: np.ndarray

    @property
    def xyxy(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the tight box."""
        (left, top), (right, bottom) = self.points.min(axis=0).tolist(), self.points.max(axis=0).tolist()
        return left, top, right, bottom


@dataclass(frozen=True)
class _Row:
    subset: str
    line: int
    shapes: tuple[Shape, ...]


def parse_annotation(text: str, where: str = "annotation") -> tuple[Shape, ...]:
    """The objects of one image: `kind x1 y1 x2 y2 ...`, objects joined by semicolons; nothing for an image without objects.

    Raises:
        DataError: an unknown kind, a number that is no integer, a wrong count of numbers, corners in the wrong order, an empty shape.

    Source: docs/sources.md, Object-CXR.
    """
    return tuple(_shape(written, f"{where}, object {k}") for k, written in enumerate(text.split(";"), start=1)) if text.strip() else ()


def true_boxes(shapes: Sequence[Shape]) -> np.ndarray:
    """Tight boxes, (n, 4) float64 x, y, width, height."""
    corners = np.array([s.xyxy for s in shapes], dtype=np.float64).reshape(-1, 4)
    return xywh_of(corners)


def released_boxes(shapes: Sequence[Shape]) -> np.ndarray:
    """LoVT's boxes: x1, y1, y2 - y1, x2 - x1 standing where x, y, width, height are read. (n, 4) float64."""
    return true_boxes(shapes)[:, [0, 1, 3, 2]]


def true_masks(shapes: Sequence[Shape], shape: tuple[int, int]) -> np.ndarray:
    """Filled rectangles (ends excluded), ellipses inscribed in their box, and filled polygons; what leaves the image is cut.

    Returns:
        (1, H, W) bool.
    """
    canvas = np.zeros(shape, dtype=np.uint8)
    for item in shapes:
        left, top, right, bottom = item.xyxy
        if item.kind is ShapeKind.RECTANGLE:
            canvas[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
        elif item.kind is ShapeKind.ELLIPSE:
            # Pixel i covers [i, i + 1) as in the rectangles, so its centre lies half a pixel further on.
            centre = ((top + bottom - 1) / 2, (left + right - 1) / 2)
            canvas[skimage.draw.ellipse(*centre, (bottom - top) / 2, (right - left) / 2, shape=shape)] = 1
        else:
            cv2.fillPoly(canvas, [item.points.astype(np.int32)], 1)
    return canvas.astype(bool)[None]


def released_masks(shapes: Sequence[Shape], shape: tuple[int, int]) -> np.ndarray:
    """LoVT's masks: ellipses as their rectangle, polygons with x and y exchanged. (1, H, W) bool.

    A rectangle that starts left of or above the image fills nothing or a piece at the far side: negative numbers are indexed from the end
    there, as in the released code.
    """
    canvas = np.zeros(shape, dtype=np.uint8)
    for item in shapes:
        left, top, right, bottom = item.xyxy
        if item.kind is ShapeKind.POLYGON:
            cv2.fillPoly(canvas, [np.ascontiguousarray(item.points[:, ::-1], dtype=np.int32)], 1)
        else:
            canvas[top:bottom, left:right] = 1
    return canvas.astype(bool)[None]


class DatasetReader(Reader):
    """Object-CXR as the torrent, the Kaggle mirror or LoVT's `input` folder lay it out. The release carries no patients."""

    def open(self) -> None:
        self._base = self.folder_with("train.csv")
        subsets = [subset for subset in SUBSETS if subset != "test" or (self._base / "test.csv").exists()]
        self._rows: dict[str, _Row] = {}
        self.images: dict[str, Path] = {}
        self._n_unlisted = 0
        for subset in subsets:
            self._add(subset)
        self.release = self._name_release(subsets)

    def sample(self, sample_id: str) -> Sample:
        path, row = self.path_of(sample_id), self._rows[sample_id]
        boxes = released_boxes(row.shapes) if self.shapes == "released" else true_boxes(row.shapes)
        return Sample(
            id=sample_id,
            patient_id=None,
            image=partial(read_grey, path, sample_id, GreyRule.LUMA),
            masks=partial(self._masks, sample_id),
            boxes_xywh=boxes,
            box_labels=np.zeros(len(boxes), dtype=np.int64),
            files=(path,),
            positive=self._is_positive(sample_id),
        )

    def label_files(self) -> tuple[Path, ...]:
        return tuple(self._base / f"{subset}.csv" for subset in SUBSETS if (self._base / f"{subset}.csv").exists())

    def split(self, rule: SplitRule) -> Splits:
        """Training and validation from train.csv by scikit-learn's `train_test_split`; test is the official dev set in file order."""
        require_rule(rule, (RULE,), "seed", "validation_share", dataset=self.card.name)
        train, dev = self._ids_of("train"), self._ids_of("dev")
        if len(train) < 2:
            raise TooFewImages(f"{self.card.name}: train.csv lists {len(train)} images; a split into training and validation needs 2.")
        training, validation = train_test_split(train, test_size=rule.validation_share, random_state=rule.seed)
        splits = {"train": tuple(training), "validation": tuple(validation), "test": tuple(dev)}
        check_disjoint(splits)
        return splits

    def checks(self) -> Iterable[Check]:
        counts = self._counts()
        if self.phantom is not None:
            yield from phantom_checks(self.phantom, counts, self.ids)
        else:
            expected = {k: n for k, n in self.card.expected.items() if k in counts or not k.startswith("test")}
            yield from count_checks(expected, counts, "The file was edited or cut; fetch it again from the source in the dataset's card.")
            yield from split_checks(self, self._n_boxes, self._is_positive)
        yield tolerated(self.card, "boxes that start outside the image", sum(min(s.xyxy[:2]) < 0 for s in self._all_shapes()))
        yield self._check_frames()
        yield first_sample_check(self)
        yield tolerated(self.card, "images without a label row", self._n_unlisted)

    def _add(self, subset: str) -> None:
        table = read_table(self._base / f"{subset}.csv", self.card.name)
        rows = self._parse(subset, table)
        found = find_files(self._base / subset, ".jpg")
        self.images.update(locate(rows, found, self.card.name, table.path.name))
        self._rows.update(rows)
        unlisted = sorted(found.keys() - rows.keys())
        self._n_unlisted += len(unlisted)
        if unlisted:
            self.warnings.append(f"{self.card.name}: {len(unlisted)} images in {subset} have no row in {subset}.csv and are left out.")

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

    def _masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
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

    def _check_frames(self) -> Check:
        """Boxes against the sizes in the image headers. Images come in every size, so a resized copy shows nowhere else."""
        what, expected = "boxes that end outside the image", f"under {MOST_OUTSIDE:.0%} of boxes"
        n_outside = n_boxes = 0
        try:
            for sample_id, row in self._rows.items():
                if row.shapes:
                    height, width = size_of(self.images[sample_id], sample_id)
                    n_boxes += len(row.shapes)
                    n_outside += sum(s.xyxy[2] > width + EDGE or s.xyxy[3] > height + EDGE for s in row.shapes)
        except ImageError as error:
            return Check(what, expected, str(error), "error", "Unpack the images again.")
        if n_outside == 0:
            return Check(what, expected, "0", "ok")
        verdict: Verdict = "warning" if n_outside < MOST_OUTSIDE * n_boxes else "error"
        return Check(what, expected, f"{n_outside:,} of {n_boxes:,}", verdict, "Are the images resized? LOBE needs the original sizes.")

    def _n_boxes(self, sample_id: str) -> int:
        return len(self._rows[sample_id].shapes)

    def _is_positive(self, sample_id: str) -> bool:
        return self._n_boxes(sample_id) > 0

    def _ids_of(self, subset: str) -> list[str]:
        return [i for i, row in self._rows.items() if row.subset == subset]

    def _all_shapes(self) -> Iterator[Shape]:
        return (s for row in self._rows.values() if row.subset != "test" for s in row.shapes)

    def _counts(self) -> dict[str, int]:
        counts = {"images": len(self._rows), "positives": sum(map(self._is_positive, self._rows))}
        counts["boxes"] = sum(len(row.shapes) for row in self._rows.values())
        for subset in SUBSETS:
            listed = [row for row in self._rows.values() if row.subset == subset]
            if listed:
                counts[f"{subset}_images"] = len(listed)
                counts[f"{subset}_positives"] = sum(bool(row.shapes) for row in listed)
                counts[f"{subset}_boxes"] = sum(len(row.shapes) for row in listed)
        if self.phantom is not None:
            counts["patients"] = len(set(self.phantom_patients().values()))
        return counts

    def _name_release(self, subsets: Sequence[str]) -> str:
        if "test" in subsets:
            return "Kaggle mirror with test.csv"
        return "LoVT's layout (input folder)" if self._base.name == "input" else "original train and dev files"


def _shape(text: str, where: str) -> Shape:
    try:
        code, *numbers = (int(token) for token in text.split())
    except ValueError:
        raise DataError(f"{where}: {text.strip()[:40]!r} is not a list of whole numbers `kind x1 y1 x2 y2 ...`.") from None
    if code not in tuple(ShapeKind):
        raise DataError(f"{where}: kind {code}; expected 0 (rectangle), 1 (ellipse) or 2 (polygon).")
    kind = ShapeKind(code)
    if kind is ShapeKind.POLYGON:
        if len(numbers) < 6 or len(numbers) % 2:
            raise DataError(f"{where}: a polygon of {len(numbers)} numbers; expected at least three x y pairs.")
    elif len(numbers) != 4:
        raise DataError(f"{where}: {kind.name.lower()} with {len(numbers)} numbers; expected x1 y1 x2 y2.")
    shape = Shape(kind, np.array(numbers, dtype=np.int64).reshape(-1, 2))
    if kind is not ShapeKind.POLYGON and not (shape.points[0] < shape.points[1]).all():
        raise DataError(f"{where}: corners {tuple(numbers)} are not x1 < x2 and y1 < y2.")
    left, top, right, bottom = shape.xyxy
    if right == left or bottom == top:
        raise DataError(f"{where}: the polygon has no area (x {left} to {right}, y {top} to {bottom}).")
    return shape
