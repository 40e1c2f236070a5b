"""Promises of `benchmark.imaging.cache`: decoded once, shared, and another cache for whatever decides bytes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.contents import Contents
from benchmark.errors import DataError, ImageError
from benchmark.imaging.cache import ImageCache
from benchmark.imaging.cache_files import RECIPE_FILE, list_caches
from benchmark.imaging.equalise import equalise
from benchmark.imaging.prepare import prepare_image
from tests.imaging.toys import RECIPE, SIZE, Toy, assert_holds, expected, opened, toys

SMAPS = Path("/proc/self/smaps")

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


@pytest.mark.skipif(not SMAPS.exists(), reason="needs Linux's account of a process's pages")
def test_pages_that_were_looked_through_or_read_do_not_stay_this_process_own(tmp_path: Path) -> None:
    samples, rows = toys(tmp_path / "data", 70), np.arange(70)
    opened(tmp_path, samples).fill(samples)
    cache = opened(tmp_path, samples)

    def resident() -> int:
        """Bytes of the tables of pixels that count as this process's."""
        maps = SMAPS.read_text().split(" kB\n")
        (images,), (masks,) = ([k for k, line in enumerate(maps) if str(cache.path / name) in line] for name in ("images.u8", "masks.bits"))
        sizes = [line for first in (images, masks) for line in maps[first : first + 6] if line.startswith("Rss:")]
        assert len(sizes) == 2
        return sum(int(line.split()[1]) for line in sizes) * 1024

    assert len(cache._images[rows].tobytes()) <= resident()  # they can be seen
    cache.fill(samples)
    assert resident() == 0
    cache = opened(tmp_path, samples)
    cache.images(rows)  # the first time, masks are looked through as well
    assert resident() == 0


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
