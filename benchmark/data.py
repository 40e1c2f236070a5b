"""What `lobe data` and `lobe clean` do: status, verification and preparation of datasets, and the caches made from them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmark import registry, resolve
from benchmark.cards import DatasetCard
from benchmark.errors import DataError, LobeError
from benchmark.imaging.cache import CacheRecipe, ImageCache, list_caches
from benchmark.imaging.dicom import decoder_versions
from benchmark.readers.base import Reader, Verification, open_reader

FRAME_SIZE = 224  # LoVT 2.3
CHUNK = 32

Step = Callable[[int, int], None]


def status(data: Sequence[str], cache: Path | None) -> list[dict[str, Any]]:
    """One row a known dataset: there or not, which release, how much of it is cached."""
    roots = resolve.data_roots(data)
    cached = list_caches(resolve.cache_folder(cache) / "images")
    rows = []
    for card in registry.datasets().values():
        row: dict[str, Any] = {"dataset": card.name, "state": "absent", "release": None, "phantom": None, "images": None, "folder": None}
        row["cached_bytes"] = sum(c.bytes for c in cached if c.dataset == card.name)
        try:
            root = resolve.dataset_root(card, roots)
            row["folder"] = str(root)
            if root.is_dir():
                reader = open_reader(card, root)
                row |= {"state": "ready", "release": reader.release, "phantom": reader.phantom is not None, "images": len(reader.ids)}
        except LobeError as error:
            row |= {"state": "error", "release": str(error)}
        rows.append(row)
    return rows


def verify(names: Sequence[str], data: Sequence[str]) -> list[Verification]:
    """Checks of each named dataset, or of every one that is there.

    Raises:
        DataError: a named dataset cannot be opened, or none is there.
    """
    return [open_reader(card, root).verify() for card, root in _present(names, data)]


def prepare(
    names: Sequence[str], data: Sequence[str], cache: Path | None, workers: int, bar: Callable[[str], AbstractContextManager[Step]]
) -> list[dict[str, Any]]:
    """Fills the decode-once cache of each dataset; unreadable images are listed and the rest goes on."""
    rows = []
    for card, root in _present(names, data):
        reader = open_reader(card, root)
        folder = resolve.cache_folder(cache) / "images"
        opened = ImageCache.open(folder, _recipe(reader), reader.ids)
        problems: list[str] = []
        with bar(f"{card.name} images") as step:
            for done, chunk in _chunks(reader.ids):
                problems += [sentence for _, sentence in opened.fill([reader.sample(i) for i in chunk], workers=workers)]
                step(done, len(reader.ids))
        rows.append(
            {
                "dataset": card.name,
                "images": len(reader.ids) - len(problems),
                "unreadable": len(problems),
                "bytes": opened.size_bytes(),
                "cache": str(opened.path),
                "problems": problems,
            }
        )
    return rows


def caches(cache: Path | None) -> list[dict[str, Any]]:
    """Every image cache with its size."""
    return [{"dataset": c.dataset, "bytes": c.bytes, "folder": str(c.path)} for c in list_caches(resolve.cache_folder(cache) / "images")]


def remove_caches(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        shutil.rmtree(row["folder"])


def _present(names: Sequence[str], data: Sequence[str]) -> list[tuple[DatasetCard, Path]]:
    roots = resolve.data_roots(data)
    if names:
        return [(card, resolve.dataset_root(card, roots)) for card in map(registry.dataset, names)]
    found = []
    for card in registry.datasets().values():
        try:
            root = resolve.dataset_root(card, roots)
        except DataError:
            continue
        if root.is_dir():
            found.append((card, root))
    if not found:
        folders = ", ".join(card.folder for card in registry.datasets().values())
        raise DataError(f"No dataset folder in {', '.join(map(str, roots.values()))}. Expected one of: {folders}.")
    return found


def _recipe(reader: Reader) -> CacheRecipe:
    """The recipe of the published protocol, the one most jobs will ask for."""
    return CacheRecipe(
        dataset=reader.card.name,
        dataset_digest=f"{reader.digest()}:{reader.shapes}",
        intensity=reader.card.intensity,
        size=FRAME_SIZE,
        n_classes=len(reader.card.classes),
        with_masks="masks" in reader.card.targets,
        decoders=decoder_versions(),
    )


def _chunks(ids: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    for start in range(0, len(ids), CHUNK):
        yield min(start + CHUNK, len(ids)), ids[start : start + CHUNK]
