"""Whether the images that a release's label files name are there, told by one look at each: no image is opened."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.errors import PartialRelease
from benchmark.readers.base import Reader


def require_image_files(reader: Reader) -> Sequence[int]:
    """Every image the label files name is a file with something in it.

    Readers look for names, which a link to nowhere and an interrupted download have too.

    Returns:
        `Reader.image_sizes`.

    Raises:
        PartialRelease: with how many of how many, and the first few by name where the agreement lets ids be passed on.
    """
    sizes = reader.image_sizes()
    if min(sizes, default=1) > 0:
        return sizes
    files = reader.image_files()
    lacking = sorted(path for path, size in zip(files, sizes, strict=True) if size <= 0)
    listed = ", ".join(path.name for path in lacking[:3])
    some = f", for example {listed}" if reader.names_files else ""
    raise PartialRelease(
        f"{reader.card.name}: {len(lacking):,} of {len(files):,} {reader.listed_files} are empty or not there{some}. {reader.completeness}"
    )
