"""Frames of pairs: decoded once, square, uint8. They lie in memory, or are mapped from the image cache: the numbers are the same.

377,000 frames of 224 pixels are 19 GB: mapped, a step reads those of its batch, and the processes of a machine share what the system holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmark.errors import ImageError
from benchmark.imaging.cache import ImageCache
from benchmark.imaging.cache_files import CacheRecipe
from benchmark.imaging.dicom import decoder_versions
from benchmark.imaging.prepare import RULES, Intensity, Source, prepare_image
from benchmark.imaging.rows import Bad, error_of
from benchmark.readers.base import Reader

Show = Callable[[int], None]
CACHED = 256  # images between two signs of life
FOLDER = "images"  # below the folder of all caches, as jobs have it


class Mapped:
    """Frames of an image cache, read when asked for.

    Args:
        cache: filled.
        rows: (N,) of it, in the order of the frames.
    """

    def __init__(self, cache: ImageCache, rows: np.ndarray):
        self.cache, self.rows = cache, rows

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.rows), self.cache.recipe.size, self.cache.recipe.size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: np.ndarray | slice) -> np.ndarray:
        """(n, S, S) uint8, a copy."""
        return self.cache.images(self.rows[which])


Frames = np.ndarray | Mapped


class Square:
    """A sample whose image is square already: grey values by the dataset's rule, then shaped as a method's code does."""

    masks = None

    def __init__(self, sample: Source, intensity: Intensity, shape: Callable[[np.ndarray, int], np.ndarray], size: int):
        self.id, self.files, self.image = sample.id, sample.files, partial(_squared, sample, intensity, shape, size)


class _Unmasked:
    masks = None

    def __init__(self, sample: Source):
        self.id, self.files, self.image = sample.id, sample.files, sample.image


def resized(grey: np.ndarray, size: int) -> np.ndarray:
    """(size, size) uint8 of (H, W) uint8, bilinear, whatever the aspect ratio."""
    return np.asarray(cv2.resize(grey, (size, size), interpolation=cv2.INTER_LINEAR))


def cut(grey: np.ndarray, size: int, levels: int = 255) -> np.ndarray:
    """(size, size) uint8: the box around all that is not black, its grey values spread over 0 to `levels`, resized.

    Args:
        levels: 256 in G2D's code, which wraps the brightest pixels to 0.
    """
    rows, columns = (np.flatnonzero((grey > 0).any(axis=axis)) for axis in (1, 0))
    if len(rows):
        grey = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    spread = grey.astype(np.float32) - grey.min()
    spread *= levels / max(float(spread.max()), 1.0)
    return np.asarray(cv2.resize(spread, (size, size), interpolation=cv2.INTER_LINEAR)).astype(np.int32).astype(np.uint8)


SHAPES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"resized": resized, "cut": cut, "cut-released": partial(cut, levels=256)}


def framed(sample: Source, intensity: Intensity, frame: str, size: int) -> tuple[Source, Intensity]:
    """The sample as it is prepared, and the rule for its grey values: see `PairsCard.frame`."""
    if frame == "padded":
        return _Unmasked(sample), intensity
    return Square(sample, intensity, SHAPES[frame], size), "as-stored"


def in_memory(reader: Reader, ids: Sequence[str], frame: str, size: int, show: Show) -> np.ndarray:
    """(N, S, S) uint8 of the images in order, decoded now."""
    found = np.empty((len(ids), size, size), np.uint8)
    for k, sample_id in enumerate(ids):
        show(k)
        source, intensity = framed(reader.sample(sample_id), reader.card.intensity, frame, size)
        found[k] = prepare_image(source, intensity, size)[0]
    return found


def mapped(reader: Reader, ids: Sequence[str], frame: str, size: int, folder: Path, show: Show) -> Mapped:
    """Frames of the images in order, of which the cache below `folder` decodes what it lacks.

    Raises:
        ImageError: some cannot be read; the first three are named, all others are cached.
        StoreError: the cache cannot be written.
    """
    outline = f"{reader.outline_digest()}:{reader.shapes}"
    recipe = CacheRecipe(
        dataset=reader.card.name,
        # Padded frames are those of jobs, which find them there.
        dataset_digest=outline if frame == "padded" else hashlib.sha256(f"{outline} {frame} {reader.card.intensity}".encode()).hexdigest(),
        intensity=reader.card.intensity if frame == "padded" else "as-stored",
        size=size,
        n_classes=len(reader.card.classes),
        with_masks=False,
        decoders=decoder_versions(),
    )
    cache = ImageCache.open(folder / FOLDER, recipe, reader.ids)
    bad: list[Bad] = []
    for start in range(0, len(ids), CACHED):
        show(start)
        samples = (reader.sample(i) for i in ids[start : start + CACHED])
        bad += cache.fill(framed(sample, reader.card.intensity, frame, size)[0] for sample in samples)
    if bad:
        raise error_of(bad, reader.card.name)
    return Mapped(cache, np.array([cache.row_of(i) for i in ids]))


def _squared(sample: Source, intensity: Intensity, shape: Callable[[np.ndarray, int], np.ndarray], size: int) -> np.ndarray:
    grey = RULES[intensity](sample.image())
    if grey.dtype != np.uint8:
        raise ImageError("An image has 16-bit pixels, but the dataset card keeps intensities as stored, which needs 8 bits.")
    return shape(grey, size)
