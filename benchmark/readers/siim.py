"""SIIM-ACR Pneumothorax: one mask per image, from a run-length table over a DICOM tree, or from the PNG re-release.

Where labels and where pictures come from are two questions, answered separately: a run-length table decides ids, their order and the masks
whenever there is one, because LoVT's split is a permutation of that order. The PNG re-release alone has the same images in another order.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, ImageError
from benchmark.imaging.dicom import read_dicom
from benchmark.imaging.picture import read_grey, read_mask
from benchmark.readers.base import Check
from benchmark.readers.kit.boxes import require_size
from benchmark.readers.kit.checks import as_warning, first_sample_check, release_checks, split_checks, tolerated
from benchmark.readers.kit.coded import CodedReader
from benchmark.readers.kit.holdout import SORTED_BALANCED, sorted_holdout_balanced
from benchmark.readers.kit.rle import EMPTY
from benchmark.readers.kit.splits import Splits, split_by_rule
from benchmark.readers.kit.tables import Table, cells_of, locate, read_table, require_columns
from benchmark.readers.kit.walk import find_files, not_read

SIDE = 1024  # every image and mask of the release, in pixels
RLE_TABLES = ("train-rle.csv", "stage_2_train.csv")
PNG_TABLES = ("stage_1_train_images.csv", "stage_1_test_images.csv")

MERGED, STAGE_1, STAGE_2, PNG = "merged stage 1 and 2", "stage 1", "stage 2", "PNG re-release"
UNLABELLED = "DICOM files without a label row"


class DatasetReader(CodedReader):
    """SIIM-ACR as the merged mirror, either competition stage, or the PNG re-release. The release carries no usable patient id."""

    side = SIDE

    def open(self) -> None:
        self._base = self.folder_with(*RLE_TABLES, *PNG_TABLES)
        self._png_names: dict[str, str] = {}
        self.codes = {}
        self._positive: dict[str, bool] = {}
        self.tables = tuple(self._base / name for name in PNG_TABLES if (self._base / name).exists())
        if self.tables:
            self._read_png_tables()
        rle = [self._base / name for name in RLE_TABLES if (self._base / name).exists()]
        self._coded = bool(rle)
        if self._coded:
            self.tables += (rle[0],)
            self._read_codes(read_table(rle[0], self.card.name))
        else:
            self.release = PNG
        if len(rle) > 1:
            self.warnings.append(not_read(self.card.name, rle[1].name, rle[0].name))
        self._find_images()

    def files_of(self, sample_id: str) -> tuple[Path, ...]:
        path = self.path_of(sample_id)
        return (path,) if self._coded else (path, self._mask_files[sample_id])

    def labels_of(self, sample_id: str) -> np.ndarray:
        return np.array([self.is_positive(sample_id)], np.int8)

    def image_files(self) -> tuple[Path, ...]:
        return (*self.images.values(), *self._mask_files.values())

    def split(self, rule: SplitRule) -> Splits:
        """LoVT's permutation, or the hold-out of sorted ids with a balanced training list."""
        if rule.rule == SORTED_BALANCED:
            return sorted_holdout_balanced(self.ids, rule, self.is_positive)
        return split_by_rule(self.ids, rule, patient_of=lambda _: None)

    def checks(self) -> Iterable[Check]:
        yield from release_checks(self, self._counts(), "The table was edited or cut; fetch it again.", self._expected())
        other_order = (
            f"The {self.release} release does not carry the order LoVT permuted: splits made from it are other splits. "
            "Put the merged train-rle.csv (12,954 rows) beside it."
        )
        for line in split_checks(self, positive=self.is_positive):
            yield as_warning(line, other_order) if self.release in (STAGE_1, PNG) else line
        if self._coded:
            yield self.check_codes()
        yield first_sample_check(self)
        yield tolerated(self.card, UNLABELLED, self._n_unlabelled)

    def _expected(self) -> dict[str, int]:
        """What the card states of this form of the release."""
        prefix = "stage_1_" if self.release == STAGE_1 else ""
        stated = {name: n for name, n in self.card.expected.items() if name.startswith("stage_1_") == bool(prefix)}
        found = {name.removeprefix(prefix): n for name, n in stated.items()}
        return found if self._coded else {name: n for name, n in found.items() if name in ("images", "positives")}

    def _read_codes(self, table: Table) -> None:
        require_columns(table, ("ImageId", "EncodedPixels"), self.card.name)
        codes: dict[str, list[tuple[int, str]]] = {}
        for line, (cell, code) in cells_of(table, 2, self.card.name):
            sample_id = cell.strip()
            if not sample_id:
                raise DataError(f"{self.card.name}: {table.path.name} line {line:,}: the ImageId is empty.")
            codes.setdefault(sample_id, []).append((line, code))
        self._rle_name = table.path.name
        self.codes = {i: self._masks_in(rows, i) for i, rows in codes.items()}
        self._positive = {i: bool(masks) for i, masks in self.codes.items()}
        self.release = _name_of(table)

    def _masks_in(self, rows: list[tuple[int, str]], sample_id: str) -> list[tuple[int, str]]:
        empty = [line for line, code in rows if code.strip() == EMPTY]
        if empty and len(rows) > 1:
            other = next((line for line, code in rows if code.strip() != EMPTY), None)
            what = f"a mask in line {other:,}" if other else f"-1 again in line {empty[1]:,}"
            raise DataError(f"{self.row_of(empty[0], sample_id)}: -1 here and {what}. An image has one row of -1, or only masks.")
        return [] if empty else rows

    def _read_png_tables(self) -> None:
        for path in self.tables:
            table = read_table(path, self.card.name)
            require_columns(table, ("new_filename", "ImageId", "has_pneumo"), self.card.name)
            for line, cells in cells_of(table, 3, self.card.name):
                name, sample_id, flag = (cell.strip() for cell in cells)
                where = f"{self.card.name}: {path.name} line {line:,} ({sample_id or 'no ImageId'})"
                if not sample_id or not name or flag not in ("0", "1"):
                    raise DataError(f"{where}: expected a file name, an ImageId and 0 or 1; found {name!r}, {sample_id!r}, {flag!r}.")
                if sample_id in self._positive:
                    raise DataError(f"{where}: the image is already listed. Each image has one row in one of {' and '.join(PNG_TABLES)}.")
                self._positive[sample_id] = flag == "1"
                self._png_names[sample_id] = Path(name).stem

    def _find_images(self) -> None:
        dicoms = find_files(self._base, ".dcm")
        listed_in = self.tables[-1].name
        self._n_unlabelled, self._n_test, self._mask_files = 0, 0, {}
        if dicoms and self._coded:
            self.images = locate(self._positive, dicoms, self.card.name, listed_in)
            if self._png_names and (self._base / "png_images").is_dir():
                self.warnings.append(not_read(self.card.name, "png_images", "the DICOM tree"))
            # Files of the official test set never have a row; only those of the training tree are worth a word.
            without_row = [paths[0] for i, paths in dicoms.items() if i not in self._positive]
            self._n_test = sum(map(self._in_test_tree, without_row))
            self._n_unlabelled = len(without_row) - self._n_test
            if self._n_unlabelled:
                self.warnings.append(f"{self.card.name}: {self._n_unlabelled:,} DICOM files have no row in {listed_in} and are left out.")
            return
        unnamed = [i for i in self._positive if i not in self._png_names]
        if unnamed:
            raise DataError(
                f"{self.card.name}: {len(unnamed):,} of {len(self._positive):,} images of {listed_in} have no file, for example "
                f"{', '.join(unnamed[:3])}. Expected dicom-images-train/<study>/<series>/<ImageId>.dcm."
            )
        self.images = self._pngs("png_images")
        if not self._coded:
            self._mask_files = self._pngs("png_masks")

    def _pngs(self, folder: str) -> dict[str, Path]:
        names = {i: self._png_names[i] for i in self._positive}
        paths = locate(names.values(), find_files(self._base / folder, ".png"), self.card.name, f"the tables (folder {folder})")
        return {i: paths[name] for i, name in names.items()}

    def _in_test_tree(self, path: Path) -> bool:
        return "test" in path.relative_to(self._base).parts[0]

    def decode(self, sample_id: str) -> np.ndarray:
        path = self.images[sample_id]
        return read_dicom(path, sample_id).pixels if path.suffix.lower() == ".dcm" else read_grey(path, sample_id)

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(1, 1024, 1024) bool from codes, which overlap in 183 images of the release, or of the mask file."""
        if self._coded:
            return super().masks(sample_id, shape)
        self.require_frame(sample_id, shape)
        mask = read_mask(self._mask_files[sample_id], sample_id)
        require_size(mask.shape, (SIDE, SIDE), self.where_of(sample_id), "mask", "masks")
        if mask.any() != self._positive[sample_id]:
            raise ImageError(
                f"{self._mask_files[sample_id]} (id {sample_id}): the mask is {'filled' if mask.any() else 'empty'}, "
                f"but has_pneumo says {int(self._positive[sample_id])}. Do png_masks and the tables belong together?"
            )
        return mask[None]

    def is_positive(self, sample_id: str) -> bool:
        return self._positive[sample_id]

    def row_of(self, line: int, sample_id: str) -> str:
        return f"{self.card.name}: {self._rle_name} line {line:,} ({sample_id})"

    def _counts(self) -> dict[str, int]:
        n_images, n_positive = len(self._positive), sum(map(self.is_positive, self._positive))
        counts = {"images": n_images, "positives": n_positive, "negatives": n_images - n_positive, "boxes": 0}
        if self._coded:
            counts["masks"] = sum(map(len, self.codes.values()))
            counts["label_rows"] = counts["masks"] + counts["negatives"]
            counts["files_without_row"], counts["unlabelled_images"] = self._n_unlabelled, self._n_test
        return counts


def _name_of(table: Table) -> str:
    """The three published variants of the run-length table differ in blanks only: after the comma of the header, and before values."""
    blank_in_header, blank_in_values = table.header[1].startswith(" "), table.rows[0][1][1].startswith(" ")
    if blank_in_values:
        return STAGE_1
    return MERGED if blank_in_header else STAGE_2
