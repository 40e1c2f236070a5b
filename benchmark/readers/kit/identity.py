"""Which dataset a job was computed on: label files and the content of the images that its split can use, as one digest.

The digest is a function of the folder, the split, the limit, and whether the job trains, all of which are the job's own and in its key
anyway: what else is planned beside it, and which share of the training images it takes, change nothing. Images outside the split are not
read, nor training images for a job that trains nothing. A limited run covers only the images that its limit can reach, so that a trial on
16 images of a large release need not read the release first.

Where the release publishes checksums they stand for content, and nothing is read before images are decoded: each is then held to its own
(`benchmark.imaging.cache`). A list and hashing give the same digest, for both are the SHA-256 of the file.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.contents import Contents, Memory
from benchmark.errors import DataError
from benchmark.files import open_regular
from benchmark.readers.base import SPLITS, Reader, place_below

UNTRAINED = ("validation", "test")  # the splits of a job that trains nothing
MINIMUM_POSITIVES = 4  # of a limited split
CHECKSUMS = "SHA256SUMS.txt"  # PhysioNet puts one into the root of every release

_LINE = re.compile(rb"([0-9a-fA-F]{64}) [ *]?(?:\./)?(.+)")


@dataclass(frozen=True)
class Identity:
    """A dataset as a job sees it.

    Attributes:
        digest: SHA-256; None while some of the files were not hashed.
        contents: of the files that are decoded.
        unhashed: files whose content is not known yet, with their size in bytes.
    """

    digest: str | None
    contents: Contents
    unhashed: Mapping[Path, int] = field(default_factory=dict)


def used(splits: Mapping[str, Sequence[str]], *, trains: bool) -> dict[str, Sequence[str]]:
    """The splits that a job sees."""
    return {name: ids for name, ids in splits.items() if trains or name in UNTRAINED}


def identify(
    reader: Reader, splits: Mapping[str, Sequence[str]], limit: int | None, memory: Memory
) -> Generator[tuple[int, int], None, Identity]:
    """Hashes what is neither listed by the release nor remembered, yielding (bytes hashed, bytes to hash).

    Args:
        splits: those that the job sees, `used`.

    Raises:
        DataError: a file cannot be read.
    """
    decoded, read = _files(reader, covered(reader, splits, limit))
    published = _listed(reader, decoded)
    wanted = [path for path in (*decoded, *read) if path not in published]
    try:
        hashed = yield from memory.digests(wanted)
    except DataError as error:
        raise _without_files(reader, error) from None
    return _identity(reader, decoded, read, published, hashed, {})


def look(reader: Reader, splits: Mapping[str, Sequence[str]], limit: int | None, memory: Memory) -> Identity:
    """As `identify`, but reads no image: what is not known yet is counted."""
    decoded, read = _files(reader, covered(reader, splits, limit))
    published = _listed(reader, decoded)
    try:
        looked = memory.look(path for path in (*decoded, *read) if path not in published)
    except DataError as error:
        raise _without_files(reader, error) from None
    return _identity(reader, decoded, read, published, looked.digests, looked.unknown)


def listed(reader: Reader, ids: Sequence[str]) -> Contents:
    """What the release's own list says of the images; empty where there is no list."""
    found = _listed(reader, _files(reader, ids)[0])
    digests = {path: digest for path, (digest, _) in found.items()}
    return Contents(digests, {path: where for path, (_, where) in found.items()}, reader.names_files)


def covered(reader: Reader, splits: Mapping[str, Sequence[str]], limit: int | None) -> tuple[str, ...]:
    """Ids that a job of this split and limit may use at any fraction: all, or of each split the first `limit` and first positives.

    A limited split takes the head of the list after the fraction, and late negatives give way to the list's next positives
    (`benchmark.training.data.limit_samples`); both are of the head or of the first few positives.
    """
    ids: dict[str, None] = {}
    for split in SPLITS:
        everything = splits.get(split, ())
        ids.update(dict.fromkeys(everything if limit is None else reached(reader, everything, limit)))
    return tuple(ids)


def reached(reader: Reader, ids: Sequence[str], limit: int) -> tuple[str, ...]:
    """Ids of a split that a job of this limit may use."""
    return tuple(dict.fromkeys((*ids[:limit], *_first_positives(reader, ids))))


def _first_positives(reader: Reader, ids: Sequence[str]) -> list[str]:
    found: list[str] = []
    for sample_id in ids:
        if len(found) == MINIMUM_POSITIVES:
            break
        if reader.sample(sample_id).positive:
            found.append(sample_id)
    return found


def _files(reader: Reader, ids: Sequence[str]) -> tuple[dict[Path, None], dict[Path, None]]:
    """Files that are decoded, and those that are read in another way."""
    decoded = dict.fromkeys(path for sample_id in ids for path in reader.files_of(sample_id))
    return decoded, dict.fromkeys(path for sample_id in ids for path in reader.texts_of(sample_id))


def _identity(
    reader: Reader,
    decoded: Mapping[Path, None],
    read: Mapping[Path, None],
    published: Mapping[Path, tuple[str, str]],
    hashed: Mapping[Path, str],
    unhashed: Mapping[Path, int],
) -> Identity:
    digests = {path: published[path][0] if path in published else hashed[path] for path in decoded if path in published or path in hashed}
    contents = Contents(digests, {path: where for path, (_, where) in published.items()}, reader.names_files)
    if unhashed:
        return Identity(None, contents, unhashed)
    sha = hashlib.sha256(f"{reader.label_digest()}\n".encode())
    for line in sorted(f"{reader.named(path)}\t{digests.get(path) or hashed[path]}\n" for path in {**decoded, **read}):
        sha.update(line.encode())
    return Identity(sha.hexdigest(), contents)


def _listed(reader: Reader, wanted: Mapping[Path, None]) -> dict[Path, tuple[str, str]]:
    """Path -> SHA-256 (hex) that the release lists, and where. A line that is none of the format says nothing."""
    found: dict[Path, tuple[str, str]] = {}
    for folder in dict.fromkeys(reader.checksum_folders):
        if not (folder / CHECKSUMS).is_file():
            continue
        below = os.path.join(folder, "")
        names = {place_below(folder, path).encode(): path for path in wanted if str(path).startswith(below)}
        with open_regular(folder / CHECKSUMS) as lines:
            for number, line in enumerate(lines, start=1):
                parsed = _LINE.fullmatch(line.removeprefix(codecs.BOM_UTF8).strip())
                if parsed is not None and parsed[2] in names:
                    found[names[parsed[2]]] = (parsed[1].decode().lower(), f"{CHECKSUMS} line {number:,}")
    return found


def _without_files(reader: Reader, error: DataError) -> DataError:
    if reader.names_files:
        return error
    return DataError(f"{reader.card.name}: an image of the split cannot be read, or changed while it was. Is the folder complete?")
