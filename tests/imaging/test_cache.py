"""Promises of `benchmark.imaging.cache`: decoded once, shared, resumed after a kill, and never a row that was not written whole."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.contents import Contents, Memory, sha256_of, stamp_of
from benchmark.errors import DataError, ImageError, StoreError
from benchmark.imaging.cache import ImageCache
from benchmark.imaging.cache_files import RECIPE_FILE, CacheRecipe, list_caches
from benchmark.imaging.equalise import equalise
from benchmark.imaging.prepare import prepare_image
from benchmark.imaging.rows import joint_stamp

SIZE = 24
RECIPE = CacheRecipe(
    dataset="toy", dataset_digest="d", intensity="as-stored", size=SIZE, n_classes=2, with_masks=True, decoders={"pillow": "1"}
)


@dataclass(frozen=True)
class Toy:
    """A sample as the cache sees it; decoding reads the file, so that edited files show."""

    id: str
    image: Callable[[], np.ndarray]
    masks: Callable[[tuple[int, int]], np.ndarray] | None
    files: tuple[Path, ...]


def draw(path: Path, log: Path | None = None) -> np.ndarray:
    """Reads the seed in `path` and draws the image; notes the call in `log`."""
    if log is not None:
        with log.open("a") as handle:
            handle.write(f"{path.stem}\n")
    random = np.random.RandomState(int(path.read_text()))
    return random.randint(0, 256, (20 + random.randint(30), 20 + random.randint(30))).astype(np.uint8)


def paint(path: Path, shape: tuple[int, int]) -> np.ndarray:
    return np.random.RandomState(int(path.read_text())).rand(2, *shape) > 0.6


def toys(folder: Path, n: int, log: Path | None = None) -> list[Toy]:
    folder.mkdir(exist_ok=True)
    listed = []
    for i in range(n):
        path = folder / f"image-{i}.txt"
        if not path.exists():
            path.write_text(str(i))
        listed.append(Toy(path.stem, partial(draw, path, log), partial(paint, path), (path,)))
    return listed


def opened(folder: Path, samples: list[Toy], recipe: CacheRecipe = RECIPE) -> ImageCache:
    return ImageCache.open(folder / "cache", recipe, [s.id for s in samples])


def assert_holds(cache: ImageCache, samples: list[Toy]) -> None:
    rows = np.array([cache.row_of(s.id) for s in samples])
    for sample, image, masks, frame in zip(samples, cache.images(rows), cache.masks(rows), cache.frames(rows), strict=True):
        expected = prepare_image(sample, "as-stored", SIZE)
        assert (image == expected[0]).all()
        assert frame == expected[1]
        assert (masks == expected[2]).all()


# ------------------------------------------------------------------------------------------------------ filling and reading


@pytest.mark.parametrize("workers", [1, 3])
def test_rows_come_back_as_they_were_prepared(tmp_path: Path, workers: int) -> None:
    samples = toys(tmp_path / "data", 70)
    cache = opened(tmp_path, samples)
    seen: list[tuple[int, int]] = []
    assert cache.fill(samples, lambda done, total: seen.append((done, total)), workers=workers) == []
    assert seen == [(32, 70), (64, 70), (70, 70)]
    assert_holds(cache, samples)
    assert cache.images(np.array([3, 1])).dtype == np.uint8
    assert cache.masks(np.array([3, 1])).shape == (2, 2, SIZE, SIZE)


def test_a_second_process_of_the_same_recipe_finds_everything_done(tmp_path: Path) -> None:
    log = tmp_path / "log"
    samples = toys(tmp_path / "data", 5, log)
    opened(tmp_path, samples).fill(samples)
    again = opened(tmp_path, samples)
    assert again.fill(samples) == []
    assert len(log.read_text().split()) == 5
    assert_holds(again, toys(tmp_path / "data", 5))


def test_only_wanted_rows_are_decoded_and_others_cannot_be_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    samples = toys(tmp_path / "data", 6, log)
    cache = opened(tmp_path, samples)
    cache.fill(samples[2:4])
    assert log.read_text().split() == ["image-2", "image-3"]
    assert cache.images(np.array([2, 3])).shape == (2, SIZE, SIZE)
    for read in (cache.images, cache.masks, cache.frames, cache.source_digests):
        with pytest.raises(DataError, match="1 of the images asked for are not in the cache yet"):
            read(np.array([3, 4]))


def test_a_bad_image_stops_no_other_and_is_returned_with_its_sentence(tmp_path: Path) -> None:
    def broken() -> np.ndarray:
        raise ImageError("image-1.png (id image-1): cut off.")

    samples = toys(tmp_path / "data", 5)
    samples[1] = replace(samples[1], image=broken)
    planned = expected(samples)
    samples[3].files[0].unlink()
    cache = opened(tmp_path, samples)
    bad = cache.fill(samples, workers=2)
    assert [(b.id, b.changed) for b in bad] == [("image-1", False), ("image-3", False)]
    assert [b.changed for b in cache.fill(samples, contents=planned)] == [False, True]  # what was planned with it, is not there now
    assert bad[0].sentence == "image-1.png (id image-1): cut off."
    assert "image-3.txt" in bad[1].sentence
    assert_holds(cache, [samples[i] for i in (0, 2, 4)])
    with pytest.raises(DataError, match="1 of the images asked for are not in the cache yet"):
        cache.images(np.array([1]))


def test_a_pipe_in_place_of_an_image_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 3)
    path = samples[1].files[0]
    path.unlink()
    os.mkfifo(path)
    cache = opened(tmp_path, samples)
    (bad,) = cache.fill(samples)
    assert (bad.id, bad.sentence) == (
        "image-1",
        f"{path} cannot be read: it is a named pipe, not a file. Put the file itself in its place.",
    )
    (bad,) = opened(tmp_path / "other", samples).fill(samples, contents=Contents({}, names_files=False))
    assert bad.sentence == "An image file cannot be read: it is a named pipe, not a file."
    assert_holds(cache, [samples[0], samples[2]])


def test_equalised_caches_hold_equalised_pixels(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 2)
    cache = opened(tmp_path, samples, RECIPE.model_copy(update={"intensity": "equalised"}))
    cache.fill(samples)
    _, frame, _ = prepare_image(samples[0], "as-stored", SIZE)
    assert (cache.images(np.array([0]))[0] == frame.place_image(equalise(samples[0].image()))).all()


def test_a_cache_without_masks_draws_none(tmp_path: Path) -> None:
    def never(shape: tuple[int, int]) -> np.ndarray:
        raise AssertionError("masks were drawn")

    samples = [replace(s, masks=never) for s in toys(tmp_path / "data", 3)]
    cache = opened(tmp_path, samples, RECIPE.model_copy(update={"with_masks": False}))
    assert cache.fill(samples) == []
    assert not (cache.path / "masks.bits").exists()
    with pytest.raises(DataError, match="without masks"):
        cache.masks(np.array([0]))


@given(st.integers(1, 19), st.integers(1, 3), st.integers(0, 10**6))
def test_masks_survive_packing_at_every_size(tmp_path_factory: pytest.TempPathFactory, size: int, n_classes: int, seed: int) -> None:
    folder = tmp_path_factory.mktemp("packed")
    path = folder / "image-0.txt"
    path.write_text(str(seed))
    masks = np.random.RandomState(seed).rand(n_classes, size, size) > 0.5
    sample = Toy("image-0", lambda: np.zeros((size, size), np.uint8), lambda shape: masks, (path,))
    cache = opened(folder, [sample], RECIPE.model_copy(update={"size": size, "n_classes": n_classes}))
    cache.fill([sample])
    assert (cache.masks(np.array([0]))[0] == masks).all()


def test_masks_of_another_class_count_than_the_card_are_an_error(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 1)
    cache = opened(tmp_path, samples, RECIPE.model_copy(update={"n_classes": 3}))
    with pytest.raises(DataError, match=r"\(2, 24, 24\).*\(3, 24, 24\)"):
        cache.fill(samples)


def test_unknown_and_repeated_ids_are_errors(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 2)
    with pytest.raises(DataError, match="an id that is none of the"):
        opened(tmp_path, samples).row_of("image-9")
    with pytest.raises(DataError, match="distinct"):
        opened(tmp_path, [samples[0], samples[0]])
    with pytest.raises(DataError, match="distinct"):
        opened(tmp_path, [])


# --------------------------------------------------------------------------------------------------------- what decides bytes


@pytest.mark.parametrize(
    "change",
    [
        {"dataset_digest": "other"},
        {"intensity": "equalised"},
        {"size": 25},
        {"n_classes": 1},
        {"with_masks": False},
        {"decoders": {"pillow": "2"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_decides_bytes_opens_another_cache(tmp_path: Path, change: dict) -> None:
    samples = toys(tmp_path / "data", 2)
    one, other = opened(tmp_path, samples), opened(tmp_path, samples, RECIPE.model_copy(update=change))
    assert one.path != other.path
    assert opened(tmp_path, samples).path == one.path
    assert one.path.name.startswith("toy-")
    assert len(one.path.name) == len("toy-") + 16


def test_another_order_of_ids_opens_another_cache(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 2)
    assert opened(tmp_path, samples).path != opened(tmp_path, samples[::-1]).path


def test_an_edited_source_file_is_decoded_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    samples = toys(tmp_path / "data", 3, log)
    cache = opened(tmp_path, samples)
    cache.fill(samples)
    before = cache.source_digests(np.arange(3))
    samples[1].files[0].write_text("7001")
    cache.fill(samples)
    assert log.read_text().split()[3:] == ["image-1"]
    assert_holds(cache, toys(tmp_path / "data", 3))
    after = cache.source_digests(np.arange(3))
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_an_edit_of_the_same_length_is_noticed_by_its_time(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 1)
    cache = opened(tmp_path, samples)
    cache.fill(samples)
    samples[0].files[0].write_text("5")
    os.utime(samples[0].files[0], ns=(1, 1))
    cache.fill(samples)
    assert_holds(cache, samples)


def test_an_edit_under_the_old_modification_time_is_noticed(tmp_path: Path) -> None:
    """By the change time, or by the inode where another file took the place within one tick of the clock."""
    samples = toys(tmp_path / "data", 1)
    path = samples[0].files[0]
    before = path.stat()
    cache = opened(tmp_path, samples)
    cache.fill(samples)
    (tmp_path / "other").write_text("5")
    os.utime(tmp_path / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(tmp_path / "other", path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    cache.fill(samples)
    assert_holds(cache, samples)


def test_a_copied_folder_is_hashed_once_more_but_not_decoded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    samples = toys(tmp_path / "data", 3, log)
    cache = opened(tmp_path, samples)
    cache.fill(samples)
    for sample in samples:
        os.utime(sample.files[0], ns=(1, 1))
    cache.fill(samples)
    assert len(log.read_text().split()) == 3
    assert all(cache._is_current(s, Contents()) for s in samples)


def test_a_changed_file_that_cannot_be_read_leaves_no_old_pixels(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 2)
    cache = opened(tmp_path, samples)
    cache.fill(samples)
    samples[1].files[0].unlink()
    assert [b.id for b in cache.fill(samples)] == ["image-1"]
    with pytest.raises(DataError, match="1 of the images asked for are not in the cache yet"):
        cache.images(np.array([1]))


# --------------------------------------------------------------------------------------------- kills, other processes, disks


def die_at(path: Path, fatal: str, log: Path) -> np.ndarray:
    if path.stem == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(path, log)


def fill_until_killed(folder: Path, n: int, fatal: str, log: Path) -> None:
    samples = [replace(s, image=partial(die_at, s.files[0], fatal, log)) for s in toys(folder / "data", n)]
    opened(folder, samples).fill(samples)


def test_a_killed_fill_is_resumed_and_loses_at_most_one_batch(tmp_path: Path) -> None:
    log = tmp_path / "log"
    toys(tmp_path / "data", 100)
    child = multiprocessing.get_context("fork").Process(target=fill_until_killed, args=(tmp_path, 100, "image-90", log))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    samples = toys(tmp_path / "data", 100, log)
    cache = opened(tmp_path, samples)
    done = [s for s in samples if cache._is_current(s, Contents())]
    assert len(done) == 64  # two batches were committed, the third was under way
    log.unlink()
    assert cache.fill(samples) == []
    assert len(log.read_text().split()) == 36
    assert_holds(cache, toys(tmp_path / "data", 100))


def slow(path: Path, log: Path) -> np.ndarray:
    time.sleep(0.002)
    return draw(path, log)


def fill_all(folder: Path, n: int, log: Path, order: int) -> None:
    samples = [replace(s, image=partial(slow, s.files[0], log)) for s in toys(folder / "data", n)]
    bad = opened(folder, samples).fill(samples[::order], workers=2)
    os._exit(len(bad))


def test_several_processes_fill_one_cache_and_decode_each_image_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    samples = toys(tmp_path / "data", 90)
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=fill_all, args=(tmp_path, 90, log, order)) for order in (1, 1, -1)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(log.read_text().split()) == sorted(s.id for s in samples)
    assert_holds(opened(tmp_path, samples), samples)


def test_a_full_disk_is_a_sentence_and_keeps_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = toys(tmp_path / "data", 80)
    cache = opened(tmp_path, samples)
    write, written = os.pwrite, []

    def nearly_full(descriptor: int, content: bytes, offset: int) -> int:
        written.append(len(content))
        if sum(written) > 40_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content, offset)

    monkeypatch.setattr(os, "pwrite", nearly_full)
    with pytest.raises(StoreError, match=r"disk is full.*--cache"):
        cache.fill(samples)
    monkeypatch.undo()
    done = [s for s in samples if cache._is_current(s, Contents())]
    assert len(done) == 32
    assert_holds(cache, done)
    assert cache.fill(samples) == []
    assert_holds(cache, samples)


def test_a_write_in_pieces_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, content, offset: write(descriptor, content[:7], offset))
    samples = toys(tmp_path / "data", 3)
    cache = opened(tmp_path, samples)
    cache.fill(samples)
    assert_holds(cache, samples)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="--cache"):
        opened(tmp_path, toys(tmp_path / "data", 1))


def test_a_damaged_cache_is_never_read(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 3)
    cache = opened(tmp_path, samples)
    cache.fill(samples)
    os.truncate(cache.path / "images.u8", SIZE * SIZE * 2)
    with pytest.raises(StoreError, match=r"images\.u8.*lobe clean"):
        opened(tmp_path, samples)


def inverted(path: Path) -> None:
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


@pytest.mark.parametrize("name", ["images.u8", "masks.bits", "rows.bin"])
def test_damaged_rows_are_decoded_again_and_said(tmp_path: Path, name: str) -> None:
    log = tmp_path / "log"
    samples = toys(tmp_path / "data", 3, log)
    opened(tmp_path, samples).fill(samples)
    cache = opened(tmp_path, samples)
    inverted(cache.path / name)
    cache = opened(tmp_path, samples)
    assert cache.fill(samples) == []
    assert len(log.read_text().split()) == 6
    assert_holds(cache, samples)
    assert "3 rows of the image cache were damaged" in cache.mended()[0]
    again = opened(tmp_path, samples)
    assert (again.fill(samples), again.mended()) == ([], [])


def test_a_row_of_another_image_is_damage(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 2)
    cache = opened(tmp_path, samples)
    cache.fill(samples)
    pixels = (cache.path / "images.u8").read_bytes()
    (cache.path / "images.u8").write_bytes(pixels[SIZE * SIZE :] + pixels[: SIZE * SIZE])
    again = opened(tmp_path, samples)
    again.fill(samples)
    assert_holds(again, samples)


def test_a_damaged_row_whose_file_is_gone_is_an_error_and_no_other_is_touched(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 2)
    cache = opened(tmp_path, samples)
    cache.fill(samples)
    damaged = bytearray((cache.path / "images.u8").read_bytes())
    damaged[SIZE * SIZE + 5] ^= 1
    (cache.path / "images.u8").write_bytes(bytes(damaged))
    samples[1].files[0].unlink()
    again = opened(tmp_path, samples)
    with pytest.raises(DataError, match=r"1 of the images asked for are damaged .*.* --cache"):
        again.images(np.array([0, 1]))
    assert [b.id for b in again.fill(samples)] == ["image-1"]
    assert_holds(again, samples[:1])


def test_rows_are_checked_at_their_first_reading_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = toys(tmp_path / "data", 4)
    opened(tmp_path, samples).fill(samples)
    cache, counted = opened(tmp_path, samples), []
    checksum = zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda content: counted.append(1) or checksum(content))
    cache.images(np.array([0, 2]))
    assert len(counted) == 2 * 3  # the row's entry, its pixels, its masks
    cache.images(np.array([2, 0]))
    cache.masks(np.array([0]))
    assert len(counted) == 2 * 3


# ----------------------------------------------------------------------------------------------- what files are expected to hold


def expected(samples: list[Toy], listed: bool = False, **changes: str) -> Contents:
    digests = {s.files[0]: changes.get(s.id.replace("-", "_")) or sha256_of(s.files[0]) for s in samples}
    return Contents(digests, {path: f"SHA256SUMS.txt line {n}" for n, path in enumerate(digests, start=1)} if listed else {})


def test_an_image_that_is_not_what_the_release_lists_is_refused_with_both_checksums(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 3)
    cache = opened(tmp_path, samples)
    (bad,) = cache.fill(samples, contents=expected(samples, listed=True, image_1="0" * 64))
    assert (bad.id, bad.changed) == ("image-1", True)
    found = sha256_of(samples[1].files[0])
    assert (
        f"{samples[1].files[0]}: the file does not have the checksum of SHA256SUMS.txt line 2: SHA-256 {'0' * 64} expected" in bad.sentence
    )
    assert f"{found} found. Fetch it again." in bad.sentence
    assert_holds(cache, [samples[0], samples[2]])
    with pytest.raises(DataError, match="1 of the images asked for are not in the cache yet"):
        cache.images(np.array([1]))


def test_a_sentence_names_no_file_where_its_name_tells_who_was_examined(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 1)
    contents = expected(samples, listed=True, image_0="0" * 64)
    for told in (contents, Contents(contents.digests)):
        (bad,) = opened(tmp_path, samples).fill(samples, contents=replace(told, names_files=False))
        assert "image-0" not in bad.sentence
        assert "SHA-256" in bad.sentence


def test_a_cached_row_of_other_bytes_than_planned_is_not_used(tmp_path: Path) -> None:
    """The file holds again what was planned, under the very stamp of the row that was made from something else."""
    samples = toys(tmp_path / "data", 1)
    cache = opened(tmp_path, samples)
    path = samples[0].files[0]
    planned, before = expected(samples), path.stat()
    path.write_text("7")
    cache.fill(samples)
    path.write_text("0")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    cache = opened(tmp_path, samples)
    cache._rows = cache._rows.copy()
    cache._rows["stamp"] = np.frombuffer(joint_stamp([stamp_of(path)]), np.uint8)
    cache._sound[:] = True
    assert not cache._is_current(samples[0], planned)
    assert cache._is_current(samples[0], Contents())
    assert cache.fill(samples, contents=planned) == []
    assert_holds(opened(tmp_path, samples), samples)


@pytest.mark.parametrize("written", ["9", ""], ids=["whole", "half written"])
def test_an_image_replaced_while_it_is_decoded_is_not_cached(tmp_path: Path, written: str) -> None:
    samples = toys(tmp_path / "data", 2)
    path = samples[0].files[0]

    def replaced() -> np.ndarray:
        path.write_text(written)
        if not written:
            raise ImageError("image-0.txt (id image-0): cut off.")
        return draw(path)

    cache = opened(tmp_path, samples)
    (bad,) = cache.fill([replace(samples[0], image=replaced), samples[1]])
    assert "changed while it was decoded" in bad.sentence
    assert bad.changed
    with pytest.raises(DataError, match="1 of the images asked for are not in the cache yet"):
        cache.images(np.array([0]))


def test_decoding_remembers_the_digests_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.contents.RECENT_NS", 0)
    samples, memory = toys(tmp_path / "data", 3), Memory(tmp_path / "cache")
    opened(tmp_path, samples).fill(samples, memory=memory)
    looked = memory.look(s.files[0] for s in samples)
    assert (looked.unknown, looked.digests) == ({}, expected(samples).digests)


def test_a_memory_that_is_wrong_unlearns_it_when_the_file_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the job would fail again and again with the advice to run it again."""
    monkeypatch.setattr("benchmark.contents.RECENT_NS", 0)
    samples, memory = toys(tmp_path / "data", 1), Memory(tmp_path / "cache")
    path = samples[0].files[0]
    memory.remember([(path, stamp_of(path), "0" * 64)])
    wrong = Contents(memory.look([path]).digests)
    (bad,) = opened(tmp_path, samples).fill(samples, contents=wrong, memory=memory)
    assert "not what the job was planned with" in bad.sentence
    assert memory.look([path]).digests == {path: sha256_of(path)}


