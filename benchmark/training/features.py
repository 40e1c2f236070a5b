"""Features of a frozen encoder, computed once per image and shared by every job that reads them.

No LoVT task augments, so the features are constants. They are computed in batches of one fixed size, the last one padded, so that an image
gets the same bits in any order of jobs. With a `FeatureSet` they lie on the node's disk, for every process and later run; a GPU keeps them
in its memory up to a budget as well. A process on a CPU need not: files lie in the system's memory, and reading an image takes a hundredth
of a step. Without a set they lie in memory up to the budget, and beyond it on the disk until the process ends. What takes longer to read
than to compute is computed for every batch.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from benchmark.encoders.sealed import SealedEncoder
from benchmark.kinds.base import Part
from benchmark.machine import usable_memory_bytes
from benchmark.training import feature_spill
from benchmark.training.feature_spill import Spill
from benchmark.training.feature_store import FeatureSet

BATCH = 16
PACED_BATCHES = 5  # measured before it is decided whether reading is worth it
CACHED_SHARE = 0.5  # of memory: what the system may be taken to hold of files that are read again and again
STEP_S = 1.0  # between two signs of life


class FeatureBank:
    """Frozen features of one encoder on one cache, in the precision the encoder runs in.

    Args:
        encoder: in frozen mode.
        strides: pyramid levels that are read.
        budget_bytes: of memory for features, on the encoder's device. What does not fit is read from `stored`, or goes to `folder`. On a
            CPU nothing is kept that can be read from `stored`.
        autocast: the job's precision, under which the plain path would run the encoder as well (LoVT 1.2: all but the loss in fp16).
        folder: where features beyond the budget are written, in files without a name that vanish with the process; None = nowhere.
        batch: images computed at once, always so many.
        stored: the set of these features on the node's disk; None = they are this process's own.
        also: further levels that other jobs of the plan read: they are stored when an image passes, and not kept here.

    Attributes:
        memory_bytes, disk_bytes: size of the features that this process keeps in each place, beside those `stored`.
        notices: sentences for a person, on how features are kept; nothing in them changes a result.
    """

    def __init__(
        self,
        encoder: SealedEncoder,
        strides: tuple[int, ...],
        budget_bytes: int,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        folder: Path | None = None,
        batch: int = BATCH,
        stored: FeatureSet | None = None,
        also: tuple[int, ...] = (),
    ):
        self.encoder, self.strides, self.budget_bytes, self.autocast = encoder, strides, budget_bytes, autocast
        self.folder, self.batch, self.stored, self.also = folder, batch, stored, tuple(sorted(set(also) - set(strides)))
        self.memory_bytes = self.disk_bytes = 0
        self.notices: list[str] = []
        self._kept: dict[int, Mapping[int, torch.Tensor]] = {}  # row -> stride -> (C, h, w); views of a map for those on disk
        self._images: dict[int, np.ndarray] = {}  # row -> digest of the image, of the rows that can be read from `stored`
        self._n_damaged, self._given_up = 0, False
        self._spilling = folder is not None

    def prepare(self, part: Part) -> int:
        """Computes the missing features of the part and keeps those that fit. Returns how many images are recomputed for every batch."""
        for _ in self.prepare_in_steps(part):
            pass
        return sum(not self._is_ready(row) for row in part.rows)

    def prepare_in_steps(self, part: Part) -> Iterator[tuple[int, int]]:
        """As `prepare`, yielding (done, total) images about once a second, also while another process computes."""
        done, told = 0, time.monotonic()
        for n in self._preparing(part):
            done = min(done + n, len(part))
            if time.monotonic() - told >= STEP_S:
                told = time.monotonic()
                yield done, len(part)

    def pyramid(self, part: Part, index: np.ndarray) -> Mapping[int, torch.Tensor]:
        """stride -> (b, C, S/stride, S/stride) for the given images of the part."""
        rows = part.rows[index]
        if all(self._is_ready(row) for row in rows):
            gathered = {stride: self._gathered(stride, rows) for stride in self.strides}
            whole = {stride: level for stride, level in gathered.items() if level is not None}
            if len(whole) == len(gathered):
                return whole
        pieces = [self._compute(part, index[start : start + self.batch]) for start in range(0, len(index), self.batch)]
        found = {stride: torch.cat([piece[stride] for piece in pieces]) for stride in self.strides}
        self._mend(rows, found)
        return found

    def mended(self) -> list[str]:
        """A sentence where stored features were damaged and computed again since it was last asked; else nothing."""
        n_damaged, self._n_damaged = self._n_damaged, 0
        if self.stored is None or not n_damaged:
            return []
        return [
            f"{n_damaged:,} rows of stored features were damaged on the disk ({self.stored.path.name}) and were computed again. "
            "Does the disk of --cache fail?"
        ]

    # ------------------------------------------------------------------------------------------------------------- inside

    def _is_ready(self, row: int) -> bool:
        return int(row) in self._kept or int(row) in self._images

    def _preparing(self, part: Part) -> Iterator[int]:
        """Yields how many images came along."""
        missing = np.array([i for i, row in enumerate(part.rows) if not self._is_ready(row)], np.int64)
        yield len(part) - len(missing)
        if self.stored is not None and not self._given_up and len(missing):
            yield from self._by_store(self.stored, part, missing)
            missing = np.array([i for i in missing if not self._is_ready(part.rows[i])], np.int64)
        yield from self._by_itself(part, missing)

    def _by_itself(self, part: Part, missing: np.ndarray) -> Iterator[int]:
        """Into memory and, beyond the budget, into files of this process."""
        spill: Spill | None = None
        for start in range(0, len(missing), self.batch):
            index = missing[start : start + self.batch]
            levels, compute_s = self._timed(part, index, self.strides)
            if not self._keep(part.rows[index], levels):
                if self.folder is None or not self._spilling:
                    break
                spill = spill or Spill.open(self.folder, levels, len(missing) - start)
                stored = spill.store(levels) if spill is not None else None
                if stored is None or feature_spill.reading_s(stored) > compute_s:
                    self._spilling = False
                    break
                self.disk_bytes += sum(level.nbytes for level in levels.values())
                for k, row in enumerate(part.rows[index]):
                    self._kept[int(row)] = {stride: level[k] for stride, level in stored.items()}
            yield len(index)

    def _by_store(self, stored: FeatureSet, part: Part, missing: np.ndarray) -> Iterator[int]:
        """Reads what is stored and sound, computes and stores the rest with every other process that wants the same."""
        images = np.zeros((len(part), 32), np.uint8)
        images[missing] = [np.frombuffer(bytes.fromhex(d), np.uint8) for d in part.cache.source_digests(part.rows[missing])]
        damaged: set[int] = set()

        def is_there(i: int) -> bool:
            one = slice(i, i + 1)
            return i not in damaged and bool(stored.has(self._names(self.strides), part.rows[one], images[one])[0])

        there = missing[stored.has(self._names(self.strides), part.rows[missing], images[missing])]
        worth_it = yield from self._looked_through(stored, part, there, images, damaged)
        if not worth_it:
            return
        left = [int(i) for i in missing if int(part.rows[i]) not in self._images]
        paces: list[tuple[float, float]] = []
        for mine in stored.in_turn(left, lambda i: int(part.rows[i]), is_there, self.batch):
            if not mine:
                yield 0
                continue
            index = np.array(mine)
            if not self._stored_now(stored, part, index, images, paces):
                break
            damaged -= set(mine)
            yield len(mine)
        if len(paces) > 1:
            stored.note_pace(min(compute_s for compute_s, _ in paces))
        by_others = [i for i in left if int(part.rows[i]) not in self._images and is_there(i)]
        yield from self._looked_through(stored, part, np.array(by_others, np.int64), images, damaged)

    def _looked_through(
        self, stored: FeatureSet, part: Part, index: np.ndarray, images: np.ndarray, damaged: set[int]
    ) -> Generator[int, None, bool]:
        """Reads rows once, so that those that are sound are known. Yields as `_preparing`; False if reading is slower than computing."""
        compute_s, paces = stored.compute_s, list[float]()
        for start in range(0, len(index), self.batch):
            some = index[start : start + self.batch]
            began = time.perf_counter()
            found = {s: stored.read(str(s), part.rows[some], images[some], self._device) for s in self.strides}
            levels = {s: rows.level for s, rows in found.items() if rows is not None}
            sound = np.logical_and.reduce([np.zeros(len(some), bool) if rows is None else rows.sound for rows in found.values()])
            paces.append((time.perf_counter() - began) / len(some))
            if len(paces) == PACED_BATCHES and compute_s is not None and is_slower(statistics.median(paces), compute_s):
                reading_s = self._pace_of_epochs(stored, part.rows[some], images[some], statistics.median(paces), len(part))
                if is_slower(reading_s, compute_s):
                    self._give_up(reading_s, compute_s)
                    return False
            self._n_damaged += int((~sound).sum())
            damaged |= set(some[~sound].tolist())
            for i in some[sound]:
                self._images[int(part.rows[i])] = images[i]
            if sound.all():
                self._keep(part.rows[some], levels)
            yield len(some)
        return True

    def _stored_now(self, stored: FeatureSet, part: Part, index: np.ndarray, images: np.ndarray, paces: list[tuple[float, float]]) -> bool:
        """Computes and stores some images. False when the disk takes no more, or reading back is slower: then they are not ready."""
        levels, compute_s = self._timed(part, index, (*self.strides, *self.also))
        rows, size = part.rows[index], sum(level.nbytes for level in levels.values())
        if self.also and not stored.make_room(size):
            self.also = ()
            levels = {stride: levels[stride] for stride in self.strides}
            size = sum(level.nbytes for level in levels.values())
        try:
            fits = stored.make_room(size)
            written = fits and all(stored.write(str(s), rows, images[index], level) for s, level in levels.items())
        except OSError as error:
            fits, written = False, False
            self.notices.append(f"Features are not kept on the disk of {stored.path.parent} any more: {error.strerror or error}.")
        else:
            if not fits:
                self.notices.append(f"Features are not kept on the disk of {stored.path.parent} any more: it would get too full.")
        if not written:
            return False
        self._keep(rows, {stride: levels[stride] for stride in self.strides})
        for i in index:
            self._images[int(part.rows[i])] = images[i]
        if len(paces) < PACED_BATCHES:
            began = time.perf_counter()
            for stride in self.strides:
                stored.read(str(stride), rows, images[index], self._device)
            paces.append((compute_s / len(index), (time.perf_counter() - began) / len(index)))
            if len(paces) == PACED_BATCHES:
                # The first one loaded kernels, and would let any disk look quick.
                computing, reading = min(c for c, _ in paces), statistics.median(r for _, r in paces)
                if is_slower(reading, computing):
                    self._give_up(reading, computing)
                    return False
        return True

    def _pace_of_epochs(self, stored: FeatureSet, rows: np.ndarray, images: np.ndarray, first_s: float, n_images: int) -> float:
        """Seconds to read an image in every epoch: from the disk as the first time, or from the system's memory where it holds them all."""
        began = time.perf_counter()
        found = [stored.read(str(s), rows, images, self._device) for s in self.strides]
        again_s = (time.perf_counter() - began) / len(rows)
        size = sum(level.level.nbytes for level in found if level is not None) / len(rows) * n_images
        return again_s if size < CACHED_SHARE * usable_memory_bytes() else first_s

    def _give_up(self, reading_s: float, compute_s: float) -> None:
        self._given_up = True
        self.notices.append(
            f"Features are computed again where memory holds none: reading those of an image takes {reading_s * 1e3:.1f} ms, "
            f"computing them {compute_s * 1e3:.1f} ms."
        )

    def _keep(self, rows: np.ndarray, levels: Mapping[int, torch.Tensor]) -> bool:
        """In memory, if they fit and belong there."""
        if self.stored is not None and not self._given_up and self._device.type == "cpu":
            return False
        size = sum(level.nbytes for level in levels.values())
        if self.memory_bytes + size > self.budget_bytes:
            return False
        self.memory_bytes += size
        for k, row in enumerate(rows):
            self._kept[int(row)] = {stride: level[k] for stride, level in levels.items()}
        return True

    def _gathered(self, stride: int, rows: np.ndarray) -> torch.Tensor | None:
        """(b, C, h, w) of rows that are ready, or None where one on the disk is not sound."""
        kept = {k: self._kept[int(row)][stride] for k, row in enumerate(rows) if int(row) in self._kept}
        if len({level.device for level in kept.values()}) > 1 or len(kept) < len(rows):
            # What this process spilled to the disk is the CPU's; others of the same batch may lie in a GPU's memory.
            kept = {k: level.to(self._device) for k, level in kept.items()}
        if len(kept) == len(rows):
            return torch.stack(list(kept.values()))
        assert self.stored is not None
        on_disk = [k for k in range(len(rows)) if k not in kept]
        images = np.stack([self._images[int(rows[k])] for k in on_disk])
        found = self.stored.read(str(stride), rows[on_disk], images, self._device)
        if found is None or not found.sound.all():
            self._n_damaged += 0 if found is None else int((~found.sound).sum())
            return None
        if not kept:
            return found.level
        return torch.stack([level for _, level in sorted((kept | dict(zip(on_disk, found.level, strict=True))).items())])

    def _mend(self, rows: np.ndarray, levels: Mapping[int, torch.Tensor]) -> None:
        """Writes rows that were stored and found damaged when a batch was read."""
        mine = [k for k, row in enumerate(rows) if int(row) in self._images]
        if self.stored is None or not mine:
            return
        with contextlib.suppress(OSError):
            for stride, level in levels.items():
                self.stored.write(str(stride), rows[mine], np.stack([self._images[int(rows[k])] for k in mine]), level[mine])

    @property
    def _device(self) -> torch.device:
        return self.encoder.mean.device

    @staticmethod
    def _names(strides: tuple[int, ...]) -> list[str]:
        return [str(stride) for stride in strides]

    def _timed(self, part: Part, index: np.ndarray, strides: tuple[int, ...]) -> tuple[dict[int, torch.Tensor], float]:
        """Levels, and the seconds that they took on the device."""
        began = time.perf_counter()
        levels = self._compute(part, index, strides)
        if self._device.type == "cuda":  # pragma: no cover: needs CUDA; `make gpu` runs it
            torch.cuda.synchronize(self._device)
        return levels, time.perf_counter() - began

    def _compute(self, part: Part, index: np.ndarray, strides: tuple[int, ...] | None = None) -> dict[int, torch.Tensor]:
        """Levels of the given images, those that are read by default."""
        wanted = self.strides if strides is None else strides
        padded = np.concatenate([index, np.repeat(index[-1:], self.batch - len(index))])
        with torch.no_grad(), self.autocast():
            pyramid = self.encoder.pyramid(part.images(padded).to(self._device), wanted)
        # A copy frees the padded rows; contiguous maps make every later batch of one layout.
        return {stride: pyramid[stride][: len(index)].contiguous().clone() for stride in wanted}


def is_slower(reading_s: float, compute_s: float) -> bool:
    """Whether reading an image's features is not worth it."""
    return reading_s > compute_s
