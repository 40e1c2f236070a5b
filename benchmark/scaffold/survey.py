"""What lies in a folder of somebody's own data, by the endings of its files alone: nothing is decoded and nothing guessed here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.imaging.any_picture import IMAGE_ENDINGS
from benchmark.readers.kit.walk import walk

TABLE_ENDINGS = (".csv", ".tsv")


@dataclass(frozen=True)
class Survey:
    """Files below a folder, each by its place in it, in the order of names; litter and links that lead upwards are left out.

    Attributes:
        images: pictures and DICOM files, masks among them.
        tables: files of comma- or tab-separated cells.
        documents: JSON files.
        texts: text files.
        others: everything else.
    """

    folder: Path
    images: tuple[Path, ...]
    tables: tuple[Path, ...]
    documents: tuple[Path, ...]
    texts: tuple[Path, ...]
    others: tuple[Path, ...]


def survey(folder: Path) -> Survey:
    """
    Raises:
        UsageError: no such folder, or one without an image.
        DataError: a folder below it cannot be listed.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder. Name the folder that holds your images and their labels.")
    found = sorted(path.relative_to(folder) for path in walk(folder))
    by_ending: dict[str, list[Path]] = {kind: [] for kind in ("images", "tables", "documents", "texts", "others")}
    for path in found:
        by_ending[_kind_of(path.suffix.lower())].append(path)
    if not by_ending["images"]:
        raise UsageError(f"{folder} holds {len(found):,} files and no image. Images end in {', '.join(IMAGE_ENDINGS)}.")
    return Survey(folder, **{kind: tuple(paths) for kind, paths in by_ending.items()})


def _kind_of(ending: str) -> str:
    if ending in IMAGE_ENDINGS:
        return "images"
    if ending in TABLE_ENDINGS:
        return "tables"
    return {".json": "documents", ".txt": "texts"}.get(ending, "others")
