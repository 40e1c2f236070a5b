"""The disk stays free enough, and no set goes that somebody has open."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from benchmark.training import feature_folders
from benchmark.training.feature_folders import list_sets
from tests.training.test_feature_store import images, opened, write

Usage = namedtuple("Usage", "total used free")


def disk_with(monkeypatch, root: Path, least_free: int) -> None:
    """A disk of its own on which the sets are all there is: so much stays free when all of them are gone."""

    def usage(_path) -> Usage:
        used = sum(p.stat().st_size for p in root.rglob("*.data"))
        return Usage(100_000, used, 50_000 - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(feature_folders, "LEAST_FREE_BYTES", least_free)


def test_sets_that_nobody_has_open_go_the_longest_unused_first(tmp_path: Path, monkeypatch):
    for age, what in enumerate(("new", "old", "oldest")):
        stored = opened(tmp_path, what)
        write(stored, [0])  # 4,800 bytes
        os.utime(stored.path / "used", (1e9 - age, 1e9 - age))
    del stored
    here = opened(tmp_path, "here")
    write(here, [0])
    disk_with(monkeypatch, tmp_path, 30_000)
    assert here.make_room(100)
    assert len(list_sets(tmp_path)) == 4
    assert here.make_room(3_000)
    assert sorted(json.loads((s.path / "recipe.json").read_text())["what"] for s in list_sets(tmp_path)) == ["here", "new", "old"]
    assert not here.make_room(25_000)
    assert [json.loads((s.path / "recipe.json").read_text())["what"] for s in list_sets(tmp_path)] == ["here"]
    assert here.read("32", np.array([0]), images([0])).sound.all()


def test_a_set_that_is_open_is_never_removed(tmp_path: Path, monkeypatch):
    held, here = opened(tmp_path, "held"), opened(tmp_path, "here")
    write(held, [1, 2])
    disk_with(monkeypatch, tmp_path, 10**9)
    assert not here.make_room(1)
    assert held.path.is_dir()
    assert held.read("32", np.array([1, 2]), images([1, 2])).sound.all()
    path = held.path
    del held
    assert not here.make_room(1)
    assert not path.exists()
    assert list(tmp_path.iterdir()) == [here.path]


def test_a_removal_that_was_cut_short_is_ended_by_the_next_one(tmp_path: Path, monkeypatch):
    write(opened(tmp_path, "old"), [0])
    (old,) = tmp_path.iterdir()
    old.rename(old.with_name(f"{feature_folders.GONE}{old.name}-1-1"))
    here = opened(tmp_path, "here")
    disk_with(monkeypatch, tmp_path, 10**9)
    here.make_room(1)
    assert list(tmp_path.iterdir()) == [here.path]


def test_a_large_disk_keeps_a_share_free(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**13, 0, 10**12))
    monkeypatch.setattr(feature_folders, "LEAST_FREE_SHARE", 0.05)
    stored = opened(tmp_path)
    assert stored.make_room(10**11)
    assert not stored.make_room(6 * 10**11)


def test_sets_are_private_under_any_umask(tmp_path: Path):
    old = os.umask(0)
    try:
        stored = opened(tmp_path / "features")
        write(stored, [0])
        stored.note_pace(0.01)
    finally:
        os.umask(old)
    assert (tmp_path / "features").stat().st_mode & 0o777 == stored.path.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in stored.path.iterdir()} == {0o600}


def test_a_folder_that_cannot_be_one_is_an_error_of_the_system(tmp_path: Path):
    (tmp_path / "features").write_text("a file where a folder should be")
    with pytest.raises(FileExistsError, match="features"):
        opened(tmp_path / "features")


def test_a_set_that_does_not_say_what_it_is_is_listed_all_the_same(tmp_path: Path):
    stored = opened(tmp_path)
    write(stored, [0])
    assert [(one.path, one.dataset) for one in list_sets(tmp_path)] == [(stored.path, "rsna")]
    for damage in ("{", "[]", "{}"):
        (stored.path / "recipe.json").write_text(damage)
        assert [(one.path, one.dataset) for one in list_sets(tmp_path)] == [(stored.path, "-")]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to count open files")
def test_a_file_system_without_locks_is_an_error_that_leaves_nothing_open(tmp_path: Path, monkeypatch):
    def none(*_) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    for name in ("flock", "lockf"):  # that of the set against removal, and those of its rows
        with monkeypatch.context() as patch:
            patch.setattr(feature_folders.fcntl, name, none)
            before = descriptors()
            with pytest.raises(OSError, match="No locks available"):
                opened(tmp_path)
            assert descriptors() == before
    opened(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to count open files")
def test_a_set_that_is_removed_while_it_is_opened_is_begun_anew(tmp_path: Path, monkeypatch):
    path = opened(tmp_path).path
    flock, gone = feature_folders.fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not gone:  # between the opening and the lock
            shutil.rmtree(path)
            gone.append(path)
        flock(descriptor, operation)

    before = descriptors()
    monkeypatch.setattr(feature_folders.fcntl, "flock", late)
    used = feature_folders.enter(path)
    assert os.path.samestat(os.fstat(used), os.stat(path / "used"))
    os.close(used)
    assert (gone, descriptors()) == ([path], before)


def test_where_no_folder_can_be_made_nothing_is_free(tmp_path: Path):
    (tmp_path / "file").write_text("where a folder should be")
    assert feature_folders.free_bytes(tmp_path / "file" / "features") == 0
    assert feature_folders.free_bytes(tmp_path / "features") > 0


def test_a_folder_that_is_no_set_is_not_removed(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    assert not feature_folders._remove_unused(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "kept"
