"""Digests of files: computed once, remembered while the file is the same, and never trusted beyond that."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest

from benchmark import contents
from benchmark.contents import Contents, Memory, digest_like, drained, sha256_of
from benchmark.errors import DataChanged, DataError


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Five files, taken to be old: what was written just now is not remembered."""
    monkeypatch.setattr(contents, "RECENT_NS", 0)
    made = [tmp_path / "data" / f"{i}.bin" for i in range(5)]
    made[0].parent.mkdir()
    for i, path in enumerate(made):
        path.write_bytes(bytes([i]) * 100)
    return made


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "cache")


def right(files: list[Path]) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def never(path: Path) -> str:
    raise AssertionError(f"{path.name} was read again")


def test_a_file_is_read_once(files: list[Path], memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.look(files).unknown == dict.fromkeys(files, 100)
    seen: list[tuple[int, int]] = []
    assert drained(memory.digests(files), lambda *told: seen.append(told)) == right(files)
    assert seen == [(0, 500), (500, 500)]
    monkeypatch.setattr(contents, "sha256_of", never)
    assert drained(memory.digests(files)) == right(files)
    assert memory.digest(files[2]) == right(files)[files[2]]


def test_a_digest_is_compared_in_the_form_in_which_it_was_published(files: list[Path]) -> None:
    content = files[2].read_bytes()
    assert digest_like("sha256:", files[2]) == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert digest_like("md5:02ce6ee4", files[2]) == f"md5:{hashlib.md5(content).hexdigest()}"
    with pytest.raises(DataError, match="'crc32:1234' is no digest of a file: write sha256:HEX or md5:HEX"):
        digest_like("crc32:1234", files[2])


def test_progress_comes_chunk_by_chunk(files: list[Path], memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "CHUNK_BYTES", 200)
    assert list(memory.digests(files)) == [(0, 500), (200, 500), (400, 500), (500, 500)]
    assert list(memory.digests(files)) == []


@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_bytes_replaced_under_the_old_size_and_time_are_read_again(files: list[Path], memory: Memory, how: str) -> None:
    before = files[1].stat()
    first = memory.digest(files[1])
    target = files[1] if how == "in place" else files[1].with_name("other")
    while (target.exists() and target.stat().st_ctime_ns == before.st_ctime_ns) or not target.exists():
        target.write_bytes(b"x" * 100)  # until the file system's clock has ticked
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(target, files[1])
    assert (files[1].stat().st_size, files[1].stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert memory.digest(files[1]) == hashlib.sha256(b"x" * 100).hexdigest() != first


def test_what_was_written_just_now_is_not_remembered(files: list[Path], memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be written again within the same tick of the clock, and nothing would show."""
    monkeypatch.setattr(contents, "RECENT_NS", 10**18)
    assert drained(memory.digests(files)) == right(files)
    assert memory.look(files).digests == {}


def test_a_memory_is_for_its_owner_alone(files: list[Path], memory: Memory) -> None:
    drained(memory.digests(files))
    assert memory.path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_memory_is_made_anew(files: list[Path], memory: Memory) -> None:
    drained(memory.digests(files))
    memory.path.write_bytes(b"no database, and long enough to be taken for one" * 100)
    assert drained(memory.digests(files)) == right(files)
    assert memory.look(files).unknown == {}


def test_a_memory_damaged_while_files_were_read_is_made_anew(files: list[Path], memory: Memory) -> None:
    noted = [(path, contents.stamp_of(path), digest) for path, digest in right(files).items()]
    memory.path.parent.mkdir()
    memory.path.write_bytes(b"no database, and long enough to be taken for one" * 100)
    memory.remember(noted)
    assert not memory.path.exists()
    memory.remember(noted)
    assert memory.look(files).digests == right(files)


def test_a_memory_whose_table_was_never_made_is_filled(files: list[Path], memory: Memory) -> None:
    """A process that was killed between making the file and its table leaves an empty one."""
    memory.path.parent.mkdir()
    memory.path.touch()
    assert memory.look(files).digests == {}
    assert memory.path.exists()
    assert drained(memory.digests(files)) == right(files)
    assert memory.look(files).digests == right(files)


def test_a_memory_that_cannot_be_written_costs_time_only(files: list[Path], memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(contents, "_connect", refuse)
    assert drained(memory.digests(files)) == right(files)


def test_a_cache_folder_that_cannot_be_made_costs_time_only(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    assert drained(Memory(tmp_path / "file" / "cache").digests(files)) == right(files)


def test_without_a_cache_nothing_is_remembered(files: list[Path]) -> None:
    assert drained(Memory(None).digests(files)) == right(files)
    assert Memory(None).look(files).digests == {}


def hash_all(cache: Path, files: list[Path], log: Path) -> None:
    def noted(path: Path) -> str:
        with log.open("a") as handle:
            handle.write(f"{path.name}\n")
        return sha256_of(path)

    contents.RECENT_NS, contents.CHUNK_FILES, contents.sha256_of = 0, 1, noted
    found = drained(Memory(cache).digests(files))
    os._exit(0 if found == right(files) else 1)


def test_several_processes_read_each_file_once(files: list[Path], tmp_path: Path) -> None:
    fork, log = multiprocessing.get_context("fork"), tmp_path / "log"
    children = [fork.Process(target=hash_all, args=(tmp_path / "cache", files[::order], log)) for order in (1, -1, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(log.read_text().split()) == sorted(path.name for path in files)


def test_a_file_that_changes_while_it_is_read_is_an_error(files: list[Path], memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    def growing(path: Path) -> str:
        path.write_bytes(path.read_bytes() + b"x")
        return sha256_of(path)

    monkeypatch.setattr(contents, "sha256_of", growing)
    with pytest.raises(DataChanged, match=r"0\.bin changed while it was read"):
        drained(memory.digests(files[:1]))


def test_a_missing_file_is_named(files: list[Path], memory: Memory) -> None:
    with pytest.raises(DataError, match=r"gone\.bin cannot be read: No such file"):
        memory.look([files[0], files[0].with_name("gone.bin")])


def test_a_file_of_which_nothing_is_known_is_not_refused(tmp_path: Path) -> None:
    known = Contents({tmp_path / "a": "1" * 64})
    assert known.refusal(tmp_path / "b", "2" * 64) is None
    assert known.refusal(tmp_path / "a", "1" * 64) is None
    assert "run the same command again" in known.refusal(tmp_path / "a", "2" * 64)
    assert known.of([tmp_path / "a", tmp_path / "b"]) is None
