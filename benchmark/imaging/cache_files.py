"""What lies in a folder of the image cache: its recipe, files of their final size, and how they are opened, written and listed.

Which rows are written and believed is decided in `cache`. Writes go through `pwrite`, never through the map: a full disk is then an error
with a sentence, where a sparse map would kill the process with a bus error.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from benchmark import json_files, private
from benchmark.cards import Card
from benchmark.errors import StoreError
from benchmark.imaging.prepare import Intensity
from benchmark.imaging.rows import ROW

LAYOUT = 2  # goes up when the files change meaning or the pixels change without any decoder changing
RECIPE_FILE = "recipe.json"


class CacheRecipe(Card):
    """Everything that decides the bytes of a cache.

    Attributes:
        dataset_digest: of label files and of image paths with sizes, and of anything else that alters masks. What images hold, rows know.
        n_classes: mask channels; ignored without masks.
        decoders: name -> version of what turns files into pixels.
    """

    dataset: str
    dataset_digest: str
    intensity: Intensity
    size: int
    n_classes: int
    with_masks: bool
    decoders: dict[str, str]


class CacheEntry(NamedTuple):
    """One cache folder of `list_caches`; `recipe` is None where it cannot be read."""

    path: Path
    dataset: str
    bytes: int
    recipe: CacheRecipe | None


def list_caches(root: Path) -> list[CacheEntry]:
    """Every cache folder below `root`, the largest first; sizes are bytes on disk."""
    entries = []
    for path in sorted(p.parent for p in root.glob(f"*/{RECIPE_FILE}")):
        try:
            recipe = CacheRecipe.model_validate(json_files.read(path / RECIPE_FILE)["recipe"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            recipe = None
        entries.append(CacheEntry(path, recipe.dataset if recipe else path.name.rpartition("-")[0], bytes_on_disk(path), recipe))
    return sorted(entries, key=lambda entry: -entry.bytes)


def shapes_of(recipe: CacheRecipe, n_images: int) -> dict[str, tuple[int, ...]]:
    """File name -> shape in bytes (`ImageCache` says what the files hold)."""
    found: dict[str, tuple[int, ...]] = {"images.u8": (n_images, recipe.size, recipe.size)}
    if recipe.with_masks:
        found["masks.bits"] = (n_images, recipe.n_classes, (recipe.size * recipe.size + 7) // 8)
    return {**found, "rows.bin": (n_images, ROW.itemsize), "state.u8": (n_images,)}


def lay_out(path: Path, shapes: dict[str, tuple[int, ...]], content: dict) -> None:
    """Sparse files of the final size; the recipe comes last and by rename, so its presence means that all is there."""
    for name, shape in shapes.items():
        with open(path / name, "wb", opener=private.opener) as handle:
            handle.truncate(int(np.prod(shape)))
    unfinished = path / f"{RECIPE_FILE}.part"
    with open(unfinished, "w", encoding="utf-8", opener=private.opener) as handle:
        json.dump(content, handle, indent=1)
    os.replace(unfinished, path / RECIPE_FILE)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor for reading and writing, closed with the block."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_at(descriptor: int, content: bytes, offset: int) -> None:
    """Writes all of the content, past the file's map: a full disk raises OSError."""
    written = 0
    while written < len(content):  # a nearly full disk takes a part first and refuses the rest
        written += os.pwrite(descriptor, content[written:], offset + written)


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Raises StoreError for any OSError in the block; one of a full disk says how much is free and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = next(p for p in (path, *path.parents) if p.exists())
            free = shutil.disk_usage(where).free
            raise StoreError(
                f"The disk is full: the image cache {path} cannot grow ({free / 1e6:,.0f} MB free). What was cached is kept; free some "
                "space (`lobe clean` lists caches with sizes) or choose another folder with --cache, then run the same command again."
            ) from error
        raise StoreError(f"The image cache {path} cannot be written ({error}). Choose another folder with --cache.") from error


def bytes_on_disk(path: Path) -> int:
    """Of a folder's own files; holes in sparse files take none."""
    return sum(p.stat().st_blocks * 512 for p in path.iterdir() if p.is_file())
