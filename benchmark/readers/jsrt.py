"""JSRT with SCR's outlines: radiographs, and masks of lungs and heart for two folds.

Images and masks come from two publishers and meet by file name. JSRT's own images are raw words of 12 bits; copies as PNG of 8 bits are
read too, as they are displayed. Where the masks lie is `outlines`' part. Clavicles, landmarks, the second observer and JSRT's nodule list
are not read. SCR may not be passed on, so no error names a file: an image is told by its place in the order of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, ImageError, PartialRelease
from benchmark.files import read_bytes
from benchmark.imaging.picture import read_mask, size_of
from benchmark.readers.base import Check, Verdict
from benchmark.readers.kit.boxes import require_size
from benchmark.readers.kit.checks import check_of, release_checks
from benchmark.readers.kit.holdout import hold_out
from benchmark.readers.kit.image_reader import UnnamedReader
from benchmark.readers.kit.outlines import FOLDS, STRUCTURES, find_outlines, fold_by_number, structure_of
from benchmark.readers.kit.splits import Splits, require_rule
from benchmark.readers.kit.unnamed import read_unnamed
from benchmark.readers.kit.walk import find_files, not_read

SIDE = 2048  # rows and columns of every image
N_BYTES = 2 * SIDE * SIDE  # 16-bit big-endian, no header
WHITEST = 4095  # 12 bits
MASK_SIDE = 1024
N_LOOKED_AT = 3  # images whose polarity `verify` looks at
AGAIN = "Fetch this file again."
RULE = "train on fold 1", "train on fold 2"

_ID = re.compile(r"JPC(LN|NN)\d{3}")
_PNG_STEM = re.compile(r"(JPC(?:LN|NN)\d{3})(?:\.IMG)?", re.IGNORECASE)  # JPCLN001.png and JPCLN001.IMG.png


class DatasetReader(UnnamedReader):
    """JSRT's .IMG files, or PNG copies of them, and SCR's outlines, anywhere in the folder. Patients are unknown."""

    side, drawn, masked = SIDE, "outlines", True

    def open(self) -> None:
        unknown = [name for name in self.card.classes if name not in STRUCTURES]
        if unknown:
            raise DataError(f"{self.card.name}: class {unknown[0]!r} of the card is none of {', '.join(STRUCTURES)}.")
        files, self._raw = self._find_images()
        twice = [paths for paths in files.values() if len(paths) > 1]
        if twice:
            places = " and ".join(dict.fromkeys(path.parent.relative_to(self.root).as_posix() for path in twice[0][:2]))
            raise DataError(
                f"{self.card.name}: {len(twice)} of {len(files)} images exist twice in {self.root} ({places}). These may be two releases, "
                "and LOBE does not choose: move one copy of each away."
            )
        self.images = {stem: files[stem][0] for stem in sorted(files)}
        self._place = {stem: place for place, stem in enumerate(self.images, start=1)}
        self._find_masks()
        self.release = f"{'raw images' if self._raw else 'images as PNG'}, {self._outlines.layout}"
        if not self._raw:
            self.warnings.append(f"{self.card.name}: images are PNG copies; JSRT's own have 12 bits.")

    def files_of(self, sample_id: str) -> tuple[Path, ...]:
        return (self.path_of(sample_id), *(path for paths in self._mask_files[sample_id].values() for path in paths))

    def is_positive(self, sample_id: str) -> bool:
        return True

    def where_of(self, sample_id: str) -> str:
        return f"{self.card.name}: image {self._place[sample_id]:,} of {len(self.images):,} in the order of names"

    def split(self, rule: SplitRule) -> Splits:
        """SCR's two-fold cross-validation, one direction: one fold trains, the other tests; of the training fold a share validates.

        The folds are those the masks lie in. The validation share is drawn with the rule's seed from the training fold's sorted names.
        """
        numbers = require_rule(rule, RULE, "seed", "validation_share", dataset=self.card.name)
        trained = FOLDS[RULE.index(rule.rule)]
        members = [i for i in self.images if self._fold[i] == trained]
        train, validation = hold_out(members, round(numbers.validation_share * len(members)), numbers.seed)
        return {"train": tuple(train), "validation": tuple(validation), "test": tuple(i for i in self.images if self._fold[i] != trained)}

    def checks(self) -> Iterable[Check]:
        counts = {
            "images": len(self.images),
            "nodule_images": sum(i.startswith("JPCLN") for i in self.images),
            "images_without_nodule": sum(i.startswith("JPCNN") for i in self.images),
        }
        counts |= {f"{fold}_images": sum(found == fold for found in self._fold.values()) for fold in FOLDS}
        yield from release_checks(self, counts, "Were both JSRT and SCR unpacked completely?")
        odd = sum(self._fold[i] == fold_by_number(i) for i in self.images)
        # As recollected, not verified: folders decide where there are some, this only tells.
        verdict: Verdict = "ok" if odd == len(self.images) else "warning"
        yield Check("odd file numbers in fold1, even in fold2", f"{len(self.images):,}", f"{odd:,}", verdict)
        if not self._outlines.split_on_disk:
            yield Check("folds", "fold1 and fold2 as folders", "none, file numbers decide", "warning", "SCR's zip has the folders.")
        chosen = sorted({round(k * (len(self.images) - 1) / (N_LOOKED_AT - 1)) for k in range(N_LOOKED_AT)})
        look = partial(self._look_at_polarity, [self.ids[k] for k in chosen])
        yield check_of("lungs darker than the heart", f"in {len(chosen)} images", look, AGAIN)
        size = f"{N_BYTES:,} bytes" if self._raw else f"{SIDE} x {SIDE} pixels"
        yield check_of("files", f"{size} an image, masks of {MASK_SIDE} x {MASK_SIDE}", self._look_at_files, AGAIN)

    def _look_at_files(self) -> tuple[str, Verdict, str]:
        """Sizes of all files by their headers or lengths, then one image and its masks whole."""
        for sample_id, path in self.images.items():
            if self._raw:
                self._require_bytes(sample_id, path.stat().st_size)
            else:
                self.require_frame(sample_id, read_unnamed(size_of, path, self.where_of(sample_id)))
            for structure, paths in self._mask_files[sample_id].items():
                for mask in paths:
                    where = f"{self.where_of(sample_id)}, {structure}"
                    require_size(read_unnamed(size_of, mask, where), (MASK_SIDE, MASK_SIDE), where, "mask", self.drawn)
        first = self.ids[0]
        if not self.masks(first, self.image(first).shape).any(axis=(1, 2)).all():
            return "a mask of the first image is empty", "error", "Every image shows lungs and a heart."
        return f"all {len(self.images):,} agree, the first is readable", "ok", ""

    def _look_at_polarity(self, ids: Sequence[str]) -> tuple[str, Verdict, str]:
        """Whether air is darker than the heart, in the first, the middle and the last image: a negative copy would train and score."""
        negative = sum(map(self._is_negative, ids))
        hint = "These are negatives: bone must come out bright. Invert the copy, or use JSRT's .IMG files."
        return f"in {len(ids) - negative}", "error" if negative else "ok", hint if negative else ""

    def _is_negative(self, sample_id: str) -> bool:
        image = self.image(sample_id)
        masks = dict(zip(self.card.classes, self.masks(sample_id, image.shape), strict=True))
        if not all(name in masks and masks[name].any() for name in STRUCTURES):
            return False  # emptiness is told with the files
        return bool(image[masks["lungs"]].mean() > image[masks["heart"]].mean())

    def decode(self, sample_id: str) -> np.ndarray:
        """(2048, 2048), larger is brighter: uint16 of 12 bits from the release's files, uint8 or uint16 from PNG.

        The release stores large values where film is blackest, so they are inverted. A PNG is taken as it is displayed: the known copy
        keeps the stored values as indices into an inverted palette.
        """
        if not self._raw:
            return super().decode(sample_id)
        where = self.where_of(sample_id)
        try:
            raw = read_bytes(self.images[sample_id])
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

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(C, 2048, 2048) bool: each pixel of SCR's masks is a square of two by two of the image."""
        self.require_frame(sample_id, shape)
        masks = np.zeros((len(self.card.classes), MASK_SIDE, MASK_SIDE), bool)
        for channel, name in enumerate(self.card.classes):
            for path in self._mask_files[sample_id][name]:
                where = f"{self.where_of(sample_id)}, {name}"
                mask = read_unnamed(read_mask, path, where)
                require_size(mask.shape, (MASK_SIDE, MASK_SIDE), where, "mask", self.drawn)
                masks[channel] |= mask
        factor = SIDE // MASK_SIDE
        return masks.repeat(factor, axis=1).repeat(factor, axis=2)

    def _find_images(self) -> tuple[dict[str, tuple[Path, ...]], bool]:
        """Image files by stem, and whether they are the release's own. Copies as PNG count only where no .IMG file holds anything."""
        raw = {stem: paths for stem, paths in find_files(self.root, ".img").items() if _ID.fullmatch(stem)}
        whole = any(path.stat().st_size for paths in raw.values() for path in paths)
        copies: dict[str, tuple[Path, ...]] = {}
        for stem, paths in find_files(self.root, ".png").items():
            named = _PNG_STEM.fullmatch(stem)
            images = tuple(path for path in paths if structure_of(path.parent.name) is None)
            if named and images:
                copies[named[1].upper()] = (*copies.get(named[1].upper(), ()), *images)
        if whole:
            if copies:
                self.warnings.append(not_read(self.card.name, f"{len(copies)} PNG copies", f"{len(raw)} .IMG files"))
            return raw, True
        if not raw and not copies:
            raise DataError(
                f"{self.card.name}: no JPCLN or JPCNN file ending in .IMG, nor a PNG copy, in {self.root}. Unpack JSRT's images there."
            )
        if raw and copies:
            self.warnings.append(f"{self.card.name}: {len(raw)} .IMG files are empty; the PNG copies beside them are read.")
        return (copies, False) if copies else (raw, True)

    def _find_masks(self) -> None:
        self._outlines = outlines = find_outlines(self.root, self.card.name)
        strangers = len(outlines.files.keys() - self.images.keys())
        if strangers:
            kind = ".IMG file" if self._raw else "PNG image"
            raise PartialRelease(
                f"{self.card.name}: {strangers} of {len(outlines.files)} outlined images have no {kind}. Is JSRT unpacked completely?"
            )
        self._fold: dict[str, str] = {}
        self._mask_files: dict[str, dict[str, tuple[Path, ...]]] = {}
        for sample_id in self.images:
            folds = outlines.files.get(sample_id, {})
            if len(folds) > 1:
                raise DataError(f"{self.where_of(sample_id)}: masks in both folds. It would train and test; remove one copy.")
            by_structure = next(iter(folds.values()), {})
            missing = [s for structures in STRUCTURES.values() for s in structures if s not in by_structure]
            if missing:
                places = " or ".join(f"{folder}/{missing[0]}" for folder in outlines.folders)
                raise DataError(f"{self.where_of(sample_id)}: no mask in {places}.")
            self._fold[sample_id] = next(iter(folds))
            self._mask_files[sample_id] = {n: tuple(by_structure[s] for s in STRUCTURES[n]) for n in self.card.classes}
        self.tables = tuple(path for masks in self._mask_files.values() for paths in masks.values() for path in paths)

    def _require_bytes(self, sample_id: str, n_bytes: int) -> None:
        if n_bytes != N_BYTES:
            raise ImageError(
                f"{self.where_of(sample_id)}: {n_bytes:,} bytes, expected {N_BYTES:,} ({SIDE} x {SIDE} of 16 bits, no header). "
                "Is the file cut off or converted?"
            )
