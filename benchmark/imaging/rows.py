"""One row of the image cache beside its pixels: where it came from, and the checksums that tell whether it is still what was written."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

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


class RefusedImage(NamedTuple):
    """An image whose content is not the planned one, with the sentence that says so.

    `read` is as in `Prepared`: it tells what the files hold now.
    """

    id: str
    sentence: str
    read: list[tuple[Path, bytes, str]]


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
