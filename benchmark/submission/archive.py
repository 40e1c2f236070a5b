"""Archives of submissions: written the same to the byte each time, and read as if an enemy had made them.

A ZIP file has two tables of contents, and programs that trust one are fooled by the other. Here both must agree, entries must fill the file
from its first byte to its last without gap or overlap, and every name must be one that `manifest` knows. Nothing is unpacked by a library.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path

from pydantic import ValidationError

from benchmark import json_files
from benchmark.errors import UsageError
from benchmark.files import open_regular
from benchmark.submission import manifest as of_archive
from benchmark.submission.manifest import FORMAT, NAME, Manifest, PackedFile

SUFFIX = ".zip"
MOST_BYTES = 2**32 - 2**16  # of an archive; below what ZIP64 is for
MOST_FILES = 20_000
MOST_UNPACKED = 2**34
MOST_FOLD = 200  # unpacked bytes for each packed one; JSON of records stays below 40
# Of one file, unpacked. A record with a curve of a thousand epochs has 1 MB.
MOST_OF = {"manifest": 2**24, "record": 2**26, "card": 2**20, "result": 2**31}

_DATE = (1980, 1, 1, 0, 0, 0)
_LEVEL = 6
_MODE = stat.S_IFREG | 0o644
_LOCAL = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
_MAGIC = {"result": (b"PAR1", "a Parquet file"), "record": (b"{", "JSON"), "card": (b"{", "JSON"), "manifest": (b"{", "JSON")}


class BadArchive(UsageError):
    """An archive that is not opened; the sentence says why."""


@dataclass(frozen=True)
class Archive:
    """An archive whose tables of contents were checked; its files are read when asked for.

    Attributes:
        sha256: of the whole file.
        names: of its files, in order.
    """

    path: Path
    sha256: str
    names: tuple[str, ...]
    manifest: Manifest
    _zip: zipfile.ZipFile

    @property
    def id(self) -> str:
        """What it is called in the history and on pages: the beginning of its digest."""
        return self.sha256[:12]

    @cached_property
    def _expected(self) -> dict[str, PackedFile]:
        return {one.name: one for one in self.manifest.files}

    def read(self, name: str) -> bytes:
        """Raises BadArchive for a file that is not what the manifest says."""
        with _guarded(self.path):
            found = _content(self._zip, name, self.path)
        expected = self._expected.get(name)
        if expected is not None and (len(found), hashlib.sha256(found).hexdigest()) != (expected.bytes, expected.sha256):
            raise _bad(self.path, f"{name} is not the file that its manifest names: size or SHA-256 differ")
        return found

    def unpack(self, folder: Path, opener: Callable[[str, int], int] | None = None) -> None:
        """Writes all of its files into an empty folder, as an output folder has them.

        Raises:
            BadArchive: as `read`.
            OSError: the folder takes no files.
        """
        for name in self.names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb", opener=opener) as handle:
                handle.write(self.read(name))


def write(path: Path, files: Mapping[str, Callable[[], bytes]]) -> None:
    """Writes an archive: the same files give the same bytes, whenever and by whomever.

    Args:
        files: name -> what gives its content; asked one after another, in order of names.
    """
    with zipfile.ZipFile(path, "w") as packed:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = 3, _MODE << 16
            # Parquet is compressed already.
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".parquet") else zipfile.ZIP_DEFLATED
            packed.writestr(entry, files[name](), compresslevel=_LEVEL)


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """An archive, after every check that needs none of its files but the manifest.

    Raises:
        BadArchive: it is no archive of a submission, or not one that is safe to open.
    """
    with ExitStack() as stack:
        with _guarded(path):
            handle = stack.enter_context(open_regular(path))
            n_declared = _require_bounded(handle, path)
            packed = stack.enter_context(zipfile.ZipFile(handle))
            _require_plain(handle, packed, n_declared, path)
            manifest = _manifest(packed, path)
            names = tuple(info.filename for info in packed.infolist())
            listed = [one.name for one in manifest.files]
            if len(set(listed)) != len(listed) or sorted([*listed, NAME]) != sorted(names):
                odd = sorted(set(names).symmetric_difference({*listed, NAME})) or ["one of them twice"]
                raise _bad(path, f"its manifest does not name the files it holds: {odd[0]}")
            handle.seek(0)
            found = Archive(path, hashlib.file_digest(handle, "sha256").hexdigest(), names, manifest, packed)
        yield found


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Whatever a library says of a file that it cannot read, as a sentence."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _bad(path, f"it cannot be read ({error or type(error).__name__})") from None
    except OSError as error:
        raise UsageError(f"Cannot read the archive {path}: {error.strerror or error}.") from None


def _require_bounded(handle: BufferedReader, path: Path) -> int:
    """The number of entries that the file declares. Holds it and the file's size to limits: a library would load the whole table first."""
    size = handle.seek(0, 2)
    if size > MOST_BYTES:
        raise _bad(path, f"it has {size:,} bytes, more than {MOST_BYTES:,}")
    if size < _END.size:
        raise _bad(path, "it is no ZIP file")
    handle.seek(size - _END.size)
    magic, disk, first_disk, here, total, table_bytes, table_start, comment = _END.unpack(handle.read(_END.size))
    if magic != b"PK\x05\x06" or comment:
        raise _bad(path, "it does not end as a ZIP file without a comment does: cut off, or something was put behind it")
    if disk or first_disk or here != total or total > MOST_FILES or table_bytes > MOST_FILES * 256:
        raise _bad(path, f"it declares {total:,} files in {table_bytes:,} bytes of contents; at most {MOST_FILES:,} files are opened")
    if table_start + table_bytes + _END.size != size:
        raise _bad(path, "bytes stand before, behind or between its parts that belong to no file")
    return int(total)


