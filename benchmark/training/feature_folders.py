"""Folders of stored features: entered by who uses them, listed, and removed where the disk gets full. What lies in one: `feature_store`.

A set is in use as long as a process holds a lock on its file `used`, whose time says when it was last opened. Locks vanish with processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmark import json_files, private

FOLDER = "features"  # beside that of images, in the folder of caches
LEAST_FREE_BYTES = 2**30  # of a disk, left to others; of a large one a share
LEAST_FREE_SHARE = 0.05
RECIPE_FILE, USED_FILE = "recipe.json", "used"
GONE = ".gone-"  # starts the name of a set that is being removed


class StoredSet(NamedTuple):
    """One folder of `list_sets`."""

    path: Path
    dataset: str
    bytes: int


def list_sets(folder: Path) -> list[StoredSet]:
    """Every set below `folder`, the largest first; sizes are bytes on disk."""
    found = []
    for path in _by_last_use(folder):
        try:
            dataset = str(json_files.read(path / RECIPE_FILE)["dataset"])
        except (OSError, ValueError, KeyError, TypeError):
            dataset = "-"
        found.append(StoredSet(path, dataset, sum(p.stat().st_blocks * 512 for p in path.iterdir() if p.is_file())))
    return sorted(found, key=lambda one: -one.bytes)


def enter(path: Path) -> int:
    """A descriptor of the set's `used`, locked against removal as long as it is open; the set is begun where it is not there.

    Raises:
        OSError: the folder cannot be written, or its file system has no locks.
    """
    while True:
        private.folder(path)
        used = private.opener(str(path / USED_FILE), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(used, fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):  # removed between the two lines above
                if os.path.samestat(os.stat(path / USED_FILE), os.fstat(used)):
                    os.utime(used)
                    return used
        except OSError:
            os.close(used)
            raise
        os.close(used)


def make_room(folder: Path, n_bytes: int) -> bool:
    """Whether so much may be written below a folder of sets without its disk getting too full.

    Sets that nobody has open go for it, the longest unused first.
    """
    while True:
        usage = shutil.disk_usage(folder)
        if usage.free - n_bytes >= max(LEAST_FREE_BYTES, LEAST_FREE_SHARE * usage.total):
            return True
        if not any(_remove_unused(path) for path in _by_last_use(folder)):
            return False


def free_bytes(folder: Path) -> int:
    """Of the disk of a folder, which is made; 0 where it cannot be."""
    try:
        private.folder(folder)
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """A reader sees the old file, the new one, or none; what a power cut leaves of it counts as none."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "w", encoding="utf-8", opener=private.opener) as handle:
            json.dump(content, handle, indent=1)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _by_last_use(folder: Path) -> list[Path]:
    """The sets below a folder, the longest unused first, and before them what is left of sets whose removal was cut short."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            found.append((not path.name.startswith(GONE), (path / USED_FILE).stat().st_mtime, path))
    return [path for *_, path in sorted(found)]


def _remove_unused(path: Path) -> bool:
    """Removes a set unless somebody has it open. It loses its name first: who opens it meanwhile begins a new one."""
    try:
        used = os.open(path / USED_FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = path if path.name.startswith(GONE) else path.with_name(f"{GONE}{path.name}-{os.getpid()}-{time.monotonic_ns()}")
        if gone != path:
            os.rename(path, gone)
        for each in sorted(gone.iterdir(), key=lambda p: p.name == USED_FILE):  # last: without it the rest would not be found again
            each.unlink()
        gone.rmdir()
    except OSError:
        return False
    finally:
        os.close(used)
    return True
