"""Folders and files that only their owner may open, under any umask and also where they existed before with wider rights.

Private is every cache of images, features and digests, what waits on a node or for a tracking server, checkpoints, what a report keeps
between two calls, and in an output folder all that belongs to a record whose dataset may not be passed on (`is_restricted`). The rest of an
output folder follows the umask: colleagues may read results on open data. Errors of the file system pass; who calls says what they mean.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

FOLDER, FILE = 0o700, 0o600


def is_restricted(redistribution: str) -> bool:
    """True where nothing about single images may be passed on, by a dataset card's or a record's `redistribution`."""
    return redistribution == "none"


def may_be_published(redistribution: str) -> bool:
    """True where single images, and predictions on them, may go where others look: to a tracking server, and onto the pages of a report."""
    return redistribution == "open"


def without_password(text: str) -> str:
    """The text, its addresses without name and password. A password may hold any letter but a blank: all up to the last @ goes with it."""
    return re.sub(r"://[^\s/?#:@]*(?::\S*)?@", "://", text)


def folder(path: Path) -> Path:
    """Makes a folder, and the missing ones above it, private. One that is there becomes private too, if it is ours; those above it stay."""
    root(path)
    _tighten(path, FOLDER)
    return path


def root(path: Path) -> Path:
    """Makes a folder that the user named, and the missing ones above it, private. One that is there stays as it is."""
    missing = [at for at in (path, *path.parents) if not at.exists()]
    for at in reversed(missing):
        with contextlib.suppress(FileExistsError):  # by another process, at the same moment
            at.mkdir(mode=FOLDER)
            at.chmod(FOLDER)  # a umask may take even the owner's rights
    if not path.is_dir():
        path.mkdir()  # raises what is wrong
    return path


def file(path: Path) -> Path:
    """Makes a file private before anything is written to it, for those who open it by its name alone. Its content stays."""
    os.close(opener(str(path), os.O_RDWR | os.O_CREAT))
    return path


def opener(path: str, flags: int) -> int:
    """For `open(..., opener=private.opener)`: a new file is private from its first byte on, an old one before the first new byte."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, FILE)
    with contextlib.suppress(PermissionError):  # of somebody else, who has to care for it
        os.fchmod(descriptor, FILE)
    return descriptor


def tighten(path: Path) -> None:
    """Takes the rights of others from what is there, if it is ours; nothing happens where nothing is there."""
    with contextlib.suppress(FileNotFoundError):
        _tighten(path, FOLDER if path.is_dir() else FILE)


def _tighten(path: Path, mode: int) -> None:
    if path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)
