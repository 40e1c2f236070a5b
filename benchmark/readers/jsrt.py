"""JSRT with SCR's outlines: raw 12-bit radiographs, and masks of lungs and heart from two folds.

Images and masks come from two publishers and meet by file name. Clavicles, landmarks, the second observer and JSRT's nodule list are not
read. SCR may not be passed on, so no error names a file: an image is told by its place in the order of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, ImageError, LobeError, PartialRelease, SplitError
from benchmark.imaging.picture import read_mask, size_of
from benchmark.readers.base import Check, Reader, Sample
from benchmark.readers.checks import count_checks, phantom_checks
from benchmark.readers.holdout import hold_out
from benchmark.readers.splits import Splits
from benchmark.readers.tables import find_files, first_folder_with
from benchmark.readers.unnamed import read_unnamed

SIDE = 2048  # rows and columns of every image
N_BYTES = 2 * SIDE * SIDE  # 16-bit big-endian, no header
WHITEST = 4095  # 12 bits
MASK_SIDE = 1024
FOLDS = ("fold1", "fold2")
STRUCTURES = {"lungs": ("left lung", "right lung"), "heart": ("heart",)}  # class -> folders whose union it is
RULE = "train on fold 1", "train on fold 2"

_ID = re.compile(r"JPC(LN|NN)\d{3}")


class DatasetReader(Reader):
    """JSRT's .IMG files anywhere in the folder, SCR's fold1 and fold2 at its top or one folder down. Patients are unknown."""

    def open(self) -> None:
        unknown = [name for name in self.card.classes if name not in STRUCTURES]
        if unknown:
            raise DataError(f"{self.card.name}: class {unknown[0]!r} of the card is none of {', '.join(STRUCTURES)}.")
        files = {stem: paths for stem, paths in find_files(self.root, ".img").items() if _ID.fullmatch(stem)}
        if not files:
            raise DataError(f"{self.card.name}: no JPCLN or JPCNN file ending in .IMG in {self.root}. Unpack JSRT's images there.")
        twice = sum(len(paths) > 1 for paths in files.values())
        if twice:
            raise DataError(f"{self.card.name}: {twice} of {len(files)} images exist twice in {self.root}. Remove one copy of each.")
        self._images = {stem: files[stem][0] for stem in sorted(files)}
        self._place = {stem: place for place, stem in enumerate(self._images, start=1)}
        self._find_masks()
        self.release = "raw images, outlines in two folds"

    @property
    def ids(self) -> tuple[str, ...]:
        """File names without their ending, sorted: JPCLN (with a nodule) before JPCNN."""
        return tuple(self._images)

    def sample(self, sample_id: str) -> Sample:
        if sample_id not in self._images:
            raise DataError(f"{self.card.name}: an id that is no image of {self.root} was asked for.")
        return Sample(
            id=sample_id,
            patient_id=None,
            image=partial(self._image, sample_id),
            masks=partial(self._masks, sample_id),
            boxes_xywh=np.zeros((0, 4)),
            box_labels=np.zeros(0, np.int64),
            files=(self._images[sample_id], *(path for paths in self._mask_files[sample_id].values() for path in paths)),
            positive=True,
        )

    def label_files(self) -> tuple[Path, ...]:
        return tuple(path for masks in self._mask_files.values() for paths in masks.values() for path in paths)

    def image_files(self) -> tuple[Path, ...]:
        return tuple(self._images.values())

    def split(self, rule: SplitRule) -> Splits:
        """SCR's two-fold cross-validation, one direction: one fold trains, the other tests; of the training fold a share validates.

        The folds are those the masks lie in. The validation share is drawn with the rule's seed from the training fold's sorted names.
        """
        if rule.rule not in RULE:
            raise SplitError(f"{self.card.name}: split rules are {' and '.join(map(repr, RULE))}; found {rule.rule!r}.")
        if rule.seed is None or rule.validation_share is None:
            raise SplitError(f"Split rule {rule.rule!r} needs seed and validation_share; mend the dataset card.")
        trained = FOLDS[RULE.index(rule.rule)]
        members = [i for i in self._images if self._fold[i] == trained]
        train, validation = hold_out(members, round(rule.validation_share * len(members)), rule.seed)
        return {"train": tuple(train), "validation": tuple(validation), "test": tuple(i for i in self._images if self._fold[i] != trained)}

    def checks(self) -> Iterable[Check]:
        counts = {
            "images": len(self._images),
            "nodule_images": sum(i.startswith("JPCLN") for i in self._images),
            "images_without_nodule": sum(i.startswith("JPCNN") for i in self._images),
        }
        counts |= {f"{fold}_images": sum(found == fold for found in self._fold.values()) for fold in FOLDS}
        if self.phantom is not None:
            yield from phantom_checks(self.phantom, counts, self.ids)
        else:
            yield from count_checks(self.card.expected, counts, "Were both JSRT and SCR unpacked completely?")
        odd = sum((int(i[-3:]) % 2 == 1) == (self._fold[i] == "fold1") for i in self._images)
        # As recollected, not verified: the folders decide, this only tells.
        verdict = "ok" if odd == len(self._images) else "warning"
        yield Check("odd file numbers in fold1, even in fold2", f"{len(self._images):,}", f"{odd:,}", verdict)
        yield self._check_files()

    def _check_files(self) -> Check:
        """Sizes of all files by their headers or lengths, then one image and its masks whole."""
        expected = f"{N_BYTES:,} bytes an image, masks of {MASK_SIDE} x {MASK_SIDE}"
        try:
            for sample_id, path in self._images.items():
                self._require_bytes(sample_id, path.stat().st_size)
                for structure, paths in self._mask_files[sample_id].items():
                    for mask in paths:
                        where = self._where(sample_id, structure)
                        self._require_mask_size(read_unnamed(size_of, mask, where), where)
            sample = self.sample(self.ids[0])
            filled = sample.masks(sample.image().shape).any(axis=(1, 2)).all()
        except LobeError as error:
            return Check("files", expected, str(error), "error", "Fetch this file again.")
        if not filled:
            return Check("files", expected, "a mask of the first image is empty", "error", "Every image shows lungs and a heart.")
        return Check("files", expected, f"all {len(self._images):,} agree, the first is readable", "ok")

    def _image(self, sample_id: str) -> np.ndarray:
        """(2048, 2048) uint16 of 12 bits. Stored values are largest where film is blackest, so they are inverted: larger is brighter."""
        where, path = self._where(sample_id), self._images[sample_id]
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ImageError(f"{where}: the file cannot be read ({error.strerror}). Is the image folder complete?") from None
        self._require_bytes(sample_id, len(raw))
        stored = np.frombuffer(raw, ">u2").reshape(SIDE, SIDE)
        if stored.max() > WHITEST:
            raise ImageError(
                f"{where}: a pixel of {stored.max():,}, above {WHITEST:,}. The release stores 12 bits in big-endian words: "
                "were the bytes swapped?"
            )
        return (WHITEST - stored).astype(np.uint16)

    def _masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(C, 2048, 2048) bool: each pixel of SCR's masks is a square of two by two of the image."""
        if tuple(shape) != (SIDE, SIDE):
            raise ImageError(
                f"{self._where(sample_id)}: an image of {shape[0]:,} x {shape[1]:,} pixels; outlines belong to {SIDE} x {SIDE}."
            )
        masks = np.zeros((len(self.card.classes), MASK_SIDE, MASK_SIDE), bool)
        for channel, name in enumerate(self.card.classes):
            for path in self._mask_files[sample_id][name]:
                where = self._where(sample_id, name)
                mask = read_unnamed(read_mask, path, where)
                self._require_mask_size(mask.shape, where)
                masks[channel] |= mask
        factor = SIDE // MASK_SIDE
        return masks.repeat(factor, axis=1).repeat(factor, axis=2)

    def _find_masks(self) -> None:
        base = first_folder_with(self.root, FOLDS)
        if base is None or not all((base / fold / "masks").is_dir() for fold in FOLDS):
            raise DataError(f"{self.card.name}: no fold1/masks and fold2/masks in {self.root}. Unpack SCR's zip there.")
        found: dict[str, dict[str, dict[str, Path]]] = {}  # id -> fold -> folder -> file
        for fold in FOLDS:
            for folder in (folder for folders in STRUCTURES.values() for folder in folders):
                for stem, paths in find_files(base / fold / "masks" / folder, ".gif").items():
                    found.setdefault(stem, {}).setdefault(fold, {})[folder] = paths[0]
        strangers = len(found.keys() - self._images.keys())
        if strangers:
            raise PartialRelease(
                f"{self.card.name}: {strangers} of {len(found)} outlined images have no .IMG file. Is JSRT unpacked completely?"
            )
        self._fold: dict[str, str] = {}
        self._mask_files: dict[str, dict[str, tuple[Path, ...]]] = {}
        for sample_id in self._images:
            folds = found.get(sample_id, {})
            if len(folds) > 1:
                raise DataError(f"{self._where(sample_id)}: masks in both folds. It would train and test; remove one copy.")
            by_folder = next(iter(folds.values()), {})
            missing = [f for folders in STRUCTURES.values() for f in folders if f not in by_folder]
            if missing:
                raise DataError(f"{self._where(sample_id)}: no mask in {' or '.join(f'{fold}/masks/{missing[0]}' for fold in FOLDS)}.")
            self._fold[sample_id] = next(iter(folds))
            self._mask_files[sample_id] = {n: tuple(by_folder[f] for f in STRUCTURES[n]) for n in self.card.classes}

    def _require_bytes(self, sample_id: str, n_bytes: int) -> None:
        if n_bytes != N_BYTES:
            raise ImageError(
                f"{self._where(sample_id)}: {n_bytes:,} bytes, expected {N_BYTES:,} ({SIDE} x {SIDE} of 16 bits, no header). "
                "Is the file cut off or converted?"
            )

    def _require_mask_size(self, shape: tuple[int, ...], where: str) -> None:
        if tuple(shape) != (MASK_SIDE, MASK_SIDE):
            raise ImageError(f"{where}: the mask has {shape[0]:,} x {shape[1]:,} pixels, expected {MASK_SIDE} x {MASK_SIDE}.")

    def _where(self, sample_id: str, structure: str = "") -> str:
        of = f", {structure}" if structure else ""
        return f"{self.card.name}: image {self._place[sample_id]:,} of {len(self._images):,} in the order of names{of}"
