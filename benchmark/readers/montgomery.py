"""Montgomery: 138 frontal radiographs of a tuberculosis programme, with one mask of each lung by hand; no official split."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError
from benchmark.imaging.picture import read_mask, size_of
from benchmark.readers.base import Check, Verdict
from benchmark.readers.kit.boxes import require_size
from benchmark.readers.kit.checks import check_of, first_sample_check, release_checks
from benchmark.readers.kit.image_reader import ImageReader
from benchmark.readers.kit.splits import Splits, split_by_rule
from benchmark.readers.kit.tables import locate
from benchmark.readers.kit.walk import walk

FOLDERS = {"left lung": "leftMask", "right lung": "rightMask"}  # class -> folder: the patient's sides
AGAIN = "Fetch this file again."

_ID = re.compile(r"MCUCXR_\d{4}_[01]")


class DatasetReader(ImageReader):
    """PNG files of the set, anywhere in the folder. An id is a file's stem, which ends with 1 for tuberculosis; patients are not known."""

    masked, drawn = True, "masks"

    def open(self) -> None:
        foreign = [name for name in self.card.classes if name not in FOLDERS]
        if foreign:
            raise DataError(f"{self.card.name}: class {foreign[0]!r} of the card is none of {', '.join(FOLDERS)}.")
        found: dict[str, dict[str, tuple[Path, ...]]] = {}
        for path in walk(self.root):
            if path.suffix.lower() == ".png" and _ID.fullmatch(path.stem):
                place = path.parent.name if path.parent.name in FOLDERS.values() else "image"
                listed = found.setdefault(place, {})
                listed[path.stem] = (*listed.get(path.stem, ()), path)
        images = found.get("image", {})
        if not images:
            raise DataError(f"{self.card.name}: no MCUCXR_0001_0.png in {self.root}. Unpack MontgomerySet there.")
        ids = tuple(sorted(images))
        self.images = locate(ids, images, self.card.name, "CXR_png")
        self._masks = {name: locate(ids, found.get(folder, {}), self.card.name, folder) for name, folder in FOLDERS.items()}
        self.tables = tuple(path for files in self._masks.values() for path in files.values())
        self.release = "masks of both lungs"

    def files_of(self, sample_id: str) -> tuple[Path, ...]:
        return (self.path_of(sample_id), *(self._masks[name][sample_id] for name in self.card.classes))

    def is_positive(self, sample_id: str) -> bool:
        return True  # every image shows lungs

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(C, H, W) bool."""
        masks = []
        for name in self.card.classes:
            mask = read_mask(self._masks[name][sample_id], f"{sample_id}, {name}")
            require_size(mask.shape, shape, f"{self.where_of(sample_id)}, {name}", "mask", "image")
            masks.append(mask)
        return np.stack(masks)

    def split(self, rule: SplitRule) -> Splits:
        return split_by_rule(self.ids, rule, self.patient_of)

    def checks(self) -> Iterable[Check]:
        tuberculosis = sum(i.endswith("1") for i in self.ids)
        counts = {"images": len(self.ids), "tuberculosis_images": tuberculosis, "normal_images": len(self.ids) - tuberculosis}
        yield from release_checks(self, counts, "Was the set unpacked completely?")
        yield check_of("files", "masks of their image's size", self._look_at_sizes, AGAIN)
        yield first_sample_check(self)

    def _look_at_sizes(self) -> tuple[str, Verdict, str]:
        """By headers alone."""
        for sample_id, path in self.images.items():
            size = size_of(path, sample_id)
            for name in self.card.classes:
                require_size(size_of(self._masks[name][sample_id], sample_id), size, f"{self.where_of(sample_id)}, {name}", "mask", "image")
        return f"all {len(self.images):,} agree", "ok", ""
