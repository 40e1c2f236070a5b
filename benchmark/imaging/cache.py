"""Decode once: each dataset as memory-mapped arrays at the task's size, filled on demand and shared by all processes of a node.

Nothing is decided here about splits or labels; which rows are wanted is the caller's business. What lies on the disk is not trusted: every
row has checksums, compared before this opening of the cache first uses it. The folder and its files: `cache_files`.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from filelock import FileLock

from benchmark import private
from benchmark.cards import digest_of
from benchmark.contents import Contents, Memory, combined, stamp_of
from benchmark.errors import DataChanged, DataError, NotRegular, StoreError
from benchmark.imaging.cache_files import (
    LAYOUT,
    RECIPE_FILE,
    CacheRecipe,
    bytes_on_disk,
    lay_out,
    opened,
    shapes_of,
    store_errors,
    write_at,
)
from benchmark.imaging.geometry import Frame
from benchmark.imaging.prepare import Source, prepare_image
from benchmark.imaging.rows import ROW, Bad, Prepared, joint_stamp, sealed, source_digests

_EMPTY, _DONE = 0, 1
_BATCH = 32  # rows between two commits: at most so many images are lost to a kill


class ImageCache:
    """Images and masks of one dataset at one size. Open it with `ImageCache.open`; reading needs `fill` first.

    Files (all row-major, one row per id): `images.u8` (N, S, S) uint8; `masks.bits` (N, C, ceil(S*S/8)) uint8, packed, first pixel in the
    highest bit; `rows.bin` original size, stamp (digest of the source files' sizes, times and inodes), SHA-256 of their bytes (one after
    the other, and `contents.combined`), CRC-32 of the row in the two other files and of itself; `state.u8` 0 or 1. A row's state is
    written after its data has reached the disk, so a kill at any point costs at most one batch.
    """

    def __init__(self, path: Path, recipe: CacheRecipe, ids: Sequence[str]):
        self.path = path
        self.recipe = recipe
        self._row = {sample_id: row for row, sample_id in enumerate(ids)}
        self._ids = tuple(ids)
        self._n_pixels = recipe.size * recipe.size
        shapes = shapes_of(recipe, len(ids))
        self._images = self._map("images.u8", np.dtype(np.uint8), shapes["images.u8"])
        self._masks = self._map("masks.bits", np.dtype(np.uint8), shapes["masks.bits"]) if recipe.with_masks else None
        self._rows = self._map("rows.bin", ROW, shapes["rows.bin"][:1])
        self._state = self._map("state.u8", np.dtype(np.uint8), shapes["state.u8"])
        self._sound = np.zeros(len(ids), bool)  # rows whose checksums were compared, or which were written, since this opening
        self._n_damaged = 0

    @classmethod
    def open(cls, folder: Path, recipe: CacheRecipe, ids: Sequence[str]) -> ImageCache:
        """Opens, or lays out empty, the cache of `recipe` below `folder`.

        Args:
            ids: all ids of the dataset, in an order that does not change: row i belongs to ids[i]. Pass all of them even if few are
                wanted, so that every job shares one cache; unfilled rows take no space.

        Raises:
            StoreError: the folder cannot be written, or holds a damaged cache.
        """
        if not ids or len(set(ids)) != len(ids):
            raise DataError(
                f"{recipe.dataset}: the image cache needs distinct ids, at least one; got {len(ids):,}, {len(set(ids)):,} distinct."
            )
        content = {"layout": LAYOUT, "recipe": recipe.model_dump(mode="json"), "ids": digest_of(list(ids)), "n_images": len(ids)}
        path = folder / f"{recipe.dataset}-{digest_of(content)[:16]}"
        with store_errors(path):
            private.folder(path)
            with FileLock(path / "lock", mode=private.FILE):
                if not (path / RECIPE_FILE).exists():
                    lay_out(path, shapes_of(recipe, len(ids)), content)
        return cls(path, recipe, ids)

    def __len__(self) -> int:
        """Rows, filled or not: one for each id."""
        return len(self._ids)

    def row_of(self, sample_id: str) -> int:
        """Row of an id. Raises DataError for an id the cache was not opened with."""
        if sample_id not in self._row:
            raise DataError(f"{self.recipe.dataset}: an id that is none of the {len(self._row):,} images of the cache {self.path.name}.")
        return self._row[sample_id]

    def fill(
        self,
        samples: Iterable[Source],
        progress: Callable[[int, int], None] | None = None,
        workers: int = 1,
        contents: Contents | None = None,
        memory: Memory | None = None,
    ) -> list[Bad]:
        """Decodes what is missing, damaged or has changed on disk since; safe for several processes at once, and resumed by calling again.

        One process decodes at a time, a batch at a time; the others wait and then find the rows done.

        Args:
            progress: called after each batch with (images seen, images wanted).
            workers: decoding threads.
            contents: what the source files should hold; a row made from anything else is decoded again, and an image that is something
                else is not cached.
            memory: remembers the digests of files that are decoded, and unlearns what it had wrong.

        Returns:
            The images that cannot be read, or are not what they should be, each with a sentence; the others are cached.

        Raises:
            StoreError: the disk is full or the cache folder cannot be written.
        """
        wanted = list(samples)
        bad: list[Bad] = []
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="decode")) if workers > 1 else None
            for start in range(0, len(wanted), _BATCH):
                batch = wanted[start : start + _BATCH]
                bad += self._fill_batch(batch, pool, contents or Contents(), memory or Memory(None))
                _let_go(self._images, self._masks)
                if progress is not None:
                    progress(start + len(batch), len(wanted))
        return bad

    def mended(self) -> list[str]:
        """A sentence where rows were damaged and decoded again since this opening; else nothing."""
        if not self._n_damaged:
            return []
        return [
            f"{self.recipe.dataset}: {self._n_damaged:,} rows of the image cache were damaged on the disk and were decoded again. "
            "Does the disk of --cache fail?"
        ]

    def images(self, rows: np.ndarray) -> np.ndarray:
        """(n, S, S) uint8, a copy. Raises DataError for rows that were not filled."""
        self._require_filled(rows)
        return _read(self._images, rows)

    def masks(self, rows: np.ndarray) -> np.ndarray:
        """(n, C, S, S) bool, a copy. Raises DataError for rows that were not filled, or a cache without masks."""
        if self._masks is None:
            raise DataError(f"{self.recipe.dataset}: the cache {self.path.name} was made without masks.")
        self._require_filled(rows)
        bits = np.unpackbits(_read(self._masks, rows), axis=-1, count=self._n_pixels)
        return bits.view(np.bool_).reshape(*bits.shape[:2], self.recipe.size, self.recipe.size)

    def frames(self, rows: np.ndarray) -> list[Frame]:
        """Original size and placement of each row. Raises DataError for rows that were not filled."""
        self._require_filled(rows)
        table = self._rows[rows]
        return [Frame.of(int(h), int(w), self.recipe.size) for h, w in zip(table["height"], table["width"], strict=True)]

    def source_digests(self, rows: np.ndarray) -> list[str]:
        """SHA-256 (hex) over the bytes of each row's source files, as they were when cached."""
        self._require_filled(rows)
        return [digest.tobytes().hex() for digest in np.asarray(self._rows[rows]["sha256"])]

    def size_bytes(self) -> int:
        """Bytes on disk; unfilled rows take none."""
        return bytes_on_disk(self.path)

    # ------------------------------------------------------------------------------------------------------------- inside

    def _fill_batch(self, batch: Sequence[Source], pool: ThreadPoolExecutor | None, contents: Contents, memory: Memory) -> list[Bad]:
        if all(self._is_current(s, contents) for s in batch):
            return []
        with store_errors(self.path), FileLock(self.path / "lock", mode=private.FILE), ExitStack() as stack:
            files = {name: stack.enter_context(opened(self.path / name)) for name in shapes_of(self.recipe, len(self._ids))}
            stale = [s for s in batch if not self._is_current(s, contents) and not self._is_only_touched(s, contents, files["rows.bin"])]
            filled = [s for s in stale if self._state[self.row_of(s.id)] == _DONE]
            self._n_damaged += sum(not self._is_sound(self.row_of(s.id)) for s in filled)
            self._mark(filled, _EMPTY, files["state.u8"])
            bad: list[Bad] = []
            done: list[Source] = []
            read: list[tuple[Path, bytes, str]] = []
            for sample, prepared in zip(stale, (pool.map if pool else map)(lambda s: self._prepare(s, contents), stale), strict=True):
                if isinstance(prepared, Bad):
                    bad.append(prepared)
                    read += prepared.read
                    continue
                self._write(self.row_of(sample.id), prepared.content, files)
                read += prepared.read
                done.append(sample)
            memory.remember(read)
            for name in files:
                if name != "state.u8":
                    os.fsync(files[name])
            self._mark(done, _DONE, files["state.u8"])
            self._sound[[self.row_of(s.id) for s in done]] = True
        return bad

    def _prepare(self, sample: Source, contents: Contents) -> Prepared | Bad:
        """One row, unless a source file is not what it should be or changes meanwhile."""
        source = sample if self.recipe.with_masks else _Unmasked(sample)
        planned, stamps = contents.of(sample.files) is not None, list[bytes]()
        try:
            stamps += map(stamp_of, sample.files)
            sha256, each = source_digests(sample.files)
            refused = next(filter(None, map(contents.refusal, sample.files, each)), None)
            if refused is not None:
                sentence = f"{refused} (id {sample.id})" if contents.names_files else refused
                return Bad(sample.id, sentence, changed=True, read=list(zip(sample.files, stamps, each, strict=True)))
            image, frame, masks = prepare_image(source, self.recipe.intensity, self.recipe.size)
            if _moved(sample, stamps):
                return Bad(sample.id, _changed(sample, contents), changed=True)
        except NotRegular as error:  # of the files themselves, before the reader, which would name none of a withheld dataset
            said = str(error) if contents.names_files else f"An image file cannot be read: {error.strerror}."
            return Bad(sample.id, said, changed=planned)
        except DataError as error:  # the reader may have met a file that was half written
            return Bad(sample.id, _changed(sample, contents), changed=True) if _moved(sample, stamps) else Bad(sample.id, str(error))
        except OSError as error:
            name = f"{error.filename} (id {sample.id})" if contents.names_files else "An image file"
            return Bad(sample.id, f"{name} cannot be read: {error.strerror}. Is the image folder complete?", changed=planned)
        row = np.zeros((), dtype=ROW)
        row["height"], row["width"] = frame.height, frame.width
        row["stamp"], row["sha256"] = np.frombuffer(joint_stamp(stamps), np.uint8), np.frombuffer(sha256, np.uint8)
        row["contents"] = np.frombuffer(combined(each), np.uint8)
        prepared = {"images.u8": image.tobytes()}
        row["pixels"] = zlib.crc32(prepared["images.u8"])
        if self.recipe.with_masks:
            expected = (self.recipe.n_classes, self.recipe.size, self.recipe.size)
            if masks is None or masks.shape != expected:
                found = "none" if masks is None else masks.shape
                name = sample.id if contents.names_files else "an image"
                raise DataError(f"{self.recipe.dataset}: masks of {name} are {found}, the card's classes need {expected}.")
            prepared["masks.bits"] = np.packbits(masks.reshape(self.recipe.n_classes, -1), axis=-1).tobytes()
            row["bits"] = zlib.crc32(prepared["masks.bits"])
        prepared["rows.bin"] = sealed(row)
        return Prepared(prepared, list(zip(sample.files, stamps, each, strict=True)))

    def _write(self, row: int, prepared: dict[str, bytes], files: dict[str, int]) -> None:
        for name, content in prepared.items():
            write_at(files[name], content, row * len(content))

    def _mark(self, samples: Iterable[Source], state: int, file: int) -> None:
        rows = [self.row_of(s.id) for s in samples]
        for row in rows:
            write_at(file, bytes([state]), row)
        if rows:
            os.fsync(file)

    def _is_current(self, sample: Source, contents: Contents) -> bool:
        """Whether the row is whole and made from the files as they are and should be."""
        row = self.row_of(sample.id)
        if self._state[row] != _DONE or not self._is_sound(row) or not self._is_of(row, sample, contents):
            return False
        try:
            return self._rows[row]["stamp"].tobytes() == joint_stamp(map(stamp_of, sample.files))
        except FileNotFoundError:
            return False

    def _is_only_touched(self, sample: Source, contents: Contents, file: int) -> bool:
        """True when a cached row's files have a new time but the same bytes; the new stamp is then kept."""
        row = self.row_of(sample.id)
        if self._state[row] != _DONE or not self._is_sound(row) or not self._is_of(row, sample, contents):
            return False
        try:
            stamp = joint_stamp(map(stamp_of, sample.files))
            if source_digests(sample.files)[0] != self._rows[row]["sha256"].tobytes():
                return False
        except FileNotFoundError:
            return False
        touched = self._rows[row].copy()
        touched["stamp"] = np.frombuffer(stamp, np.uint8)
        write_at(file, sealed(touched), row * ROW.itemsize)
        return True

    def _is_of(self, row: int, sample: Source, contents: Contents) -> bool:
        expected = contents.of(sample.files)
        return expected is None or self._rows[row]["contents"].tobytes() == expected

    def _is_sound(self, row: int) -> bool:
        """Whether the row is what was written, by its checksums; compared once in the life of this object."""
        if not self._sound[row]:
            entry = self._rows[row]
            sound = sealed(entry) == entry.tobytes() and zlib.crc32(self._images[row]) == entry["pixels"]
            if sound and self._masks is not None:
                sound = zlib.crc32(self._masks[row]) == entry["bits"]
            self._sound[row] = sound
        return bool(self._sound[row])

    def _require_filled(self, rows: np.ndarray) -> None:
        unfilled = np.flatnonzero(self._state[rows] != _DONE)
        if len(unfilled):
            raise DataError(
                f"{self.recipe.dataset}: {len(unfilled):,} of the images asked for are not in the cache yet; "
                f"fill it with `lobe data prepare {self.recipe.dataset} --size {self.recipe.size}`."
            )
        unseen = np.atleast_1d(rows)[~self._sound[np.atleast_1d(rows)]]
        damaged = [self._ids[row] for row in unseen if not self._is_sound(int(row))]
        if len(unseen):
            _let_go(self._images, self._masks)
        if damaged:
            raise DataChanged(
                f"{self.recipe.dataset}: {len(damaged):,} of the images asked for are damaged in the cache {self.path}. "
                "Run the same command again: it decodes them anew. If that does not help, choose another --cache."
            )

    def _map(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        path = self.path / name
        expected = int(np.prod(shape)) * dtype.itemsize
        found = path.stat().st_size if path.exists() else -1
        if found != expected:
            raise StoreError(
                f"The image cache {self.path} is damaged ({name}: {found:,} bytes, expected {expected:,}). Remove it with `lobe clean`."
            )
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)


class _Unmasked:
    """A sample without its masks, for caches that hold none: they need not be drawn."""

    masks = None

    def __init__(self, sample: Source):
        self.id, self.image, self.files = sample.id, sample.image, sample.files


def _read(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A copy of some rows."""
    found = np.asarray(table[rows])
    _let_go(table)
    return found


def _let_go(*tables: np.ndarray | None) -> None:
    """Pages of what was read stay the system's and leave this process: all that it ever read would count as its own."""
    for table in tables:
        pages = getattr(table, "_mmap", None)
        if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)


def _moved(sample: Source, stamps: Sequence[bytes]) -> bool:
    """Whether a file is another one than when its stamp was taken, or gone."""
    try:
        return [stamp_of(path) for path in sample.files] != stamps
    except OSError:
        return True


def _changed(sample: Source, contents: Contents) -> str:
    name = f"{', '.join(map(str, sample.files))} (id {sample.id})" if contents.names_files else "An image file"
    return f"{name} changed while it was decoded. Run the same command again when nothing writes there."