def test_a_layout_cut_off_by_a_kill_is_made_anew(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 3)
    cache = opened(tmp_path, samples)
    (cache.path / RECIPE_FILE).unlink()
    os.truncate(cache.path / "masks.bits", 5)
    again = opened(tmp_path, samples)
    assert again.fill(samples) == []
    assert_holds(again, samples)


# --------------------------------------------------------------------------------------------------------------------- sizes


def test_unfilled_rows_take_no_space(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"size": 224})
    samples = toys(tmp_path / "data", 1)
    cache = ImageCache.open(tmp_path / "cache", recipe, [samples[0].id, *(f"absent-{i}" for i in range(20_000))])
    assert (cache.path / "images.u8").stat().st_size > 10**9
    empty = cache.size_bytes()
    assert empty < 10**6
    cache.fill(samples)
    assert empty < cache.size_bytes() < empty + 10**6


def test_caches_are_listed_with_their_sizes(tmp_path: Path) -> None:
    samples = toys(tmp_path / "data", 40)
    large, small = opened(tmp_path, samples), opened(tmp_path, samples, RECIPE.model_copy(update={"dataset": "a-b", "size": 8}))
    large.fill(samples)
    entries = list_caches(tmp_path / "cache")
    assert [(e.path, e.dataset, e.bytes) for e in entries] == [
        (large.path, "toy", large.size_bytes()),
        (small.path, "a-b", small.size_bytes()),
    ]
    assert entries[0].recipe == RECIPE
    (small.path / RECIPE_FILE).write_text(json.dumps({"recipe": {"unknown": 1}}))
    assert list_caches(tmp_path / "cache")[1][1::2] == ("a-b", None)
    assert list_caches(tmp_path / "nothing") == []


def test_a_cache_is_for_its_owner_alone_and_one_that_was_open_is_closed(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        cache = ImageCache.open(tmp_path, RECIPE, ["one"])
    finally:
        os.umask(before)
    modes = {(cache.path / name).stat().st_mode & 0o777 for name in ("images.u8", "masks.bits", "rows.bin", "state.u8")}
    assert (cache.path.stat().st_mode & 0o777, modes) == (0o700, {0o600})
    cache.path.chmod(0o755)
    ImageCache.open(tmp_path, RECIPE, ["one"])
    assert cache.path.stat().st_mode & 0o777 == 0o700
