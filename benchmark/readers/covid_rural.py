"""COVID Rural: opacity masks over JPEG radiographs of the COVID-19-AR collection.

The folder holds more radiographs than annotations: an image counts only when it has a mask file or a LabelMe file. Splits follow LoVT's
patient lists, because LoVT's own rule depended on the order of an unsorted directory listing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, ImageError
from benchmark.imaging.picture import GreyRule, read_mask, size_of
from benchmark.readers.base import Check, Verdict
from benchmark.readers.kit.checks import check_of, made_splits, release_checks, split_checks, tolerated
from benchmark.readers.kit.image_reader import ImageReader
from benchmark.readers.kit.splits import Splits, split_by_rule
from benchmark.readers.kit.tables import locate
from benchmark.readers.kit.walk import find_files, first_folder_with

ANNOTATED = "covid_rural_annot"
IMAGES, OUTLINES, MASKS = "jpgs", "jsons", "pngs_masks"
WITHOUT_MASK = "images without a mask file"


class DatasetReader(ImageReader):
    """The annotation repository, opened at its top folder, around it, or at `covid_rural_annot` itself."""

    grey, masked = GreyRule.MEAN, True

    def open(self) -> None:
        base = first_folder_with(self.root, (IMAGES, ANNOTATED), self.card.name)
        if base is not None and not (base / IMAGES).is_dir():
            base /= ANNOTATED
        if base is None or not (base / IMAGES).is_dir() or not (base / MASKS).is_dir():
            raise DataError(
                f"{self.card.name}: no {ANNOTATED}/{IMAGES} and {ANNOTATED}/{MASKS} in {self.root}. Unpack the whole repository there: "
                f"{self.card.source}."
            )
        masks = find_files(base / MASKS, ".png")
        self._mask_files = locate(masks, masks, self.card.name, MASKS)
        self.tables = tuple(self._mask_files.values())
        outlines = find_files(base / IMAGES / OUTLINES, ".json")
        ids = sorted({*self._mask_files, *outlines})
        if not ids:
            raise DataError(f"{self.card.name}: no mask in {base / MASKS}, no outline in {base / IMAGES / OUTLINES}. Is the copy complete?")
        jpegs = find_files(base / IMAGES, ".jpg")
        self._n_jpegs = len(jpegs)
        self.images = locate(ids, jpegs, self.card.name, f"{MASKS} and {IMAGES}/{OUTLINES}")
        self.release = "annotation repository, default branch"
        self._unmasked = tuple(i for i in ids if i not in self._mask_files)
        if self._unmasked:
            self.warnings.append(
                f"{self.card.name}: {len(self._unmasked)} of {len(ids)} annotated images are without a mask file and count as all "
                "background."
            )

    def files_of(self, sample_id: str) -> tuple[Path, ...]:
        mask = self._mask_files.get(sample_id)
        return (self.path_of(sample_id), *([] if mask is None else [mask]))

    def patient_of(self, sample_id: str) -> str:
        """The text before the first underscore: COVID-19-AR-<8 digits>_<date>-XR."""
        return sample_id.split("_", 1)[0]

    def is_positive(self, sample_id: str) -> bool | None:
        """Of an image with a mask file only that file tells."""
        return None if sample_id in self._mask_files else False

    def split(self, rule: SplitRule) -> Splits:
        """Patients in the order of the card's lists, a patient's images by name; of the lists, only what the folder holds."""
        return split_by_rule(self.ids, rule, self.patient_of)

    def checks(self) -> Iterable[Check]:
        counts = {
            "images": len(self.images),
            "patients": len({self.patient_of(i) for i in self.images}),
            "masks": len(self._mask_files),
            "jpegs": self._n_jpegs,
            "boxes": 0,
        }
        if self.phantom is not None:
            # Opens every mask: only a phantom states how many are not empty.
            counts["positives"] = sum(bool(read_mask(path, i).any()) for i, path in self._mask_files.items())
        yield from release_checks(self, counts, "Was the repository unpacked completely?")
        yield from split_checks(self, patient_of=self.patient_of)
        for name, _, splits in made_splits(self) if self.phantom is None else ():
            left = len(self.images) - sum(map(len, splits.values()))
            hint = "Their patients are not in the card's lists." if left else ""
            yield Check(f"{name} images in no split", "0", f"{left:,}", "error" if left else "ok", hint)
        yield tolerated(self.card, WITHOUT_MASK, len(self._unmasked))
        yield check_of("masks", "the size of their images", self._look_at_sizes, "Fetch this file again.")

    def _look_at_sizes(self) -> tuple[str, Verdict, str]:
        """Mask and image sizes by their headers alone."""
        for sample_id, path in self._mask_files.items():
            mask, image = size_of(path, sample_id), size_of(self.images[sample_id], sample_id)
            if mask != image:
                return _sizes(sample_id, mask, image), "error", "Do jpgs and pngs_masks belong together?"
        return f"all {len(self._mask_files):,} agree", "ok", ""

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(1, H, W) bool, all background without a mask file. Raises ImageError when the mask is not of the image's size."""
        path = self._mask_files.get(sample_id)
        if path is None:
            return np.zeros((1, *shape), dtype=bool)
        mask = read_mask(path, sample_id)
        if mask.shape != tuple(shape):
            raise ImageError(f"{path}: {_sizes(sample_id, mask.shape, shape)}. Do jpgs and pngs_masks belong together?")
        return mask[None]


def _sizes(sample_id: str, mask: tuple[int, ...], image: tuple[int, ...]) -> str:
    return f"the mask of {sample_id} has {mask[0]:,} rows x {mask[1]:,} columns, its image {image[0]:,} x {image[1]:,}"