def _require_plain(handle: BufferedReader, packed: zipfile.ZipFile, n_declared: int, path: Path) -> None:
    """Holds every entry to a known name, to limits, and to its place in the file, which no other may share."""
    infos = packed.infolist()
    if len(infos) != n_declared:  # a library reads by the table's bytes, and asks nobody how many entries they are
        raise _bad(path, f"it declares {n_declared:,} files, and its table of contents has {len(infos):,}")
    names = [info.filename for info in infos]
    unpacked, end = 0, 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        kind = of_archive.kind_of(info.orig_filename)
        if kind is None or info.orig_filename != info.filename:
            raise _bad(path, f"it holds {_shown(info.orig_filename)}, which is no file of a submission")
        if info.create_system == 3 and stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _bad(path, f"{info.filename} is a link or something else that is no plain file")
        if info.flag_bits or info.extra or info.comment or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _bad(path, f"{info.filename} is encrypted, or packed in a way that submissions are not")
        if info.file_size > MOST_OF[kind]:
            raise _bad(path, f"{info.filename} would have {info.file_size:,} bytes; a {kind} has at most {MOST_OF[kind]:,}")
        if info.file_size > MOST_FOLD * max(info.compress_size, 64):
            raise _bad(
                path, f"{info.filename} would unpack to {info.file_size:,} bytes from {info.compress_size:,}: no file here repeats so"
            )
        unpacked += info.file_size
        if info.header_offset != end:
            raise _bad(path, f"{info.filename} shares its bytes with another file, or leaves a gap before it")
        end = info.header_offset + _header_bytes(handle, info, path) + info.compress_size
    if unpacked > MOST_UNPACKED:
        raise _bad(path, f"it would unpack to {unpacked:,} bytes, more than {MOST_UNPACKED:,}")
    if end != packed.start_dir:
        raise _bad(path, "bytes stand behind its last file that belong to no file")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _bad(path, f"it holds {twice} more than once")


def _header_bytes(handle: BufferedReader, info: zipfile.ZipInfo, path: Path) -> int:
    """Size of the entry's own header. Raises BadArchive where it says something else than the table of contents."""
    handle.seek(info.header_offset)
    magic, _, flags, method, _, _, crc, packed, unpacked, n_name, n_extra = _LOCAL.unpack(handle.read(_LOCAL.size))
    name = handle.read(n_name)
    said = (magic, flags, method, crc, packed, unpacked, n_extra, name)
    if said != (b"PK\x03\x04", 0, info.compress_type, info.CRC, info.compress_size, info.file_size, 0, info.filename.encode("ascii")):
        raise _bad(path, f"{info.filename}: its two headers contradict each other")
    return _LOCAL.size + n_name


def _manifest(packed: zipfile.ZipFile, path: Path) -> Manifest:
    if NAME not in packed.NameToInfo:
        raise _bad(path, f"it has no {NAME}: it was not made by `lobe submit`")
    try:
        raw = json_files.parse(_content(packed, NAME, path))
        version = raw.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise UsageError(f"{path} was packed by a newer LOBE (format {version} > {FORMAT}); update LOBE to read it.")
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise _bad(path, f"its {NAME} is none: key {'.'.join(map(str, first['loc']))!r}: {first['msg']}") from None
    except ValueError as error:
        raise _bad(path, f"its {NAME} is none: {error}") from None


def _content(packed: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """A file, never more of it than was declared and allowed."""
    info = packed.getinfo(name)
    with packed.open(info) as handle:
        found = handle.read(info.file_size + 1)
    if len(found) != info.file_size:
        raise _bad(path, f"{name} has another size than declared")
    magic, what = _MAGIC[of_archive.kind_of(name) or "card"]
    if not found.startswith(magic):
        raise _bad(path, f"{name} is not {what}")
    return found


def _shown(name: str) -> str:
    """A name of any letters, as a sentence can bear it."""
    return ascii(name if len(name) <= 80 else f"{name[:80]}…")


def _bad(path: Path, why: str) -> BadArchive:
    return BadArchive(f"{path} is refused: {why}.")
