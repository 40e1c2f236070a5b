"""How files are opened and written: those of others as regular files alone, our own whole or not at all.

A named pipe, a device or a socket in place of a file makes whoever opens it wait for ever, or read for ever. Every file of a data folder,
an output folder, a cache, a card or weights is therefore opened here; libraries that open by path get a path that was looked at first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import IO, Any, Literal, overload

from benchmark.errors import NotRegular, UsageError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # a disk or a quota takes no more, or no file so large
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


@overload
def open_regular(path: Path | str, mode: Literal["rb"] = "rb") -> BufferedReader: ...
@overload
def open_regular(path: Path | str, mode: Literal["r"], **options: Any) -> TextIOWrapper: ...
def open_regular(path: Path | str, mode: str = "rb", **options: Any) -> IO[Any]:
    """As `open`, for reading; never waits. Links are followed.

    Args:
        mode: "rb" or "r".
        options: of `open`, such as encoding and newline.

    Raises:
        NotRegular: it is something else than a regular file.
        OSError: as `open`.
    """
    return open(path, mode, opener=_opener, **options)


def read_bytes(path: Path | str) -> bytes:
    """As `Path.read_bytes`, of a regular file."""
    with open_regular(path) as handle:
        return handle.read()


def read_text(path: Path | str, encoding: str = "utf-8") -> str:
    """As `Path.read_text`, of a regular file."""
    with open_regular(path, "r", encoding=encoding) as handle:
        return handle.read()


def write_atomically(path: Path, content: bytes, opener: Callable[[str, int], int] | None = None) -> None:
    """Writes under a temporary name, syncs, renames: a reader sees the old file, the new one, or none, never a part.

    Args:
        opener: as of `open`; `private.opener` for a file that only the user may read.

    Raises:
        OSError: it cannot be written; it names `path`, which writing itself does not.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=opener) as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def writing(path: Path | str, cure: str) -> Iterator[None]:
    """Around writing what the user named: says in a sentence why it cannot be. A full disk keeps its own sentence (`faults.no_room`).

    Args:
        path: what the user named.
        cure: a sentence, what to do next.

    Raises:
        UsageError: a folder stands where a file is meant or the other way round, there is no such folder, or it may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise
        raise UsageError(f"{path} cannot be written: {error.strerror or error}. {cure}") from None


def require_regular(path: Path | str) -> None:
    """For libraries that open by path. Raises NotRegular or, where there is nothing, FileNotFoundError."""
    _require(os.stat(path), path)


def require_regular_in(folder: Path | str) -> None:
    """For libraries that choose by themselves what they open in a folder. Raises NotRegular; folders below it are not looked at."""
    for entry in os.scandir(folder):
        if not entry.is_dir() and os.path.exists(entry.path):
            require_regular(entry.path)


def _opener(path: str, flags: int) -> int:
    _require(os.stat(path), path)  # before: opening alone may act on a device
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    try:
        _require(os.fstat(descriptor), path)  # after: it may have been replaced in between
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require(status: os.stat_result, path: Path | str) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise NotRegular(path, _KINDS.get(kind, "no file"))
