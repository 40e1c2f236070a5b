"""Features on a node's disk: written once by whoever comes first, read by every job, process and later run that needs the same.

A set is a folder: what one frozen encoder makes of one image cache, each level in files of its own. What decides the bits of a set, and so
its name, is the business of `feature_key`; which images are wanted and how they are computed is that of the caller.

Nothing on the disk is trusted: a row names the image it was made of and carries a checksum, both compared whenever it is read. Locks only
save work: whoever computes a row under the same key writes the same bytes, so no result depends on one, and that of a process that died is
gone with it. Rows are read by `preadv` into the batch and not through a map: it is as fast, and pages of a map count as memory of the
process.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from benchmark import json_files, private
from benchmark.cards import digest_of
from benchmark.imaging.cache_files import opened, write_at
from benchmark.training import feature_folders
from benchmark.training.feature_folders import RECIPE_FILE, write_whole

WAIT_S = 0.05  # between two looks at rows that other processes compute
PATIENCE_S = 120.0  # with rows claimed by a process that does not get on: it may have been stopped
PACE_FILE, CLAIMS_FILE = "pace.json", "claims"

ENTRY = np.dtype([("image", np.uint8, 32), ("check", "<u8")])

Item = TypeVar("Item")


@dataclass(frozen=True)
class Layout:
    """How the rows of a level lie, on the disk and in the tensors made of them.

    A row on the disk is the memory of one image's tensor, which is dense but may be a permuted view. A tensor that is read has the strides
    of the one that was written, because products of matrices may round otherwise where memory lies otherwise.

    Attributes:
        shape: of one image.
        dtype: torch's name.
        strides: in elements: of the images, then of `shape`.
        offset: elements before the first image, up to alignment.
    """

    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...]
    offset: int = 0

    @classmethod
    def of(cls, level: torch.Tensor) -> Layout | None:
        """None for a tensor whose images are not each a dense piece of memory, one after the other."""
        shape, (between, *inside) = tuple(level.shape[1:]), level.stride()
        size = math.prod(shape)
        expected = 1
        for step, n in sorted((s, n) for s, n in zip(inside, shape, strict=True) if n > 1):
            if step != expected:
                return None
            expected *= n
        if size == 0 or (len(level) > 1 and between < size):
            return None
        return cls(
            shape, str(level.dtype).removeprefix("torch."), (max(int(between), size), *map(int, inside)), int(level.storage_offset()) % 64
        )

    @property
    def n_values(self) -> int:
        return math.prod(self.shape)

    @property
    def torch_dtype(self) -> torch.dtype:
        found = getattr(torch, self.dtype)
        assert isinstance(found, torch.dtype)
        return found

    @property
    def row_bytes(self) -> int:
        return self.n_values * self.torch_dtype.itemsize

    def is_like(self, other: Layout) -> bool:
        """Whether rows of both are the same bytes for the same values: strides of single elements and between images say nothing."""
        return (self.shape, self.dtype, self._order) == (other.shape, other.dtype, other._order)

    @property
    def _order(self) -> tuple[int, ...]:
        return tuple(step for step, n in zip(self.strides[1:], self.shape, strict=True) if n > 1)


class Rows(NamedTuple):
    """Rows as read: (n, *shape) with zeros or anything else where `sound`, (n,) bool, is False."""

    level: torch.Tensor
    sound: np.ndarray


@dataclass
class _Level:
    layout: Layout
    data: int
    table: int
    entries: np.ndarray  # the table, mapped


class FeatureSet:
    """One folder of features, open for reading and writing, and safe from removal as long as it is. Open it with `FeatureSet.open`.

    Files: `recipe.json` what decides the bits; `<level>.json` the `Layout`; `<level>.data` one row per image of the cache, sparse where
    none was written; `<level>.rows` for each row SHA-256 of what it was made of and the checksum, written after the data; `pace.json`
    seconds to compute an image; `used` locked by all who have the set open, its time is that of the last opening; `claims` one byte per
    row, locked by who computes it.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path, n_rows: int, used: int, claims: int):
        self.path, self.n_rows, self._used, self._claims = path, n_rows, used, claims
        self._levels: dict[str, _Level] = {}

    @classmethod
    def open(cls, folder: Path, recipe: Mapping[str, Any], n_rows: int) -> FeatureSet:
        """Opens, or begins, the set of `recipe` below `folder`.

        Args:
            n_rows: images of the cache.

        Raises:
            OSError: the folder cannot be written, or its file system has no locks.
        """
        private.folder(folder)
        path = folder / digest_of({**recipe, "n_rows": n_rows})[:16]
        used = feature_folders.enter(path)
        claims = -1
        try:
            claims = private.opener(str(path / CLAIMS_FILE), os.O_RDWR | os.O_CREAT)
            fcntl.lockf(claims, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, n_rows)  # behind all rows: whether there are such locks at all
            fcntl.lockf(claims, fcntl.LOCK_UN, 1, n_rows)
            if not (path / RECIPE_FILE).exists():
                write_whole(path / RECIPE_FILE, recipe)
        except OSError:
            os.close(used)
            if claims >= 0:
                os.close(claims)
            raise
        return cls(path, n_rows, used, claims)

    def __del__(self) -> None:
        for level in self._levels.values():
            os.close(level.data)
            os.close(level.table)
        os.close(self._claims)
        os.close(self._used)

    def has(self, names: Sequence[str], rows: np.ndarray, images: np.ndarray) -> np.ndarray:
        """(n,) bool: all these levels were written for these rows, of these images. What they hold is seen when they are read.

        Args:
            images: (n, 32) uint8, digests of what the rows are made of.
        """
        there = np.ones(len(rows), bool)
        for name in names:
            level = self._level(name)
            there &= False if level is None else (level.entries["image"][rows] == images).all(axis=1)
        return there

    def read(self, name: str, rows: np.ndarray, images: np.ndarray, device: torch.device | str = "cpu") -> Rows | None:
        """Rows of a level as one tensor with the strides of what was written, or None where the level was never written."""
        level = self._level(name)
        if level is None or not len(rows):
            return None
        layout, n = level.layout, len(rows)
        between, size, item = layout.strides[0], layout.row_bytes, layout.torch_dtype.itemsize
        memory = torch.empty(layout.offset + (n - 1) * between + layout.n_values, dtype=layout.torch_dtype)
        raw, sound = memory.view(torch.uint8).numpy(), np.zeros(n, bool)
        for k, row in enumerate(rows):
            begin = (layout.offset + k * between) * item
            place, entry = raw[begin : begin + size], level.entries[row]
            whole = os.preadv(level.data, [place.data], int(row) * size) == size
            sound[k] = whole and entry["image"].tobytes() == images[k].tobytes() and int(entry["check"]) == checksum(place)
        return Rows(memory.to(device).as_strided((n, *layout.shape), layout.strides, layout.offset), sound)

    def write(self, name: str, rows: np.ndarray, images: np.ndarray, level: torch.Tensor) -> bool:
        """Writes rows of a level, one (C, h, w) or other tensor per row. False where it cannot be kept as it is, bit by bit.

        Raises:
            OSError: the disk is full or fails. Rows written before stay.
        """
        layout = Layout.of(level)
        if layout is None:
            return False
        known = self._level(name) or self._lay_out(name, layout)
        if not known.layout.is_like(layout):
            return False
        flat = level.detach().as_strided((len(level), layout.n_values), (layout.strides[0], 1), level.storage_offset()).cpu().contiguous()
        raw = flat.view(torch.uint8).numpy()
        for k, row in enumerate(rows):
            write_at(known.data, raw[k].data, int(row) * layout.row_bytes)
            entry = np.zeros((), ENTRY)
            entry["image"], entry["check"] = images[k], checksum(raw[k])
            write_at(known.table, entry.tobytes(), int(row) * ENTRY.itemsize)
        return True

    def in_turn(
        self, items: Sequence[Item], row_of: Callable[[Item], int], is_there: Callable[[Item], bool], most: int
    ) -> Iterator[list[Item]]:
        """Yields what this process shall compute and write now, up to `most` items; the others compute the rest at the same time.

        Yields [] now and then while it waits for others. When it ends, every item was yielded here or is there; a row that another process
        claimed and did not write comes back to this one, at once where that process died.
        """
        left, taken = deque(items), list[Item]()
        heard = time.monotonic()
        while left or taken:
            mine: list[Item] = []
            while left and len(mine) < most:
                item = left.popleft()
                if not self._claim(row_of(item)):
                    taken.append(item)
                elif is_there(item):
                    self._release(row_of(item))
                    heard = time.monotonic()
                else:
                    mine.append(item)
            if not mine and taken and time.monotonic() - heard > PATIENCE_S:
                mine, taken = taken[:most], taken[most:]
            if not mine and taken:
                yield []
                time.sleep(WAIT_S)
                left.extend(taken)
                taken = []
                continue
            try:
                if mine:
                    yield mine
            finally:
                for item in mine:
                    self._release(row_of(item))
            heard = time.monotonic()

    def make_room(self, n_bytes: int) -> bool:
        """Whether so much may be written: where the disk would get too full, sets that nobody has open go, the longest unused first."""
        return feature_folders.make_room(self.path.parent, n_bytes)

    @property
    def compute_s(self) -> float | None:
        """Seconds that an image took to compute when last measured; None = never was."""
        try:
            found = json_files.read(self.path / PACE_FILE)["compute_s"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, float) and math.isfinite(found) else None

    def note_pace(self, compute_s: float) -> None:
        """Remembers what an image takes to compute, for whoever reads."""
        with contextlib.suppress(OSError):
            write_whole(self.path / PACE_FILE, {"compute_s": float(compute_s)})

    # ------------------------------------------------------------------------------------------------------------- inside

    def _level(self, name: str) -> _Level | None:
        if name not in self._levels:
            try:
                content = json_files.read(self.path / f"{name}.json")
                layout = Layout(tuple(content["shape"]), str(content["dtype"]), tuple(content["strides"]), int(content["offset"]))
                self._levels[name] = self._opened(name, layout)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                return None  # not there, or of no use: it is laid out again
        return self._levels[name]

    def _lay_out(self, name: str, layout: Layout) -> _Level:
        """Sparse files of their final size; by several processes at once, they are the same files. The layout comes last."""
        for ending, size in (("data", layout.row_bytes), ("rows", ENTRY.itemsize)):
            private.file(self.path / f"{name}.{ending}")
            with opened(self.path / f"{name}.{ending}") as file:
                if os.fstat(file).st_size != size * self.n_rows:
                    os.ftruncate(file, size * self.n_rows)
        write_whole(self.path / f"{name}.json", asdict(layout))
        self._levels[name] = self._opened(name, layout)
        return self._levels[name]

    def _opened(self, name: str, layout: Layout) -> _Level:
        table = self.path / f"{name}.rows"
        entries = np.memmap(table, ENTRY, "r", shape=(self.n_rows,))  # ValueError where the file is shorter
        data = os.open(self.path / f"{name}.data", os.O_RDWR | os.O_CLOEXEC)
        try:
            return _Level(layout, data, os.open(table, os.O_RDWR | os.O_CLOEXEC), entries)
        except OSError:
            os.close(data)
            raise

    def _claim(self, row: int) -> bool:
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _release(self, row: int) -> None:
        fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, row)


def checksum(row: np.ndarray) -> int:
    """Of (n,) uint8: the sum of its 64-bit words, each times an odd number of its own, modulo 2**64.

    A single changed word is always seen, moved and lost blocks but for one case in 2**64, and it takes about as long as reading memory: a
    CRC-32 would take some twenty times as long, longer than all the rest of reading a row.
    """
    words, rest = row[: len(row) // 8 * 8].view("<u8"), row[len(row) // 8 * 8 :]
    tail = int.from_bytes(rest.tobytes(), "little") * (2 * len(words) + 1)
    return (int(np.dot(words, _odd_numbers(len(words)))) + tail) % 2**64


@functools.lru_cache(maxsize=8)
def _odd_numbers(n: int) -> np.ndarray:
    return np.arange(1, 2 * n + 1, 2, dtype=np.uint64)
