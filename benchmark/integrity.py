"""Whether what is stored may be believed: a record's own checksum, the digests of its files, paths that stay inside, values that can be.

A checksum catches what happens to files: a flipped bit, a copy cut short, a number typed over in an editor. It is no signature: whoever
edits and counts it anew is caught only where the value is impossible or a path leads out; the files' own scores are then the judge
(`benchmark.submission.score`). Records of earlier releases carry no checksum and are held to the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.cards import Record, digest_of
from benchmark.errors import DamagedResult
from benchmark.files import open_regular
from benchmark.metrics import spec

PREDICTIONS = "predictions"  # folder of all records' files, in the output folder
_CURE = "Move it away to have the job computed again."


def sealed(record: Record) -> Record:
    """The record with the checksum of its content."""
    return record.model_copy(update={"checksum": _checksum(json.loads(record.model_dump_json()))})


def require_believable(record: Record, raw: Mapping[str, Any], name: str) -> None:
    """Holds a record to its checksum, and to what can be checked without one.

    Args:
        raw: the JSON it was read from: fields of a later release are part of the checksum.
        name: what the sentence calls it: its path, or where it came from.

    Raises:
        DamagedResult: what is wrong, and what to do.
    """
    fault = _fault(record, raw)
    if fault:
        raise DamagedResult(record.key, f"The record {name} is damaged or was edited: {fault}. {_CURE}")


def file_of(record: Record, name: str, out: Path) -> Path | None:
    """A file of the record's predictions or statistics, held to the digest that the record has of it.

    Args:
        name: of the file in `predictions/<key>/`.
        out: the output folder.

    Returns:
        Its path; None where there is no such file, or the record names none.

    Raises:
        DamagedResult: the file is not what was stored, or leads out of the output folder.
    """
    relative = f"{PREDICTIONS}/{record.key}/{name}"
    if record.checksum and relative not in record.predictions:
        return None  # nothing this record made
    path = out / relative
    if not _is_of(record.key, relative) or not path.resolve().is_relative_to(out.resolve()):
        raise DamagedResult(record.key, f"{path}, a file of the record {record.key}, leads out of {out}. Move its record away.")
    if not path.is_file():
        return None
    expected = record.file_digests.get(relative)
    if expected is not None and file_digest(path) != expected:
        raise DamagedResult(
            record.key,
            f"{path} is not the file that was stored: its SHA-256 is not the one in its record. Bring the file back from a copy, or move "
            f"its record {record.key}.json away to have the job computed again.",
        )
    return path


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file, remembered in this process by size and times."""
    found = path.stat()
    return _digest(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def bytes_digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _fault(record: Record, raw: Mapping[str, Any]) -> str:
    if record.job.key != record.key:
        return "its job has another key"
    if strangers := [name for name in record.predictions if not _is_of(record.key, name)]:
        return f"it names {strangers[0]!r}, which is no file of {PREDICTIONS}/{record.key}"
    if not record.checksum and not raw.keys().isdisjoint(("checksum", "file_digests")):  # older releases wrote neither
        return "its checksum was taken out"
    if record.checksum and _checksum(raw) != record.checksum:
        return "its content is not what its checksum says"
    if record.checksum and set(record.file_digests) != set(record.predictions):
        return "it has no digest of a file it names"
    tables = {"metrics": record.metrics, "validation": record.validation}
    tables |= {f"anchor {name}": scores for name, scores in record.anchors.items()}
    tables |= {f"epoch {line.epoch}": line.metrics for line in record.curve}
    undeclared = spec.ANY if record.job.experiment.own_metrics else spec.SHARE
    for table, values in tables.items():
        if fault := spec.fault_of(values, undeclared):
            return f"{table}: {fault}"
    return ""


def _checksum(raw: Mapping[str, Any]) -> str:
    try:
        return digest_of({name: value for name, value in raw.items() if name != "checksum"})
    except (ValueError, RecursionError):  # what is nested just short of too deep is read, and can no longer be written
        return "none: it holds what no record holds, such as NaN"


def _is_of(key: str, name: str) -> bool:
    """Whether a name is that of a file in the folder of this record, spelt in the one way it is written."""
    path = PurePosixPath(name)
    return path.as_posix() == name and path.parts[:2] == (PREDICTIONS, key) and len(path.parts) == 3 and not {"..", "."} & set(path.parts)


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime_ns: int, ctime_ns: int) -> str:
    with open_regular(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
