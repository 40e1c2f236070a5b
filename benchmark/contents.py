"""What is in files: the SHA-256 of each, computed once and remembered by path, size, times and inode.

A file that was written anew has another change time, and no program can set that back: bytes replaced in place are noticed even where size
and modification time stay. What is remembered is a help and no proof; whoever decodes a file compares again.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import struct
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from benchmark import private
from benchmark.errors import DataChanged, DataError
from benchmark.events import Steps
from benchmark.files import open_regular

MEMORY = "contents.sqlite"
RECENT_NS = 100_000_000  # a file changed so shortly ago may change again within the same tick of the file system's clock
CHUNK_FILES, CHUNK_BYTES = 256, 64 * 2**20  # between two signs of life
THREADS = 4  # what waits for a disk is hidden behind what computes

_TABLE = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, stamp BLOB, sha256 BLOB) WITHOUT ROWID"

Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with (bytes hashed, bytes to hash)."""


def stamp_of(path: Path) -> bytes:
    """40 bytes that change whenever the file does: size, modification time, change time, inode."""
    return stamp_in(os.stat(path))


def stamp_in(status: os.stat_result) -> bytes:
    """`stamp_of` a file that was looked at."""
    return struct.pack("<QqqQ8x", status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & (2**64 - 1))


def is_recent(stamp: bytes, now_ns: int) -> bool:
    """Whether a file was changed so shortly before a look at it that a later change might not show in its stamp."""
    _, mtime_ns, ctime_ns, _ = struct.unpack("<QqqQ8x", stamp)
    newest: int = max(mtime_ns, ctime_ns)
    return now_ns - newest < RECENT_NS


