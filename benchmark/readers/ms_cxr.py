"""MS-CXR: phrases with boxes on images of MIMIC-CXR-JPG, for asking where an image is near to words. Nothing trains on them here.

The release holds tables and no image. Images are MIMIC-CXR-JPG's own files, in this folder or in the folder `mimic-cxr` beside it.
No id, path, patient, phrase or box ever enters an error message: a row is named by table and line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, SplitError
from benchmark.imaging.picture import size_of
from benchmark.readers.base import SPLITS, Check, Phrase, Sample, Verdict
from benchmark.readers.kit.boxes import require_size
from benchmark.readers.kit.checks import as_warning, check_of, release_checks
from benchmark.readers.kit.image_reader import UnnamedReader
from benchmark.readers.kit.splits import Splits, only_tested, require_rule
from benchmark.readers.kit.tables import Table, read_table, rows_by_name
from benchmark.readers.kit.unnamed import read_unnamed
from benchmark.readers.kit.walk import not_read
from benchmark.readers.mimic_cxr import image_base

TABLES = {"MS_CXR_Local_Alignment_v1.1.0.csv": "1.1.0", "MS_CXR_Local_Alignment_v1.0.0.csv": "0.1"}  # the file of release 0.1 says v1.0.0
TABLE_FOLDERS = ("", "ms-cxr", "ms-cxr/1.1.0", "ms-cxr/0.1", "1.1.0", "0.1")
COLUMNS = ("category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height", "dicom_id")
SPLIT = "split"
SPLIT_NAMES = {"train": "train", "val": "validation", "test": "test"}
ALL_RULE, COLUMN_RULE = "all phrases", "split column"

_PATH = re.compile(r"files/p(?P<group>\d{2})/p(?P<subject>\d{8})/s\d+/(?P<dicom>[0-9a-f-]+)\.jpg")


@dataclass(frozen=True)
class _Image:
    """Rows of one image. `about` must be the same in all of them; `phrases` are boxes by category and words, filled row by row."""

    line: int
    path: str
    subject: str
    about: tuple[object, ...]
    height: int
    width: int
    split: str | None
    phrases: dict[tuple[int, str], list[tuple[float, ...]]] = field(default_factory=dict)


class DatasetReader(UnnamedReader):
    """The table of either release over MIMIC-CXR-JPG's files. Ids are DICOM ids; patients are known."""

    listed_files = "images of the table"
    completeness = "Is this the whole of MIMIC-CXR-JPG? MS-CXR is not confined to one of its splits."

    def open(self) -> None:
        found = [self.root / folder / name for name in TABLES for folder in TABLE_FOLDERS if (self.root / folder / name).is_file()]
        if not found:
            raise DataError(
                f"{self.card.name}: {' or '.join(TABLES)} is neither in {self.root} nor in its ms-cxr/1.1.0. It is part of MS-CXR."
            )
        self._table = found[0]
        if len(found) > 1:
            self.warnings += [not_read(self.card.name, self._place(other), self._place(found[0])) for other in found[1:]]
        self.tables = (self._table,)
        self._rows = self._read(read_table(self._table, self.card.name))
        self.published_in = self._base = image_base(self.card.name, self.root, next(iter(self._rows.values())).path)
        self.images = {i: self._base / one.path for i, one in self._rows.items()}
        self.release = f"{TABLES[self._table.name]}, images of MIMIC-CXR-JPG"

    def sample(self, sample_id: str) -> Sample:
        sample, phrases = super().sample(sample_id), self._rows[sample_id].phrases
        boxes, labels = [np.array(listed, np.float64) for listed in phrases.values()], [label for label, _ in phrases]
        return replace(
            sample,
            boxes_xywh=np.concatenate(boxes),
            box_labels=np.repeat(np.array(labels, np.int64), [len(b) for b in boxes]),
            phrases=tuple(Phrase(text, b, self.card.classes[label]) for b, (label, text) in zip(boxes, phrases, strict=True)),
        )

    def patient_of(self, sample_id: str) -> str:
        return self._rows[sample_id].subject

    def is_positive(self, sample_id: str) -> bool:
        return True

    def where_of(self, sample_id: str) -> str:
        return self._where(self._rows[sample_id].line)

    def require_frame(self, sample_id: str, shape: tuple[int, ...]) -> None:
        one = self._rows[sample_id]
        require_size(shape, (one.height, one.width), self.where_of(sample_id))

    def named(self, path: Path) -> str:
        """Tables by name, images by their place in MIMIC-CXR-JPG: the same digest wherever both lie."""
        return path.name if path == self._table else path.relative_to(self._base).as_posix()

    def split(self, rule: SplitRule) -> Splits:
        """`all phrases`: everything is tested on, as before release 1.1.0. `split column`: the release's own, from 1.1.0 on."""
        if rule.rule == ALL_RULE:
            return only_tested(self.ids)
        require_rule(rule, (ALL_RULE, COLUMN_RULE), dataset=self.card.name)
        if not self._has_split:
            raise SplitError(
                f"{self.card.name}: {self._table.name} has no column {SPLIT}. Release 1.1.0 brought it; use the split all-phrases."
            )
        return {split: tuple(i for i, one in self._rows.items() if one.split == split) for split in SPLITS}

    def checks(self) -> Iterable[Check]:
        listed = self._rows.values()
        counts = {
            "images": len(listed),
            "phrases": sum(len(one.phrases) for one in listed),
            "boxes": sum(len(boxes) for one in listed for boxes in one.phrases.values()),
            "patients": len({one.subject for one in listed}),
        }
        if self._has_split:
            counts |= {f"{split}_images": sum(one.split == split for one in listed) for split in SPLITS}
        for check in release_checks(self, counts, "The table was edited or cut; fetch it again."):
            # Rows become phrases by equal image, finding and words, which nobody compared with the release's own count.
            counted_otherwise = self.phantom is None and check.what == "phrases"
            yield as_warning(check, "The release's page counts its pairs in its own way.") if counted_otherwise else check
        yield check_of("image sizes", "the sizes in the table", self._look_at_sizes, "Unpack MIMIC-CXR-JPG again.")

    def _look_at_sizes(self) -> tuple[str, Verdict, str]:
        """Every file's header against the table, then one image whole."""
        for sample_id, path in self.images.items():
            self.require_frame(sample_id, read_unnamed(size_of, path, self.where_of(sample_id)))
        self.image(self.ids[0])
        return f"all {len(self.images):,} agree, the first is readable", "ok", ""

    def _read(self, table: Table) -> dict[str, _Image]:
        self._has_split = SPLIT in map(str.strip, table.header)
        images: dict[str, _Image] = {}
        for line, row in rows_by_name(table, COLUMNS, self.card.name):
            one = self._image_of(row, line)
            known = images.setdefault(row["dicom_id"], one)
            if known.about != one.about:
                raise DataError(f"{self._where(line)}: another path, size or split of the image than in line {known.line:,}.")
            phrase, box = self._phrase_of(row, line), self._box_of(row, known, line)
            boxes = known.phrases.setdefault(phrase, [])
            if box in boxes:
                raise DataError(
                    f"{self._where(line)}: the same box of the same phrase a second time. Each box has one row; fetch it again."
                )
            boxes.append(box)
        return images

    def _image_of(self, row: Mapping[str, str], line: int) -> _Image:
        found = _PATH.fullmatch(row["path"])
        if found is None or found["group"] != found["subject"][:2]:
            raise DataError(f"{self._where(line)}: the path is none of MIMIC-CXR-JPG, files/p10/p10000000/s50000000/<dicom_id>.jpg.")
        if found["dicom"] != row["dicom_id"]:
            raise DataError(f"{self._where(line)}: path and dicom_id name different images.")
        height, width = (self._number(row, name, line) for name in ("image_height", "image_width"))
        if min(height, width) < 1 or height % 1 or width % 1:
            raise DataError(f"{self._where(line)}: image_width and image_height are not whole numbers above 0.")
        split = None
        if self._has_split:
            if row[SPLIT] not in SPLIT_NAMES:
                raise DataError(f"{self._where(line)}: the split is none of {', '.join(SPLIT_NAMES)}.")
            split = SPLIT_NAMES[row[SPLIT]]
        about = (row["path"], height, width, split)
        return _Image(line, row["path"], found["subject"], about, int(height), int(width), split)

    def _phrase_of(self, row: Mapping[str, str], line: int) -> tuple[int, str]:
        """Class index and words. What the cells say is not repeated: in a shifted row any cell may hold a phrase."""
        if row["category_name"] not in self.card.classes:
            raise DataError(f"{self._where(line)}: the category_name is none of {', '.join(self.card.classes)}.")
        if not row["label_text"]:
            raise DataError(f"{self._where(line)}: the label_text is empty; a phrase has words.")
        return self.card.classes.index(row["category_name"]), row["label_text"]

    def _box_of(self, row: Mapping[str, str], one: _Image, line: int) -> tuple[float, ...]:
        x, y, w, h = box = tuple(self._number(row, name, line) for name in "xywh")
        if w <= 0 or h <= 0:
            raise DataError(f"{self._where(line)}: the box has no area (w or h is not above 0).")
        beyond = [
            side
            for side, out in zip(("left", "top", "right", "bottom"), (x < 0, y < 0, x + w > one.width, y + h > one.height), strict=True)
            if out
        ]
        if beyond:
            raise DataError(
                f"{self._where(line)}: the box leaves its image ({', '.join(beyond)}). "
                "Were width and height exchanged, or boxes measured on a resized copy? Fetch the table again."
            )
        return box

    def _number(self, row: Mapping[str, str], name: str, line: int) -> float:
        try:
            value = float(row[name])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(f"{self._where(line)}: {name} is not a number.")
        return value

    def _place(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _where(self, line: int) -> str:
        return f"{self.card.name}: {self._table.name} line {line:,}"
