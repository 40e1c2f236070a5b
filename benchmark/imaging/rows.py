"""One row of the image cache beside its pixels: where it came from, and the checksums that tell whether it is still what was written."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.errors import ImageChanged, ImageError
from benchmark.files import read_bytes

ROW = np.dtype(
    [
        ("height", "<i4"),
        ("width", "<i4"),
        ("stamp", "u1", 32),
        ("sha256", "u1", 32),
        ("contents", "u1", 32),
        ("pixels", "<u4"),
        ("bits", "<u4"),
        ("check", "<u4"),  # of all that stands before it
    ]
)


class Prepared(NamedTuple):
    """One row.

    Attributes:
        content: bytes by file name.
        read: (path, stamp before reading, SHA-256 hex) of each source file.
    """

    content: dict[str, bytes]
    read: list[tuple[Path, bytes, str]]


class Bad(NamedTuple):
    """An image that cannot be cached, with the sentence that says why.

    Attributes:
        changed: its files are not what they should be, or changed while they were read.
        read: as in `Prepared`, of files that hold something else than planned.
    """

    id: str
    sentence: str
    changed: bool = False
    read: Sequence[tuple[Path, bytes, str]] = ()


def error_of(bad: Sequence[Bad], dataset: str) -> ImageError:
    """One error for the images that cannot be cached; the first three are named."""
    listed = " ".join(one.sentence for one in bad[:3])
    rest = f" And {len(bad) - 3:,} more: {len(bad):,} unreadable images of {dataset} in all." if len(bad) > 3 else ""
    kind = ImageChanged if any(one.changed for one in bad) else ImageError
    return kind(f"{listed}{rest}")


def joint_stamp(stamps: Iterable[bytes]) -> bytes:
    """32 bytes for the stamps of several files."""
    return hashlib.sha256(b"".join(stamps)).digest()


def sealed(row: np.ndarray) -> bytes:
    """The row with its own checksum."""
    content = row.tobytes()[: -ROW["check"].itemsize]
    return content + zlib.crc32(content).to_bytes(ROW["check"].itemsize, "little")


def source_digest(files: Iterable[Path]) -> str:
    """SHA-256 (hex) over the bytes of a sample's files, as `ImageCache.source_digests` has it."""
    return source_digests(files)[0].hex()


def source_digests(files: Iterable[Path]) -> tuple[bytes, list[str]]:
    """SHA-256 over all files with their lengths, and that of each (hex)."""
    sha, each = hashlib.sha256(), []
    for path in files:
        content = read_bytes(path)
        sha.update(f"{len(content)}\n".encode())
        sha.update(content)
        each.append(hashlib.sha256(content).hexdigest())
    return sha.digest(), each
