"""Features of one process beyond its memory: files without a name, which vanish with it. What outlives a process is in `feature_store`."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark import private

LEAST_FREE_BYTES = 2**30  # of the disk, left to others


@dataclass
class _Level:
    """Features of one stride on disk: a file without a name, and the map through which it is read."""

    file: int
    mapped: torch.Tensor


class Spill:
    """Room on disk for the features of so many images.

    Written with `pwrite` and read through maps: a full disk is then an error to catch, and the pages read count as the system's, to be
    dropped when memory is short.
    """

    def __init__(self, levels: dict[int, _Level]):
        self._levels, self._filled = levels, 0

    @classmethod
    def open(cls, folder: Path, example: Mapping[int, torch.Tensor], n_images: int) -> Spill | None:
        """Room for `n_images` like those of `example`; None when the folder cannot be written or its disk would get too full."""
        needed = sum(level[0].nbytes for level in example.values()) * n_images
        try:
            private.folder(folder)
            if shutil.disk_usage(folder).free - needed < LEAST_FREE_BYTES:
                return None
            return cls({stride: _level(folder, level, n_images) for stride, level in example.items()})
        except OSError:
            return None

    def store(self, levels: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor] | None:
        """Writes the features of some images; returns views of the file, or None when the disk refuses."""
        n = len(next(iter(levels.values())))
        stored = {}
        for stride, level in levels.items():
            room = self._levels[stride]
            raw = level.cpu().view(torch.uint8).numpy()
            offset = self._filled * level[0].nbytes
            try:
                written = 0
                while written < raw.nbytes:
                    written += os.pwrite(room.file, raw.reshape(-1).data[written:], offset + written)
            except OSError:
                return None
            stored[stride] = room.mapped[self._filled : self._filled + n]
        self._filled += n
        return stored

    def __del__(self) -> None:
        for level in self._levels.values():
            os.close(level.file)  # the maps keep the bytes


def _level(folder: Path, level: torch.Tensor, n_images: int) -> _Level:
    size = level[0].nbytes * n_images
    with tempfile.TemporaryFile(dir=folder) as unnamed:
        unnamed.truncate(size)
        mapped = torch.frombuffer(mmap.mmap(unnamed.fileno(), size), dtype=level.dtype).view(n_images, *level.shape[1:])
        return _Level(os.dup(unnamed.fileno()), mapped)


def reading_s(levels: Mapping[int, torch.Tensor]) -> float:
    """Seconds to read stored levels once."""
    began = time.perf_counter()
    for level in levels.values():
        level.clone()
    return time.perf_counter() - began
