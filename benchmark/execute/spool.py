"""Finished records on the node that made them, until the driver has stored them. A driver that comes later collects them first.

One folder a record, made under a temporary name and renamed: it is there whole or not at all. Lives in $LOBE_SPOOL, else in the node's
temporary folder; only its owner can read or write there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from benchmark import json_files, private
from benchmark.cards import Record
from benchmark.files import read_bytes
from benchmark.integrity import bytes_digest

RECORD, FILES, SUMS = "record.json", "files", "sums.json"


def folder_of(store_id: str) -> Path:
    """This node's spool of an output folder."""
    root = os.environ.get("LOBE_SPOOL") or Path(tempfile.gettempdir()) / f"lobe-spool-{os.getuid()}"
    return Path(root) / store_id


def keep(store_id: str, record: Record, files: Mapping[str, bytes]) -> bool:
    """Keeps a record and its files; False when the node's disk does not take them: they then live only on their way to the driver."""
    folder = folder_of(store_id)
    try:
        private.folder(folder)
        if not _ours(folder.parent):
            return False
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
    except OSError:
        return False
    try:
        private.folder(making / FILES)
        stored = record.model_dump_json().encode()
        for name, content in files.items():
            _write(making / FILES / name, content)
        _write(making / RECORD, stored)
        _write(making / SUMS, json.dumps(_sums(stored, files)).encode())
        if (folder / record.key).exists():  # of an earlier driver: the same job, the same record
            shutil.rmtree(folder / record.key)
        os.replace(making, folder / record.key)
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
        return False
    return True


def waiting(store_id: str, wanted: Iterable[str]) -> Iterator[tuple[Record, dict[str, bytes]]]:
    """Kept records of the wanted jobs. What is damaged or is not a record is left out; the job runs again."""
    folder = folder_of(store_id)
    if not folder.is_dir() or not _ours(folder.parent):
        return
    wanted = set(wanted)
    for path in sorted(p for p in folder.iterdir() if re.fullmatch(r"[0-9a-f]{32}", p.name) and p.name in wanted):
        with contextlib.suppress(OSError, ValueError, ValidationError):
            stored = read_bytes(path / RECORD)
            record = Record.model_validate_json(stored)
            files = {p.name: read_bytes(p) for p in sorted((path / FILES).iterdir()) if p.is_file() and not p.is_symlink()}
            if record.key == record.job.key == path.name and json_files.read(path / SUMS) == _sums(stored, files):
                yield record, files


def forget(store_id: str, keys: Iterable[str]) -> None:
    """Deletes what the driver has stored."""
    folder = folder_of(store_id)
    for key in keys:
        shutil.rmtree(folder / key, ignore_errors=True)
    with contextlib.suppress(OSError):  # not empty, or not there
        folder.rmdir()


def _sums(record: bytes, files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of the record and of its files, by name."""
    return {RECORD: bytes_digest(record)} | {f"{FILES}/{name}": bytes_digest(content) for name, content in files.items()}


def _ours(root: Path) -> bool:
    """Nobody else could have put files there."""
    found = root.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb", opener=private.opener) as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