def size_in(stamp: bytes) -> int:
    return int.from_bytes(stamp[:8], "little")


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of the file's bytes."""
    with open_regular(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_like(known: str, path: Path) -> str:
    """The file's digest in the form of `known`: `sha256:HEX` or `md5:HEX`.

    Raises:
        DataError: another kind of digest.
    """
    kind = known.partition(":")[0]
    if kind not in ("sha256", "md5"):
        raise DataError(f"{known!r} is no digest of a file: write sha256:HEX or md5:HEX.")
    with open_regular(path) as handle:
        return f"{kind}:{hashlib.file_digest(handle, kind).hexdigest()}"


def combined(digests: Sequence[str]) -> bytes:
    """32 bytes that stand for several files at once, in their order."""
    return hashlib.sha256("\n".join(digests).encode()).digest()


@dataclass(frozen=True)
class Contents:
    """What files should hold, as a job was planned with them.

    Attributes:
        digests: SHA-256 (hex) by path.
        listed: path -> the line of the release's own list of checksums that says so; other files were hashed.
        names_files: whether a sentence may name a file; where not, its path tells who was examined.
    """

    digests: Mapping[Path, str] = field(default_factory=dict)
    listed: Mapping[Path, str] = field(default_factory=dict)
    names_files: bool = True

    def of(self, files: Sequence[Path]) -> bytes | None:
        """What a sample's files should hold, `combined`; None where nothing is known of one of them."""
        found = [self.digests.get(path) for path in files]
        return None if None in found else combined([digest for digest in found if digest is not None])

    def refusal(self, path: Path, found: str) -> str | None:
        """The sentence for a file that holds something else; None where it holds what it should, or nothing is known."""
        expected = self.digests.get(path, found)
        if found == expected:
            return None
        name = f"{path}: " if self.names_files else ""
        if path in self.listed:
            return (
                f"{name}the file does not have the checksum of {self.listed[path]}: SHA-256 {expected} expected, {found} found. "
                "Fetch it again. If the change is meant, move the list away: files are then hashed, and results get a key of their own."
            )
        which = name or "an image file: "
        return (
            f"{which}its content is not what the job was planned with: SHA-256 {expected} expected, {found} found. "
            "It changed since; run the same command again."
        )


@dataclass(frozen=True)
class Looked:
    """What is remembered of files, and what is not.

    Attributes:
        digests: SHA-256 (hex) by path.
        unknown: files that were never hashed, or changed since, with their size in bytes.
    """

    digests: dict[Path, str]
    unknown: dict[Path, int]


class Memory:
    """Digests remembered in a cache folder: one small database, safe for several processes; a damaged one is made anew.

    Args:
        cache: folder of all caches; None remembers nothing.
    """

    def __init__(self, cache: Path | None):
        self.path = None if cache is None else cache / MEMORY

    def look(self, paths: Iterable[Path]) -> Looked:
        """What is known without reading a file. Raises DataError for a file that is not there."""
        digests: dict[Path, str] = {}
        unknown: dict[Path, int] = {}
        with self._opened() as database:
            for path in paths:
                stamp = _stamp(path)
                row = None
                if database is not None:
                    row = database.execute("SELECT stamp, sha256 FROM files WHERE path = ?", (_name(path),)).fetchone()
                if row is not None and row[0] == stamp:
                    digests[path] = row[1].hex()
                else:
                    unknown[path] = size_in(stamp)
        return Looked(digests, unknown)

    def remember(self, found: Iterable[tuple[Path, bytes, str]]) -> None:
        """Keeps (path, stamp before reading, SHA-256 hex). What cannot be kept is hashed again."""
        now = time.time_ns()
        rows = [(_name(path), stamp, bytes.fromhex(digest)) for path, stamp, digest in found if not is_recent(stamp, now)]
        if self.path is None or not rows:
            return
        try:
            private.root(self.path.parent)
            private.file(self.path)  # SQLite gives its journal the same mode
            with closing(_connect(self.path)) as database, database:
                database.execute(_TABLE)
                database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
        except sqlite3.OperationalError:
            return  # locked by something foreign, or a full disk, which whoever needs the room will say
        except sqlite3.DatabaseError:
            self.path.unlink(missing_ok=True)
        except OSError:
            return

    def digests(self, paths: Iterable[Path]) -> Generator[tuple[int, int], None, dict[Path, str]]:
        """SHA-256 (hex) by path; hashes what is not remembered, yielding (bytes hashed, bytes to hash).

        Of several processes one hashes at a time, a chunk at a time; the others wait and then find it done.

        Raises:
            DataError: a file is not there, cannot be read, or changes while it is read.
        """
        looked = self.look(paths)
        found, n_bytes, done = looked.digests, sum(looked.unknown.values()), 0
        if not looked.unknown:
            return found
        with ThreadPoolExecutor(THREADS, thread_name_prefix="hash") as pool:
            for chunk in _chunks(looked.unknown):
                yield done, n_bytes
                with self._alone():
                    again = self.look(chunk)
                    hashed = list(pool.map(_hashed, again.unknown))
                    self.remember(hashed)
                found |= again.digests | {path: digest for path, _, digest in hashed}
                done += sum(looked.unknown[path] for path in chunk)
        yield done, n_bytes
        return found

    def digest(self, path: Path) -> str:
        """SHA-256 (hex) of one file, remembered."""
        return drained(self.digests([path]))[path]

    def _opened(self) -> AbstractContextManager[sqlite3.Connection | None]:
        if self.path is None or not self.path.exists():
            return nullcontext()
        try:
            database = _connect(self.path)
            database.execute("SELECT path, stamp, sha256 FROM files LIMIT 1").fetchone()
        except sqlite3.OperationalError:
            return nullcontext()
        except sqlite3.DatabaseError:
            self.path.unlink(missing_ok=True)
            return nullcontext()
        return closing(database)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The only process that hashes, where the folder lets processes agree on that."""
        lock = None
        if self.path is not None:
            lock = FileLock(self.path.with_suffix(".lock"), mode=private.FILE)
            try:
                private.root(self.path.parent)
                lock.acquire()
            except OSError:
                lock = None
        try:
            yield
        finally:
            if lock is not None:
                lock.release()


def drained(steps: Generator[tuple[int, int], None, Result], progress: Progress | None = None) -> Result:
    """What a generator returns, after telling `progress` all that it yields."""
    kept = Steps(steps)
    for done, total in kept:
        if progress is not None:
            progress(done, total)
    return kept.result


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=60)
    database.execute("PRAGMA synchronous = OFF")  # after a power cut it may be damaged, and is then made anew
    return database


def _hashed(path: Path) -> tuple[Path, bytes, str]:
    try:
        before = stamp_of(path)
        digest = sha256_of(path)
        after = stamp_of(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Is it there, and may you read it?") from None
    if before != after:
        raise DataChanged(f"{path} changed while it was read. Run the same command again when nothing writes there.")
    return path, before, digest


def _stamp(path: Path) -> bytes:
    try:
        return stamp_of(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Is it there, and may you read it?") from None


def _name(path: Path) -> bytes:
    return os.fsencode(os.path.abspath(path))


def _chunks(sizes: Mapping[Path, int]) -> Iterator[list[Path]]:
    chunk: list[Path] = []
    n_bytes = 0
    for path, size in sizes.items():
        if chunk and (len(chunk) >= CHUNK_FILES or n_bytes + size > CHUNK_BYTES):
            yield chunk
            chunk, n_bytes = [], 0
        chunk.append(path)
        n_bytes += size
    if chunk:
        yield chunk
