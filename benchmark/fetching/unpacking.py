"""Archives of others, unpacked into an empty folder as if an enemy had made them: zip, and tar plain or compressed.

Only files and folders are written, by names that stay inside; links, devices and absolute names are refused, and so is an archive that
unpacks to much more than its size. What bytes come is counted, not what the archive declares.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from benchmark.errors import DataError
from benchmark.fetching.transfer import FetchError, Progress, full_disk
from benchmark.files import open_regular

MOST_FILES = 2_000_000
MOST_EXPANSION = 20  # times its size that an archive may unpack to: images hardly compress
FREE_BYTES = 2**28  # so much may unpack at any expansion
_MOST_NAME = 1024
_CHUNK = 2**20


def unpack(archive: Path, into: Path, strip: int = 0, progress: Progress = lambda done, total: None) -> int:
    """Unpacks all files of an archive below `into`.

    Args:
        strip: leading folders of each name that are left out; what lies above them is left out too.
        progress: told how many bytes were written, of how many is not known.

    Returns:
        Number of files.

    Raises:
        DataError: it is no archive, is damaged, or holds what is not unpacked; what was written so far is the caller's to remove.
        FetchError: no room.
    """
    most = max(FREE_BYTES, MOST_EXPANSION * archive.stat().st_size)
    n_files, n_bytes, name = 0, 0, ""
    try:
        with open_regular(archive) as handle:
            for name, content in _entries(handle, archive, most):
                place = _place(name, strip, archive)
                if place is None:
                    continue
                n_files += 1
                if n_files > MOST_FILES:
                    raise _bad(archive, f"it holds more than {MOST_FILES:,} files")
                target = into / place
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as written:
                    while piece := content.read(_CHUNK):
                        n_bytes += len(piece)
                        if n_bytes > most:
                            raise _bad(archive, f"it would unpack to more than {most / 2**30:.1f} GiB, {MOST_EXPANSION} times its size")
                        written.write(piece)
                progress(n_bytes, 0)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise _bad(archive, f"it holds {_shown(name)} twice, or as a file and as a folder") from None
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise _bad(archive, f"it is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})") from None
    except OSError as error:
        if full_disk(error):
            raise FetchError(f"No room left for what {archive.name} holds in {into}. Make room and run the same command again.") from None
        raise _bad(archive, f"it is damaged ({error})") from None
    if not n_files:
        raise _bad(archive, "it holds no file" + (f" below {strip} folder(s)" if strip else ""))
    return n_files


def is_archive(path: Path) -> bool:
    """Whether the file begins as a zip or tar archive, or a compressed one, does."""
    with open_regular(path) as handle:
        head = handle.read(512)
    return head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) or head[257:262] == b"ustar"


def _entries(handle: IO[bytes], archive: Path, most: int) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, content) of every file, in order; the archive is read to its last byte, so that one that was cut does not pass for whole."""
    magic = handle.read(6)
    handle.seek(0)
    if magic.startswith(b"PK\x03\x04"):
        yield from _zipped(handle, archive)
        return
    plain = _decompressed(handle, magic)
    with tarfile.open(fileobj=plain, mode="r|") as packed:
        for member in packed:
            if member.isdir():
                continue
            content = packed.extractfile(member) if member.isreg() else None
            if content is None:
                raise _bad(archive, f"{_shown(member.name)} is a link or a device")
            yield member.name, content
    n_after = 0
    while piece := plain.read(_CHUNK):
        n_after += len(piece)
        if n_after > most:
            raise _bad(archive, f"more than {most / 2**30:.1f} GiB follow its last file")


def _decompressed(handle: IO[bytes], magic: bytes) -> IO[bytes] | gzip.GzipFile:
    """What a compressed tar archive holds. These readers, unlike tarfile's own, tell an end that comes too early."""
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=handle, mode="rb")
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(handle)
    if magic.startswith(b"\xfd7zXZ"):
        return lzma.LZMAFile(handle)
    return handle


def _zipped(handle: IO[bytes], archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(handle) as packed:
        for info in packed.infolist():
            if info.is_dir():
                continue
            if info.create_system == 3 and stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                raise _bad(archive, f"{_shown(info.filename)} is a link or a device")
            if info.flag_bits & 1:
                raise _bad(archive, f"{_shown(info.filename)} is encrypted")
            with packed.open(info) as content:
                yield info.orig_filename, content


def _place(name: str, strip: int, archive: Path) -> PurePosixPath | None:
    """The name below the folder, without its first folders; None for what lies above them."""
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in name or (path.parts and ":" in path.parts[0])
    if not path.parts or outside or len(name) > _MOST_NAME or any(ord(letter) < 32 for letter in name):
        raise _bad(archive, f"{_shown(name)} leads out of the folder, or is no name of a file")
    return PurePosixPath(*path.parts[strip:]) if len(path.parts) > strip else None


def _shown(name: str) -> str:
    """A name of any letters, as a sentence can bear it."""
    return ascii(name if len(name) <= 80 else f"{name[:80]}…")


def _bad(archive: Path, why: str) -> DataError:
    return DataError(f"{archive} is not unpacked: {why}.")
