"""Images of one's own data: which there are, and which of them a label file means by a name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath

from benchmark.errors import DataError, LobeError
from benchmark.imaging.any_picture import IMAGE_ENDINGS, size_of_image
from benchmark.readers.kit.walk import walk


class ImageFiles:
    """Image files below a folder, by their place in it with forward slashes; the place is the image's id.

    Attributes:
        paths: place -> file, in the order of places.

    Raises:
        DataError: no such folder, or none holds an image.
    """

    def __init__(self, root: Path, folder: str, dataset: str, but: Iterable[Path] = ()):
        base = root / folder
        if not base.is_dir():
            raise DataError(f"{dataset}: no folder {folder} in {root}. The card's `images` names the folder of the images.")
        left = set(but)
        found = [path for path in walk(base) if path.suffix.lower() in IMAGE_ENDINGS and path not in left]
        self.paths = dict(sorted((path.relative_to(base).as_posix(), path) for path in found))
        if not self.paths:
            raise DataError(f"{dataset}: no image in {base}. Images end in {', '.join(IMAGE_ENDINGS)}.")
        self._below = PurePosixPath(folder)
        self._by_stem = _unique((stem_of(place), place) for place in self.paths)
        self._by_name = _unique((PurePosixPath(place).name, place) for place in self.paths)
        self._by_bare_name = _unique((stem_of(PurePosixPath(place).name), place) for place in self.paths)

    def find(self, name: str, beside: str = "") -> str | None:
        """The place of the image that a label file means; None of none, and where two could be meant.

        A name may lack leading folders, or have those of another machine, or another ending; other folders are another image.

        Args:
            name: a path or a name, with or without its ending.
            beside: folder of the label file, below the dataset's folder.
        """
        name = name.strip().replace("\\", "/").removeprefix("./")
        for start in ("", beside):
            place = f"{start}/{name}" if start else name
            for tried in (place, place.removeprefix(f"{self._below.as_posix()}/")):
                if tried in self.paths:
                    return tried
                if self._by_stem.get(tried):
                    return self._by_stem[tried]
        last = name.rpartition("/")[2]
        found = self._by_name.get(last) or self._by_bare_name.get(stem_of(last))
        return found if found is not None and _one_ends_as_the_other(stem_of(found), stem_of(name)) else None


def stem_of(place: str) -> str:
    """A place without the ending of an image."""
    stem, ending = os.path.splitext(place)
    return stem if ending.lower() in IMAGE_ENDINGS else place


def filled_in(pattern: str, place: str, class_: str = "") -> str:
    """Where a file that belongs to an image lies: the pattern of a card (`MaskData.masks`) for one image."""
    stem = stem_of(place)
    folder = stem.partition("/")[0] if "/" in stem else "."
    parts = {"{stem}": stem, "{name}": stem.rpartition("/")[2], "{folder}": folder, "{class}": class_}
    for brace, text in parts.items():
        pattern = pattern.replace(brace, text)
    return os.path.normpath(pattern).replace(os.sep, "/")


def header_size(path: Path, sample_id: str) -> tuple[int, int] | None:
    """(height, width) in pixels of an image as it is shown, from its header; None where it cannot be read."""
    try:
        status = path.stat()
        return _header_size(path, sample_id, status.st_size, status.st_mtime_ns)
    except (OSError, LobeError):
        return None


@lru_cache(maxsize=2**17)
def _header_size(path: Path, sample_id: str, n_bytes: int, changed_ns: int) -> tuple[int, int]:
    """Remembered in a process, which opens a dataset for each of its jobs."""
    return size_of_image(path, sample_id)


def _one_ends_as_the_other(one: str, other: str) -> bool:
    shorter, longer = sorted((one.split("/"), other.split("/")), key=len)
    return longer[-len(shorter) :] == shorter


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name -> place, of names that mean one place."""
    listed = list(pairs)
    counted = Counter(name for name, _ in listed)
    return {name: place for name, place in listed if counted[name] == 1}
