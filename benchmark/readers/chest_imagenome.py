"""Chest ImaGenome's gold set: boxes of 29 anatomical places, drawn by hand, on 1,000 frontal images of MIMIC-CXR.

The silver set, 242,072 images whose boxes were found by a program, is not read. The release holds tables and no image: images are
MIMIC-CXR-JPG's own, in this folder or in the folder `mimic-cxr` beside it. No id, path or patient enters an error: a row is named by its
line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError
from benchmark.imaging.picture import size_of
from benchmark.readers.base import Check, Verdict
from benchmark.readers.kit.boxed import BoxedReader, boxes_of
from benchmark.readers.kit.boxes import numbers_of
from benchmark.readers.kit.checks import check_of, first_sample_check, release_checks, split_checks
from benchmark.readers.kit.image_reader import UnnamedReader
from benchmark.readers.kit.splits import Splits, by_patient, permutation_split, require_rule
from benchmark.readers.kit.tables import read_table, rows_by_name
from benchmark.readers.kit.unnamed import read_unnamed
from benchmark.readers.kit.walk import folders_in, the_one
from benchmark.readers.mimic_cxr import image_base

GOLD = "gold_dataset/gold_bbox_coordinate_annotations_1000images.csv"
RECORDS = "utils/cxr-record-list_view.csv"
CORNERS = ("original_x1", "original_y1", "original_x2", "original_y2")  # by name: the file's own order is x1, x2, y1, y2
RULE = "gold, patients permuted"
EDGE = 1.0  # pixels a box may leave its image by rounding

_PATH = re.compile(r"files/p\d{2}/p(?P<subject>\d{8})/s\d+/(?P<dicom>[0-9a-f-]+)(?:\.dcm|\.jpg)?")


class DatasetReader(UnnamedReader, BoxedReader):
    """Images of the gold table. An id is a DICOM id; patients are known."""

    listed_files = "images of the gold table"
    completeness = "Is this the whole of MIMIC-CXR-JPG? The gold set is not confined to one of its splits."

    def open(self) -> None:
        self._root_of_tables = base = self._tables_base()
        self.tables = (base / GOLD, base / RECORDS)
        self._line: dict[str, int] = {}
        self._n_repeated = self._n_left_out = 0
        listed = self._read_boxes(base / GOLD)
        self.boxes = {i: boxes_of(found) for i, found in listed.items()}
        self._subject: dict[str, str] = {}
        places = self._read_records(base / RECORDS)
        self._base = image_base(self.card.name, self.root, next(iter(places.values())))
        self.images = {i: self._base / places[i] for i in listed}
        self.subset = dict.fromkeys(listed, "gold")
        self.release = "gold set, images of MIMIC-CXR-JPG"

    def named(self, path: Path) -> str:
        """Tables and images by their places in the two releases: the same digest wherever both lie."""
        return path.relative_to(self._root_of_tables if path in self.tables else self._base).as_posix()

    def patient_of(self, sample_id: str) -> str:
        return self._subject[sample_id]

    def where_of(self, sample_id: str) -> str:
        return f"{self.card.name}: {Path(GOLD).name} line {self._line[sample_id]:,}"

    def split(self, rule: SplitRule) -> Splits:
        """LOBE's own, the gold set has none: sorted patients in random order, test first, then validation; all others train."""
        numbers = require_rule(rule, (RULE,), "seed", "validation_share", "test_share", dataset=self.card.name)
        images = by_patient(self.images, self.patient_of)
        drawn = permutation_split(sorted(images), numbers.seed, numbers.validation_share, numbers.test_share)
        return {name: tuple(i for patient in patients for i in images[patient]) for name, patients in drawn.items()}

    def checks(self) -> Iterable[Check]:
        counts = {
            "images": len(self.images),
            "patients": len(set(self._subject.values())),
            "boxes": sum(map(self.n_boxes, self.images)),
            "box_rows": sum(map(self.n_boxes, self.images)) + self._n_repeated + self._n_left_out,
        }
        yield from release_checks(self, counts, "The table was edited or cut; fetch it again.")
        yield from split_checks(self, self.n_boxes, patient_of=self.patient_of)
        left_out: Verdict = "warning" if self._n_left_out else "ok"
        yield Check("rows of places that the card does not name", "left out", f"{self._n_left_out:,}", left_out)
        yield Check("rows that repeat another", "0", f"{self._n_repeated:,}", "warning" if self._n_repeated else "ok")
        yield check_of("images with a box that leaves them", "0", self._look_at_frames)
        yield first_sample_check(self)

    # ------------------------------------------------------------------------------------------------------------ reading

    def _tables_base(self) -> Path:
        below = folders_in(self.root)
        places = (self.root, *below, *(deeper for folder in below for deeper in folders_in(folder)))
        found = the_one(self.card.name, Path(GOLD).name, (folder for folder in places if (folder / GOLD).is_file()))
        if found is None:
            raise DataError(f"{self.card.name}: {GOLD} is missing in {self.root}. Expected {', '.join(self.card.files)}.")
        return found

    def _read_boxes(self, path: Path) -> dict[str, list[tuple[int, tuple[float, ...]]]]:
        found: dict[str, list[tuple[int, tuple[float, ...]]]] = {}
        for line, row in rows_by_name(read_table(path, self.card.name), ("image_id", "bbox_name", *CORNERS), self.card.name):
            where = f"{self.card.name}: {path.name} line {line:,}"
            sample_id = row["image_id"].removesuffix(".dcm")
            listed = found.setdefault(sample_id, [])
            self._line.setdefault(sample_id, line)
            if row["bbox_name"] not in self.card.classes:
                self._n_left_out += 1
                continue
            left, top, right, bottom = numbers_of([row[name] for name in CORNERS], ", ".join(CORNERS), where)
            if not (-EDGE <= left < right and -EDGE <= top < bottom):
                raise DataError(f"{where}: not left < right and top < bottom, from 0 on. Were x and y exchanged, or the columns shifted?")
            left, top = max(left, 0.0), max(top, 0.0)
            box = self.card.classes.index(row["bbox_name"]), (left, top, right - left, bottom - top)
            if box in listed:
                self._n_repeated += 1
            else:
                listed.append(box)
        return found

    def _read_records(self, path: Path) -> dict[str, str]:
        """Place of each image of the gold table in MIMIC-CXR-JPG; the release lists all of MIMIC-CXR here."""
        found: dict[str, str] = {}
        for line, row in rows_by_name(read_table(path, self.card.name), ("dicom_id", "path"), self.card.name):
            if row["dicom_id"] not in self._line:
                continue
            named = _PATH.fullmatch(row["path"])
            if named is None or named["dicom"] != row["dicom_id"]:
                where = f"{self.card.name}: {path.name} line {line:,}"
                raise DataError(f"{where}: the path is none of MIMIC-CXR, files/p10/p10000000/s50000000/<id>.dcm.")
            found[row["dicom_id"]] = f"{row['path'].removesuffix('.dcm').removesuffix('.jpg')}.jpg"
            self._subject[row["dicom_id"]] = named["subject"]
        if missing := len(self._line.keys() - found.keys()):
            raise DataError(f"{self.card.name}: {missing:,} of {len(self._line):,} images of {Path(GOLD).name} have no row in {path.name}.")
        return found

    def _look_at_frames(self) -> tuple[str, Verdict, str]:
        """Every file's header against its boxes: they are measured on the original, so a resized copy shows."""
        n = 0
        for sample_id, path in self.images.items():
            height, width = read_unnamed(size_of, path, self.where_of(sample_id))
            ends = self.boxes[sample_id][0][:, :2] + self.boxes[sample_id][0][:, 2:]
            n += bool(len(ends)) and bool((ends > np.array([width, height]) + EDGE).any())
        return f"{n:,}", "error" if n else "ok", "Are these MIMIC-CXR-JPG's own files, or resized copies?" if n else ""
