"""Features of a frozen encoder, computed once per image and shared by every job of a unit.

No LoVT task augments, so the features are constants. They are computed in batches of one fixed size, the last one padded, so that an image
gets the same bits in any order of jobs. They lie in memory up to a budget; beyond it on disk, or nowhere when
reading them back takes longer than computing them again.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmark import private
from benchmark.encoders.sealed import SealedEncoder
from benchmark.kinds.base import Part

BATCH = 16
LEAST_FREE_BYTES = 2**30  # of the disk, left to others


class FeatureBank:
    """Frozen features of one encoder on one cache, in the precision the encoder runs in.

    Args:
        encoder: in frozen mode.
        strides: pyramid levels kept.
        budget_bytes: of memory for features. What does not fit goes to `folder`.
        autocast: the job's precision, under which the plain path would run the encoder as well (LoVT 1.2: all but the loss in fp16).
        folder: where features beyond the budget are written, in files without a name that vanish with the process; None = nowhere.
        batch: images computed at once, always so many.

    Attributes:
        memory_bytes, disk_bytes: size of the features kept in each place; all others are recomputed for every batch.
    """

    def __init__(
        self,
        encoder: SealedEncoder,
        strides: tuple[int, ...],
        budget_bytes: int,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        folder: Path | None = None,
        batch: int = BATCH,
    ):
        self.encoder, self.strides, self.budget_bytes, self.autocast = encoder, strides, budget_bytes, autocast
        self.folder, self.batch = folder, batch
        self.memory_bytes = self.disk_bytes = 0
        self._kept: dict[int, Mapping[int, torch.Tensor]] = {}  # row -> stride -> (C, h, w); views of a map for those on disk
        self._spilling = folder is not None

    def prepare(self, part: Part) -> int:
        """Computes the missing features of the part and keeps those that fit. Returns how many images are recomputed for every batch."""
        missing = [i for i, row in enumerate(part.rows) if int(row) not in self._kept]
        spill: _Spill | None = None
        for start in range(0, len(missing), self.batch):
            index = np.array(missing[start : start + self.batch])
            began = time.perf_counter()
            levels = self._compute(part, index)
            compute_s = time.perf_counter() - began
            size = sum(level.nbytes for level in levels.values())
            if self.memory_bytes + size <= self.budget_bytes:
                self.memory_bytes += size
            else:
                if self.folder is None or not self._spilling:
                    break
                spill = spill or _Spill.open(self.folder, levels, len(missing) - start)
                stored = spill.store(levels) if spill is not None else None
                if stored is None or _reading_s(stored) > compute_s:
                    self._spilling = False
                    break
                levels, self.disk_bytes = stored, self.disk_bytes + size
            for k, i in enumerate(index):
                self._kept[int(part.rows[i])] = {stride: level[k] for stride, level in levels.items()}
        return sum(int(row) not in self._kept for row in part.rows)

    def pyramid(self, part: Part, index: np.ndarray) -> Mapping[int, torch.Tensor]:
        """stride -> (b, C, S/stride, S/stride) for the given images of the part."""
        rows = [int(row) for row in part.rows[index]]
        kept = [self._kept[row] for row in rows if row in self._kept]
        if len(kept) == len(rows):
            return {stride: torch.stack([levels[stride] for levels in kept]) for stride in self.strides}
        pieces = [self._compute(part, index[start : start + self.batch]) for start in range(0, len(index), self.batch)]
        return {stride: torch.cat([piece[stride] for piece in pieces]) for stride in self.strides}

    def _compute(self, part: Part, index: np.ndarray) -> dict[int, torch.Tensor]:
        padded = np.concatenate([index, np.repeat(index[-1:], self.batch - len(index))])
        with torch.no_grad(), self.autocast():
            pyramid = self.encoder.pyramid(part.images(padded).to(self.encoder.mean.device), self.strides)
        # A copy frees the padded rows; contiguous maps make every later batch of one layout.
        return {stride: pyramid[stride][: len(index)].contiguous().clone() for stride in self.strides}


@dataclass
class _Level:
    """Features of one stride on disk: a file without a name, and the map through which it is read."""

    file: int
    mapped: torch.Tensor


class _Spill:
    """Room on disk for the features of so many images.

    Written with `pwrite` and read through maps: a full disk is then an error to catch, and the pages read count as the system's, to be
    dropped when memory is short.
    """

    def __init__(self, levels: dict[int, _Level]):
        self._levels, self._filled = levels, 0

    @classmethod
    def open(cls, folder: Path, example: Mapping[int, torch.Tensor], n_images: int) -> _Spill | None:
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


def _reading_s(levels: Mapping[int, torch.Tensor]) -> float:
    began = time.perf_counter()
    for level in levels.values():
        level.clone()
    return time.perf_counter() - began
