"""Your own images with masks as pictures: one file for all, or one for each class. The card's block is `MaskData`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmark.cards.own_data import MaskData
from benchmark.errors import DataError, ImageError
from benchmark.imaging.picture import read_levels
from benchmark.readers.kit.boxes import require_size
from benchmark.readers.kit.own import OwnReader
from benchmark.readers.kit.own_images import filled_in, header_size
from benchmark.readers.kit.walk import files_in

MASK_ENDINGS = (".png", ".tif", ".tiff", ".gif", ".bmp")


class DatasetReader(OwnReader[MaskData]):
    """Masks found by the card's pattern. Everything but zero is the mask, unless the card says which values mean which class."""

    masked = True
    looked_for = (
        "images that cannot be opened",
        "images without a mask",
        "images without a mask of every class",
        "masks without an image",
        "masks of another size than their image",
    )

    def read(self) -> Mapping[str, Path]:
        self._require_classes()
        self._in_folder: dict[Path, dict[str, list[Path]]] = {}
        self._masks: dict[str, dict[str, Path]] = {}  # id -> class, or "" for all -> file
        everything = self.image_files_in(self.own.images)
        found = {place: self._masks_of(place) for place in everything.paths}
        masks = {path for by_class in found.values() for path in by_class.values()}
        pictures = {place: path for place, path in everything.paths.items() if path not in masks}
        if not masks:
            raise DataError(
                f"{self.card.name}: no image has a mask at {self.own.masks} ({', '.join(MASK_ENDINGS)}) in {self.root}, which the card "
                "names in `masks.masks`."
            )
        there = {path for by_stem in self._in_folder.values() for listed in by_stem.values() for path in listed}
        strangers = there - masks - set(pictures.values())
        for path in sorted(strangers):
            self.odd.add("masks without an image", path.relative_to(self.root).as_posix() if self.names_files else "a file")
        return {place: path for place, path in pictures.items() if self._is_usable(place, path, found[place])}

    def files_of(self, sample_id: str) -> tuple[Path, ...]:
        return (self.path_of(sample_id), *self.labels_beside(sample_id))

    def labels_beside(self, place: str) -> tuple[Path, ...]:
        return tuple(self._masks[place].values())

    def is_positive(self, sample_id: str) -> bool | None:
        """False where there is no file; what a file holds, only decoding tells."""
        return None if self._masks[sample_id] else False

    def counts(self) -> dict[str, int]:
        return {"images with a mask file": sum(bool(self._masks[i]) for i in self.images)}

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(C, H, W) bool. Raises ImageError for a mask of another size, or a value that the card does not know."""
        made = np.zeros((len(self.card.classes), *shape), bool)
        for name, path in self._masks[sample_id].items():
            where = f"{path} (id {sample_id})"
            levels = read_levels(path, sample_id, zero_is_background=not self.own.values)
            require_size(levels.shape, shape, where, "mask", "masks")
            if self.own.values:
                self._require_known(levels, where)
                for channel, class_ in enumerate(self.card.classes):
                    values = self.own.values[class_]
                    made[channel] |= np.isin(levels, (values,) if isinstance(values, int) else values)
            else:
                made[self.card.classes.index(name) if name else 0] |= levels > 0
        return made

    # ------------------------------------------------------------------------------------------------------------- private

    def _require_known(self, levels: np.ndarray, where: str) -> None:
        listed = [value for values in self.own.values.values() for value in ((values,) if isinstance(values, int) else values)]
        strange = np.setdiff1d(levels, (0, *listed, *self.own.background))
        if strange.size:
            raise ImageError(
                f"{where}: the mask has the value {strange[0]}, of which the card says nothing. `masks.values` knows "
                f"{', '.join(map(str, sorted(listed)))}; a value that means no class goes under `masks.background`."
            )

    def _require_classes(self) -> None:
        classes = self.card.classes
        if self.own.values and set(self.own.values) != set(classes):
            raise DataError(
                f"{self.card.name}: `masks.values` names {', '.join(self.own.values)}, and the card's classes are {', '.join(classes)}. "
                "Every class has its value."
            )
        if not self.own.values and "{class}" not in self.own.masks and len(classes) != 1:
            raise DataError(
                f"{self.card.name}: {len(classes)} classes and one mask file an image. Say which value means which class in "
                "`masks.values`, or put {class} into `masks.masks` for a file each."
            )

    def _masks_of(self, place: str) -> dict[str, Path]:
        names = self.card.classes if "{class}" in self.own.masks else ("",)
        found = {name: self._file(filled_in(self.own.masks, place, name), place) for name in names}
        return {name: path for name, path in found.items() if path is not None}

    def _file(self, stem: str, image: str) -> Path | None:
        """The mask file of that name without its ending. Raises DataError for two, which may differ."""
        folder, _, name = stem.rpartition("/")
        place = self.root / folder
        if place not in self._in_folder:
            by_stem = self._in_folder[place] = {}
            for path in files_in(place):
                if path.suffix.lower() in MASK_ENDINGS:
                    by_stem.setdefault(path.stem, []).append(path)
        listed = self._in_folder[place].get(name, [])
        if len(listed) > 1:
            names = " and ".join(path.name if self.names_files else f"a {path.suffix}" for path in listed)
            where = folder or "the dataset's folder" if self.names_files else f"the folder of masks of {self.called(image)}"
            raise DataError(f"{self.card.name}: {names} are masks of one name in {where}. Keep one, they may differ.")
        return listed[0] if listed else None

    def _is_usable(self, place: str, path: Path, masks: dict[str, Path]) -> bool:
        size = self.usable(place, path)
        if size is None:
            return False
        n_expected = len(self.card.classes) if "{class}" in self.own.masks else 1
        if len(masks) < n_expected:
            self.odd.add("images without a mask of every class" if masks else "images without a mask", self.called(place))
            if self.own.without_mask == "left out":
                if masks:
                    self.read_anew.add("masks of every class")
                return False
        for mask in masks.values():
            drawn = header_size(mask, place)
            if drawn != size:
                other = "not readable" if drawn is None else f"{drawn[1]} x {drawn[0]}"
                self.odd.add("masks of another size than their image", f"{self.called(place)}, mask {other}, image {size[1]} x {size[0]}")
                return False
        self._masks[place] = masks
        return True
