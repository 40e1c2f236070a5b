"""What of an author's folder travels to a cluster: its files, as far as they lie in it, and nothing that a name or a link keeps apart.

Names that begin with a dot stay: keys, tokens and settings lie there. A link inside the folder travels as what it shows. A link that leads
out is refused: its target may be anything the user can read, and would be copied to every node.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmark.encoders.sources import NO_SOURCES
from benchmark.errors import UsageError

MOST_BYTES = 64 * 2**20  # of one folder
MOST_FILES = 20_000
_ADVICE = "Put the backbone into a folder of its own, and its weights where the cluster sees them."


@dataclass(frozen=True)
class Parcel:
    """
    Attributes:
        folder: resolved.
        files: path below the folder, with slashes -> where its content lies, resolved.
        below: folders below it, empty ones too.
        stay: paths below the folder that do not travel, but for those of `NO_SOURCES`.
    """

    folder: Path
    files: Mapping[str, Path]
    below: tuple[str, ...]
    stay: tuple[str, ...]

    @cached_property
    def n_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files.values())

    def copy_to(self, target: Path, backbone: str) -> None:
        """Raises UsageError for a file that cannot be read, or grew beyond what may travel."""
        n_bytes = 0
        try:
            for name in ("", *self.below):
                (target / name).mkdir(parents=True, exist_ok=True)
            for name, path in self.files.items():
                shutil.copy2(path, target / name)
                n_bytes += (target / name).stat().st_size
                if n_bytes > MOST_BYTES:
                    raise _too_large(backbone, f"more than {size_text(MOST_BYTES)}")
        except OSError as error:  # shutil's own is one
            raise UsageError(f"The folder of {backbone} cannot be copied for the cluster: {error}.") from None


def packed(folder: Path, backbone: str) -> Parcel:
    """What travels of a folder; nothing is copied yet.

    Args:
        folder: resolved.
        backbone: as the user named it.

    Raises:
        UsageError: a link leads out of the folder or in a circle, the files are more than may travel, or a folder cannot be listed.
    """
    files: dict[str, Path] = {}
    below: list[str] = []
    stay: list[str] = []
    n_bytes = 0
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(folder, (folder,))]  # with the real folders it lies in
    while waiting:
        at, above = waiting.pop()
        try:
            names = sorted(os.listdir(at))
        except OSError as error:
            raise UsageError(f"The folder {at} of {backbone} cannot be read: {error.strerror}. {_ADVICE}") from None
        for path in (at / name for name in names if name not in NO_SOURCES):
            name = path.relative_to(folder).as_posix()
            real = Path(os.path.realpath(path))
            if path.name.startswith(".") or not real.exists():
                stay.append(name)
                continue
            if not real.is_relative_to(folder):
                raise UsageError(
                    f"{path} is a link out of the folder of {backbone}: it leads to {real}, which would be copied to every node. "
                    "Put a copy in its place if it is part of the backbone, or move the link away. " + _ADVICE
                )
            if any(part.startswith(".") or part in NO_SOURCES for part in real.relative_to(folder).parts):
                stay.append(name)
            elif real.is_dir():
                if real in above:
                    raise UsageError(f"{path} is a link to {real}, in which it lies: a circle. Move the link away.")
                below.append(name)
                waiting.append((path, (*above, real)))
            elif real.is_file():
                files[name] = real
                n_bytes += real.stat().st_size
            else:  # a pipe, a socket or a device
                stay.append(name)
        if n_bytes > 2 * MOST_BYTES:
            raise _too_large(backbone, f"more than {size_text(2 * MOST_BYTES)}")
        if len(files) + len(below) > MOST_FILES:
            raise _too_large(backbone, f"more than {MOST_FILES:,} files")
    if n_bytes > MOST_BYTES:
        raise _too_large(backbone, size_text(n_bytes))
    return Parcel(folder, files, tuple(below), tuple(stay))


def size_text(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.0f} MiB" if n_bytes >= 10 * 2**20 else f"{n_bytes / 2**20:.2f} MiB"


def _too_large(backbone: str, found: str) -> UsageError:
    return UsageError(
        f"The folder of {backbone} holds {found}; at most {size_text(MOST_BYTES)} in {MOST_FILES:,} files travel to a cluster. {_ADVICE}"
    )
