"""Masks as pictures, named as their images: in a folder of their own, beside them, or one folder or name for each class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmark.errors import LobeError
from benchmark.imaging.picture import read_levels
from benchmark.readers.kit.own_images import filled_in, header_size, stem_of
from benchmark.readers.masks import MASK_ENDINGS
from benchmark.scaffold.guessed import Guess, below
from benchmark.scaffold.survey import Survey

LOOKED_AT = 24  # masks, for their values
LEAST = 0.5  # of the images have a mask
MOST_CLASSES = 40
_MASKS = re.compile(r"(?i)mask|label|annot|segm|ground|^gt$|lesion|target|outline")


def masks(found: Survey) -> Guess | None:
    """None where no pattern finds a mask for half of the images."""
    places = [path.as_posix() for path in found.images]
    stems = {stem_of(place) for place in places if place.lower().endswith(MASK_ENDINGS)}
    best: tuple[int, int, str, str, list[str], tuple[str, ...]] | None = None
    for rank, (folder, pattern, classes) in enumerate(_layouts(places)):
        inside = below(folder, [place for place in places if folder == "." or place.startswith(f"{folder}/")])
        files = {place: [filled_in(pattern, place, name) for name in classes or ("",)] for place in inside}
        used = {stem for listed in files.values() for stem in listed if stem in stems}
        images = [p for p in inside if stem_of(p if folder == "." else f"{folder}/{p}") not in used]
        held = [place for place in images if any(stem in stems for stem in files[place])]
        if images and len(held) >= LEAST * len(images) and (best is None or (len(held), -rank) > best[:2]):
            best = (len(held), -rank, folder, pattern, images, classes)
    if best is None:
        return None
    n_held, _, folder, pattern, images, classes = best
    given: dict[str, Any] = {"images": folder, "masks": pattern}
    reasons = {"masks": f"{n_held:,} of {len(images):,} images have such a file"}
    unknown: list[str] = []
    if classes:
        reasons["classes"] = "folders, or ends of names"
    else:
        values = _values(found, {place if folder == "." else f"{folder}/{place}": filled_in(pattern, place) for place in images})
        if 1 < len(values) <= MOST_CLASSES:
            classes = tuple(f"value_{value}" for value in values)
            given["values"] = {f"value_{value}": value for value in values}
            reasons["values"] = f"pixels of the first {min(n_held, LOOKED_AT):,} masks"
            unknown.append("What the values mean: rename value_1 and so on in `classes` and `values`.")
        else:
            classes = ("finding",)
            unknown.append("What the masks show: rename `finding` in `classes`.")
    n_whole = sum(all(filled_in(pattern, place, name) in stems for name in classes or ("",)) for place in images)
    if n_whole < len(images):
        given["without_mask"] = "left out"
        what = "a mask" if n_whole == n_held else "a mask of every class"
        unknown.append(f"Whether the {len(images) - n_whole:,} images without {what} show nothing there: then write `without_mask: empty`.")
    return Guess("masks", given, classes, tuple(images), {}, reasons, tuple(unknown))


def _layouts(places: Sequence[str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(folder of images, pattern of masks, classes where each has a file of its own), the likely ones first."""
    folders = Counter(place.rpartition("/")[0] for place in places)
    tops = list(dict.fromkeys(part for folder in folders for part in _ancestors(folder)))
    named = [folder for folder in tops if _MASKS.search(folder.rpartition("/")[2])]
    others = [folder for folder in tops if folder not in named] or []
    for masks_in in named:
        children = sorted({f.removeprefix(f"{masks_in}/").partition("/")[0] for f in tops if f.startswith(f"{masks_in}/")})
        for images_in in [*others, "."]:
            if masks_in.startswith(f"{images_in}/") and images_in != ".":
                continue
            for end in ("", "_mask", "_label", "_seg", "-mask"):
                yield images_in, f"{masks_in}/{{stem}}{end}", ()
                yield images_in, f"{masks_in}/{{name}}{end}", ()
            if len(children) > 1:
                yield images_in, f"{masks_in}/{{class}}/{{stem}}", tuple(children)
    lasts = {folder.rpartition("/")[2] for folder in named}
    for last in sorted(lasts):
        yield ".", f"{{folder}}/{last}/{{name}}", ()
    for end in ("_mask", "_label", "_seg", "-mask", "_gt"):
        yield ".", f"{{stem}}{end}", ()


def _ancestors(folder: str) -> Iterator[str]:
    """The folder and those that hold it, the outermost first."""
    parts = [part for part in folder.split("/") if part]
    yield from ("/".join(parts[:k]) for k in range(1, len(parts) + 1))


def _values(found: Survey, masks_of: Mapping[str, str]) -> list[int]:
    """Pixel values of some masks without 0, of those alone that are as large as their image, since no other is used.

    Args:
        masks_of: place of an image -> its mask without the ending.
    """
    files = {stem_of(path.as_posix()): path for path in found.images}
    seen: set[int] = set()
    for place, stem in [(place, stem) for place, stem in masks_of.items() if stem in files][:LOOKED_AT]:
        try:
            levels = read_levels(found.folder / files[stem], stem)
            if levels.shape == header_size(found.folder / place, place):
                seen |= set(np.unique(levels).tolist())
        except LobeError:
            continue
    return sorted(seen - {0})
