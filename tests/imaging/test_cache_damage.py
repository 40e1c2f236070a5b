"""Promises of `benchmark.imaging.cache` where something goes wrong: resumed after a kill, and no row that was not written whole or whose
files are not what they should be.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmark.contents import Contents, Memory, sha256_of, stamp_of
from benchmark.errors import DataError, ImageError, StoreError
from benchmark.imaging.cache_files import RECIPE_FILE
from benchmark.imaging.rows import joint_stamp
from tests.imaging.toys import SIZE, assert_holds, draw, expected, opened, toys

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
