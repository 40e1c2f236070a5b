"""Whether a zip archive of weights is whole: every checksum holds, no name stands twice, and it unpacks to about its own size.

torch reads such archives without looking at their checksums, so one flipped byte gives another network.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from benchmark.errors import CheckpointError
from benchmark.files import open_regular

MOST_ENTRIES = 100_000  # of an archive; a network has some thousand tensors
MOST_EXPANSION = 20  # times its size that an archive may unpack to: weights hardly compress
MOST_PICKLE_BYTES = 64 * 2**20  # names and settings beside the tensors
_FREE_BYTES = 64 * 2**20  # so much may unpack at any expansion ratio
_CHUNK = 2**20
_FOLDER = 0x10  # bit of an entry's attributes
_END_BYTES = 2**16 + 200  # in which the last records of an archive lie, a comment included
_IN_ZIP64 = 0xFFFF  # as a count: it stands in another record


def names_in(path: Path) -> list[str] | None:
    """Names of the archive's entries; None where the file is no zip archive, or one cut short."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None


def require_whole(path: Path) -> None:
    """Reads the archive once.

    Raises:
        CheckpointError: an entry is damaged, or the archive is built to exhaust whoever reads it.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _require_bounds(path, entries)
            if not any(entry.CRC for entry in entries):
                return  # torch was told to compute none when it saved: there is nothing to hold the content to
            for entry in entries:
                with archive.open(entry) as content:
                    while content.read(_CHUNK):
                        pass
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{path.name} is damaged: {_reason(error)}. Fetch it again.") from None


def _require_bounds(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MOST_ENTRIES:
        raise CheckpointError(f"{path.name} holds {len(entries):,} entries; no network has more than {MOST_ENTRIES:,} tensors.")
    if len({entry.filename for entry in entries}) < len(entries):
        raise CheckpointError(f"{path.name} is damaged: it holds two entries of one name. Fetch it again.")
    if (declared := _declared_count(path)) is not None and declared != len(entries):
        raise CheckpointError(f"{path.name} is damaged: it lists {len(entries)} entries and says it has {declared}. Fetch it again.")
    if any(entry.external_attr & _FOLDER and entry.file_size for entry in entries):
        raise CheckpointError(f"{path.name} is damaged: it calls an entry with content a folder. Fetch it again.")  # torch would read none
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(_FREE_BYTES, MOST_EXPANSION * path.stat().st_size):
        raise CheckpointError(
            f"{path.name} would unpack to {unpacked / 2**30:.1f} GiB, more than {MOST_EXPANSION} times its size. It holds no weights."
        )
    for entry in entries:
        if entry.filename.endswith("data.pkl") and entry.file_size > MOST_PICKLE_BYTES:
            raise CheckpointError(
                f"{path.name} holds {entry.file_size / 2**20:.0f} MiB beside its tensors. Save the state_dict() alone, without settings."
            )


def _declared_count(path: Path) -> int | None:
    """Number of entries by the record at the archive's end: a damaged directory swallows entries without an error."""
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, n_bytes - _END_BYTES))
        end = file.read()
    at = end.rfind(b"PK\x05\x06")
    count = int.from_bytes(end[at + 10 : at + 12], "little") if at >= 0 else _IN_ZIP64
    if count != _IN_ZIP64:
        return count
    at = end.rfind(b"PK\x06\x06")
    return int.from_bytes(end[at + 32 : at + 40], "little") if at >= 0 else None


def _reason(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__
