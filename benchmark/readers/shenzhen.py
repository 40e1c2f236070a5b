"""Shenzhen: frontal radiographs with one mask of both lungs, drawn later by others. Nothing trains on it.

Images without a mask are left out.
"""

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
from benchmark.readers.kit.splits import Splits, only_tested, require_rule
from benchmark.readers.kit.tables import locate
from benchmark.readers.kit.walk import find_files

MASK_ENDING = "_mask"
RULE = "all with a mask"
AGAIN = "Fetch this file again."

_ID = re.compile(r"CHNCXR_\d{4}_[01]")


class DatasetReader(ImageReader):
    """PNG files of the set and of its masks, anywhere in the folder. An id is an image's stem, which ends with 1 for tuberculosis."""

    masked, drawn = True, "masks"

    def open(self) -> None:
        if self.card.classes != ("lungs",):
            raise DataError(f"{self.card.name}: the masks are of both lungs together; the card's one class is lungs.")
        files = find_files(self.root, ".png")
        images = {stem: paths for stem, paths in files.items() if _ID.fullmatch(stem)}
        masks = {stem.removesuffix(MASK_ENDING): paths for stem, paths in files.items() if stem.endswith(MASK_ENDING)}
        if not images or not masks:
            lacking = f"CHNCXR_0001_0{MASK_ENDING if images else ''}.png"
            raise DataError(f"{self.card.name}: no {lacking} in {self.root}. Images and masks come from two places; see the card.")
        ids = tuple(sorted(images.keys() & masks.keys()))
        strangers = len(masks.keys() - images.keys())
        if strangers or not ids:
            raise DataError(f"{self.card.name}: {strangers:,} of {len(masks):,} masks have no image. Is the set unpacked completely?")
        self.images = locate(ids, images, self.card.name, "CXR_png")
        self._masks = locate(ids, masks, self.card.name, "mask")
        self._n_images = len(images)
        self.tables = tuple(self._masks.values())
        if n_bare := self._n_images - len(ids):
            self.warnings.append(f"{self.card.name}: {n_bare:,} of {self._n_images:,} images have no mask and are left out.")
        self.release = "masks of both lungs together"

    def files_of(self, sample_id: str) -> tuple[Path, ...]:
        return (self.path_of(sample_id), self._masks[sample_id])

    def is_positive(self, sample_id: str) -> bool:
        return True  # every image shows lungs

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(1, H, W) bool."""
        mask = read_mask(self._masks[sample_id], sample_id)
        require_size(mask.shape, shape, self.where_of(sample_id), "mask", "image")
        return mask[None]

    def split(self, rule: SplitRule) -> Splits:
        require_rule(rule, (RULE,), dataset=self.card.name)
        return only_tested(self.ids)

    def checks(self) -> Iterable[Check]:
        counts = {"images": self._n_images, "masked_images": len(self.ids)}
        yield from release_checks(self, counts, "Were images and masks unpacked completely?")
        yield check_of("files", "masks of their image's size", self._look_at_sizes, AGAIN)
        yield first_sample_check(self)

    def _look_at_sizes(self) -> tuple[str, Verdict, str]:
        """By headers alone."""
        for sample_id, path in self.images.items():
            size = size_of(path, sample_id)
            require_size(size_of(self._masks[sample_id], sample_id), size, self.where_of(sample_id), "mask", "image")
        return f"all {len(self.images):,} agree", "ok", ""
