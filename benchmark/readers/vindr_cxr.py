"""VinDr-CXR (PhysioNet 1.0.0): boxes of radiologists in native pixels; three readers an image in training, their consensus in the test set.

Names of files and columns are recalled, not read in the release (docs/sources.md, VinDr-CXR); tables are therefore read by column name. The
Kaggle variant has no labelled test images and is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.errors import DataError, ImageError
from benchmark.imaging.dicom import read_windowed_dicom, size_of_dicom
from benchmark.readers.base import Check, Verdict
from benchmark.readers.kit.boxed import BoxedReader
from benchmark.readers.kit.boxes import numbers_of, xywh_of
from benchmark.readers.kit.checks import as_warning, check_of, first_sample_check, release_checks, split_checks, tolerated
from benchmark.readers.kit.fusion import fuse
from benchmark.readers.kit.tables import Table, read_table, rows_by_name
from benchmark.readers.kit.unnamed import read_unnamed

SUBSETS = ("train", "test")
TABLES = {"train": "annotations/annotations_train.csv", "test": "annotations/annotations_test.csv"}
KAGGLE_TABLE = "train.csv"
COLUMNS = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")
READER = "rad_id"  # the training table's; the test table has none, its boxes are a consensus
CONSENSUS = ""

NORMAL = "No finding"
READERS_PER_IMAGE = 3
# The 22 local labels less the 14 of the Kaggle variant, which the card's classes are. Their names are those public readers of the release
# use; not verified against it. Their boxes are left out and counted.
LEFT_OUT = frozenset(
    {"Clavicle fracture", "Edema", "Emphysema", "Enlarged PA", "Lung cavity", "Lung cyst", "Mediastinal shift", "Rib fracture"}
)
EDGE = 1.0  # pixels a box may leave its image by rounding; it is cut there

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class _Image:
    """Rows of one image while a table is read.

    Attributes:
        rows: every row once: reader, class, and corners (None for "No finding").
    """

    subset: str
    line: int
    rows: dict[tuple[str, str, tuple[float, ...] | None], int] = field(default_factory=dict)

    @property
    def readers(self) -> set[str]:
        return {reader for reader, _, _ in self.rows}

    @property
    def abnormal(self) -> bool:
        return any(name != NORMAL for _, name, _ in self.rows)


class DatasetReader(BoxedReader):
    """VinDr-CXR as PhysioNet lays it out. The release carries no patients. Boxes are those left after `fusion.fuse` in training, and the
    consensus in the test set."""

    view = "PA"  # all of the release

    def open(self) -> None:
        kaggle = f"It looks like the Kaggle variant ({KAGGLE_TABLE}), whose test images have no labels."
        self.published_in = base = self.folder_with(*TABLES.values(), look_alikes={KAGGLE_TABLE: kaggle})
        self.tables = tuple(base / TABLES[subset] for subset in SUBSETS)
        self._n_repeated = 0
        self._rows: dict[str, _Image] = {}
        for subset, path in zip(SUBSETS, self.tables, strict=True):
            self._read(subset, read_table(path, self.card.name))
        self.subset = {i: image.subset for i, image in self._rows.items()}
        self.images: dict[str, Path] = {}
        for subset in SUBSETS:
            listed_in = f"{TABLES[subset]} (folder {subset}, files ending in .dicom)"
            self.images |= self.find_listed(base / subset, ".dicom", self.ids_of(subset), TABLES[subset], listed_in)
        self.boxes = {i: self._fused(image) for i, image in self._rows.items()}
        self.release = "PhysioNet's layout"

    def checks(self) -> Iterable[Check]:
        yield from release_checks(self, self._counts(), "The file was edited or cut; fetch it again from PhysioNet.")
        hint = "The rule is BenchX's, on sorted ids. BenchX's own order is not known: it is neither that nor the order of Kaggle's table."
        for line in split_checks(self):
            yield as_warning(line, hint) if line.what.endswith((" train: ids", " validation: ids")) else line
        train = [image for image in self._rows.values() if image.subset == "train"]
        strange = sum(len(image.readers) != READERS_PER_IMAGE for image in train)
        yield tolerated(self.card, f"training images not read by {READERS_PER_IMAGE} readers", strange)
        # Whether the release has any is not known; they change nothing.
        yield Check("label rows that repeat another", "0", f"{self._n_repeated:,}", "warning" if self._n_repeated else "ok")
        yield tolerated(self.card, "images without a label row", self.n_unlisted)
        yield Check("boxes of classes that are not scored", "left out", f"{self._n_left_out:,}", "ok")
        yield check_of("images with a box that leaves them", "0", self._look_at_frames)
        yield first_sample_check(self)

    # ------------------------------------------------------------------------------------------------------------ reading

    def _read(self, subset: str, table: Table) -> None:
        for line, row in rows_by_name(table, (*COLUMNS, READER) if subset == "train" else COLUMNS, self.card.name):
            self._add(subset, line, row, f"{self.card.name}: {table.path.name} line {line:,}")

    def _add(self, subset: str, line: int, row: dict[str, str], where: str) -> None:
        sample_id, name, reader = row["image_id"], row["class_name"], row.get(READER, CONSENSUS)
        if not _ID.fullmatch(sample_id):
            raise DataError(f"{where}: the image_id is none of 32 hexadecimal digits.")
        if subset == "train" and not reader:
            raise DataError(f"{where}: {READER} is empty; every training row names its reader.")
        if name != NORMAL and name not in self.card.classes and name not in LEFT_OUT:
            raise DataError(f"{where}: class {name!r}; expected {NORMAL!r} or one of {', '.join((*self.card.classes, *sorted(LEFT_OUT)))}.")
        image = self._rows.setdefault(sample_id, _Image(subset, line))
        if image.subset != subset:
            raise DataError(f"{where}: the image is also in {TABLES[image.subset]}, line {image.line:,}. An image belongs to one of them.")
        entry = (reader, name, _corners([row[c] for c in COLUMNS[2:]], name, where))
        if entry in image.rows:
            self._n_repeated += 1
            return
        said = {other == NORMAL for one, other, _ in image.rows if one == reader}
        if said and said != {name == NORMAL}:
            who = f"reader {reader}" if reader else "the consensus"
            raise DataError(f"{where}: {who} says {NORMAL!r} and a finding of the same image, first in line {min(image.rows.values()):,}.")
        image.rows[entry] = line

    def _fused(self, image: _Image) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) float64 xywh and labels (n,) int64, by class."""
        boxes, labels = [np.zeros((0, 4))], [np.zeros(0, dtype=np.int64)]
        for label, name in enumerate(self.card.classes):
            rows = [(reader, corners) for reader, other, corners in image.rows if other == name]
            if not rows:
                continue
            corners = np.array([c for _, c in rows], dtype=np.float64)
            kept = fuse(corners, [reader for reader, _ in rows]) if image.subset == "train" else corners
            boxes.append(xywh_of(kept))
            labels.append(np.full(len(kept), label, dtype=np.int64))
        return np.concatenate(boxes), np.concatenate(labels)

    # ------------------------------------------------------------------------------------------------------------- images

    def decode(self, sample_id: str) -> np.ndarray:
        return read_unnamed(read_windowed_dicom, self.images[sample_id], self.where_of(sample_id)).pixels

    def where_of(self, sample_id: str) -> str:
        """The image by its first row: the agreement lets no id leave."""
        image = self._rows[sample_id]
        return f"{self.card.name}: {TABLES[image.subset]} line {image.line:,}"

    def require_frame(self, sample_id: str, shape: tuple[int, ...]) -> None:
        """Every row's own box, also of a class that is not scored: a mean of two may hide one that leaves the image."""
        outside = _first_outside(self._rows[sample_id], shape)
        if outside is not None:
            (_, name, (left, top, right, bottom)), line = outside
            raise ImageError(
                f"{self.card.name}: a {name} box (x {left:g} to {right:g}, y {top:g} to {bottom:g}) leaves the image of "
                f"{shape[0]:,} rows x {shape[1]:,} columns, {TABLES[self._rows[sample_id].subset]} line {line:,}. "
                "Boxes are in native pixels: was the image resized, or the table edited?"
            )

    def _look_at_frames(self) -> tuple[str, Verdict, str]:
        """Boxes against the sizes in the DICOM headers. Images come in every size, so a resized copy shows nowhere else."""
        boxed = {i: image for i, image in self._rows.items() if any(corners for _, _, corners in image.rows)}
        sizes = ((image, read_unnamed(size_of_dicom, self.images[i], self.where_of(i))) for i, image in boxed.items())
        n_outside = sum(_first_outside(image, size) is not None for image, size in sizes)
        hint = "Are the images resized? LOBE needs the original sizes." if n_outside else ""
        return f"{n_outside:,} of {len(boxed):,}", "error" if n_outside else "ok", hint

    # ------------------------------------------------------------------------------------------------------------- counts

    def kind_of(self, sample_id: str) -> str:
        """By all rows: a box of a class that is not scored is a finding too."""
        return "with a finding" if self._rows[sample_id].abnormal else "normal"

    @cached_property
    def _n_left_out(self) -> int:
        return sum(name in LEFT_OUT for image in self._rows.values() for _, name, _ in image.rows)

    def _counts(self) -> dict[str, int]:
        images = self._rows.values()
        counts = {
            "images": len(images),
            "positives": sum(map(self.is_positive, self.boxes)),
            "train_readers": len(set().union(*(image.readers for image in images if image.subset == "train"))),
        }
        counts["box_rows"] = sum(corners is not None for image in images for _, _, corners in image.rows)
        for subset in SUBSETS:
            counts[f"{subset}_images"] = len(self.ids_of(subset))
            counts[f"{subset}_normal"] = sum(not image.abnormal for image in images if image.subset == subset)
        return counts


def _first_outside(image: _Image, shape: Sequence[int]) -> tuple[tuple[str, str, tuple[float, ...]], int] | None:
    height, width = shape
    for (reader, name, corners), line in image.rows.items():
        if corners and (corners[2] > width + EDGE or corners[3] > height + EDGE):
            return (reader, name, corners), line
    return None


def _corners(cells: Sequence[str], name: str, where: str) -> tuple[float, ...] | None:
    """x_min, y_min, x_max, y_max; None for a row without a finding."""
    filled = sum(cell != "" for cell in cells)
    if name == NORMAL:
        if filled:
            raise DataError(f"{where}: {NORMAL!r} with coordinates {', '.join(cells)}; expected four empty cells.")
        return None
    corners = numbers_of(cells, f"x_min, y_min, x_max, y_max of {name}", where)
    if not (corners[0] < corners[2] and corners[1] < corners[3]):
        raise DataError(f"{where}: the {name} box {', '.join(cells)} is not x_min < x_max and y_min < y_max.")
    if min(corners) < 0:
        raise DataError(f"{where}: the {name} box {', '.join(cells)} starts outside the image. Is this an edited copy?")
    return corners
