"""Whether the images that a release's label files name are there, told from folders alone: no image is opened."""

from __future__ import annotations

import os
from pathlib import Path

from benchmark.errors import PartialRelease
from benchmark.readers.base import Reader


def require_image_files(reader: Reader) -> None:
    """Every image the label files name is a file with something in it; each folder is listed once.

    Readers look for names, which a link to nowhere and an interrupted download have too.

    Raises:
        PartialRelease: with how many of how many, and the first few by name where the agreement lets ids be passed on.
    """
    files = reader.image_files()
    filled = {folder: _filled(folder) for folder in {path.parent for path in files}}
    lacking = sorted(path for path in files if path.name not in filled[path.parent])
    if lacking:
        listed = ", ".join(path.name for path in lacking[:3])
        some = f", for example {listed}" if reader.names_files else ""
        raise PartialRelease(
            f"{reader.card.name}: {len(lacking):,} of {len(files):,} image files are empty or not there{some}. "
            "Is the download complete, and do all links lead somewhere?"
        )


def _filled(folder: Path) -> set[str]:
    """Names of the files of a folder that are not empty."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file() and entry.stat().st_size > 0}
    except OSError:
        return set()
