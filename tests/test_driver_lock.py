"""One driver at a time: dead and silent ones are followed at once or after a minute, living ones never, and who lost a lock notices."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from benchmark import driver_lock
from benchmark.driver_lock import STALE_S, DriverLock, this_process
from benchmark.errors import StoreError
from benchmark.files import read_bytes
from benchmark.store import Store
from tests.full_disk import full_disk


def _dead_pid() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def _written(folder: Path, age_s: float = 0.0, **changes: object) -> Path:
    path = folder / "driver.lock"
    path.write_text(json.dumps({**this_process(), **changes}))
    now = path.stat().st_mtime
    os.utime(path, (now - age_s, now - age_s))
    return path


def test_the_lock_of_a_dead_process_is_taken_over_at_once(tmp_path: Path):
    path = _written(tmp_path, pid=_dead_pid())
    with Store(tmp_path).lock():
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"place": "another boot pid:[1]"}, {"place": None}])
def test_a_process_number_of_another_machine_or_container_says_nothing(tmp_path: Path, changes: dict):
    """Two containers may share a host's name, and a number that is nobody's here may be alive there."""
    _written(tmp_path, pid=_dead_pid(), **changes)
    with pytest.raises(StoreError, match="in use by process"), Store(tmp_path).lock():
        pass


@pytest.mark.parametrize("pid", [1, "ours", 0, -1, "minus ours", 2**31, 10**30, "1", "x", None, 1.5, True, [1], {"a": 1}], ids=str)
@pytest.mark.parametrize("host", [None, "elsewhere"])
def test_a_heartbeat_holds_a_lock_of_any_process_and_silence_releases_it(tmp_path: Path, pid: object, host: str | None):
    ours = {"ours": os.getpid(), "minus ours": -os.getpid()}  # not a parameter itself: every process would collect other tests
    changes = {"pid": ours.get(pid, pid) if isinstance(pid, str) else pid} | ({} if host is None else {"host": host})
    _written(tmp_path, **changes)
    with (
        pytest.raises(StoreError, match=r"in use by process .* Without a sign of life it counts as abandoned after 60 s"),
        Store(tmp_path).lock(),
    ):
        pass
    _written(tmp_path, age_s=STALE_S + 5, **changes)
    with Store(tmp_path).lock():
        pass


@pytest.mark.parametrize("ahead_s", [2 * STALE_S, 10.0**9])
def test_a_heartbeat_far_ahead_blocks_nobody(tmp_path: Path, ahead_s: float):
    _written(tmp_path, age_s=-ahead_s, host="elsewhere")
    with Store(tmp_path).lock():
        pass


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[1]", b'"a"', b"7", b"{", b"\xff\xfe\x00", b"[" * 50_000, b'{"host": [], "pid": {}, "since": null}']
)
def test_a_lock_of_any_content_is_held_while_fresh_and_given_up_when_silent(tmp_path: Path, content: bytes):
    path = tmp_path / "driver.lock"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"in use by process \? on \? since \?"), Store(tmp_path).lock():
        pass
    os.utime(path, (0, 0))
    with Store(tmp_path).lock():
        pass


def test_what_a_lock_says_is_shown_without_control_characters(tmp_path: Path):
    _written(tmp_path, host="a\x1b[2Jb\n" + "c" * 500)
    with pytest.raises(StoreError) as error, Store(tmp_path).lock():
        pass
    assert "\x1b" not in str(error.value)
    assert "c" * 100 not in str(error.value)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_lock_that_is_no_file_is_named(tmp_path: Path, kind: str):
    store = Store(tmp_path)
    (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / "driver.lock")
    with pytest.raises(StoreError, match=r"driver\.lock cannot be used: it is a .*Remove it"), store.lock():
        pass


@pytest.mark.parametrize("guarded", [True, False])
def test_of_several_threads_one_at_most_keeps_an_abandoned_lock(tmp_path: Path, monkeypatch, guarded: bool):
    if not guarded:  # a file system without locks of the operating system

        def none(*_: object, **__: object) -> None:
            raise NotImplementedError

        monkeypatch.setattr(driver_lock.FileLock, "acquire", none)
    n = 6
    for _ in range(10):
        _written(tmp_path, pid=_dead_pid())
        start, end = threading.Barrier(n), threading.Barrier(n)
        won: list[bool] = []

        def drive(start=start, end=end, won=won) -> None:
            start.wait()
            try:
                with DriverLock(tmp_path / "driver.lock").held() as held:
                    end.wait()
                    won.append(not held.is_lost())
            except StoreError:
                end.wait()

        threads = [threading.Thread(target=drive) for _ in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if guarded:
            assert won == [True]
            assert not (tmp_path / "driver.lock").exists()
        else:  # one that takes the same lock in the same milliseconds may take it from the first, which notices; never do two keep it
            assert won.count(True) <= 1
            (tmp_path / "driver.lock").unlink(missing_ok=True)


def test_a_taker_that_never_ends_is_waited_for_and_named(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(driver_lock, "GUARD_S", 0.01)
    with (
        driver_lock.FileLock(tmp_path / driver_lock.GUARD),
        pytest.raises(StoreError, match=r"Another process has been taking the lock .*driver\.lock for 0 s\. Try again"),
        DriverLock(tmp_path / "driver.lock").held(),
    ):
        pass
    assert not (tmp_path / "driver.lock").exists()


def test_a_folder_that_takes_no_lock_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("where a folder should be")
    with (
        pytest.raises(StoreError, match=r"Cannot take the lock .*: Not a directory\. Choose another --out"),
        DriverLock(tmp_path / "file" / "driver.lock").held(),
    ):
        pass


def test_a_full_disk_leaves_no_lock_of_nobody(tmp_path: Path):
    with (
        full_disk(),
        pytest.raises(StoreError, match=r"Cannot take the lock .*: File too large\. Make room"),
        DriverLock(tmp_path / "driver.lock").held(),
    ):
        pass
    assert not (tmp_path / "driver.lock").exists()
    with Store(tmp_path).lock():
        pass


def test_a_lock_that_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "driver.lock").symlink_to("driver.lock")
    with (
        pytest.raises(StoreError, match=r"driver\.lock cannot be read: Too many levels of symbolic links\. Remove it"),
        DriverLock(tmp_path / "driver.lock").held(),
    ):
        pass


def test_a_lock_that_comes_and_goes_is_given_up_with_a_sentence(tmp_path: Path, monkeypatch):
    tried = []
    monkeypatch.setattr(driver_lock, "_created", lambda path, mine: tried.append(path))  # it is there, and gone when it is read
    with pytest.raises(StoreError, match="another driver took it at the same moment"), DriverLock(tmp_path / "driver.lock").held():
        pass
    assert len(tried) == 2


def test_another_users_process_holds_its_lock_while_it_beats(tmp_path: Path, monkeypatch):
    def foreign(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(driver_lock.os, "kill", foreign)
    _written(tmp_path)
    with pytest.raises(StoreError, match="in use by"), Store(tmp_path).lock():
        pass
    _written(tmp_path, age_s=STALE_S + 5)
    with Store(tmp_path).lock():
        pass


def test_of_several_processes_one_takes_an_abandoned_lock(tmp_path: Path):
    n = 4
    _written(tmp_path, pid=_dead_pid())
    (start_r, start_w), (told_r, told_w), (end_r, end_w) = os.pipe(), os.pipe(), os.pipe()
    children = []
    for _ in range(n):
        child = os.fork()
        if child == 0:
            os.close(start_w)
            os.close(end_w)
            os.read(start_r, 1)  # until the parent lets all of them go
            try:
                with DriverLock(tmp_path / "driver.lock").held():
                    os.write(told_w, b"1")
                    os.read(end_r, 1)
            except StoreError:
                os.write(told_w, b"0")
            os._exit(0)
        children.append(child)
    os.close(start_w)
    told = b"".join(os.read(told_r, 1) for _ in range(n))
    os.close(end_w)
    for child in children:
        os.waitpid(child, 0)
    for descriptor in (start_r, told_r, told_w, end_r):
        os.close(descriptor)
    assert sorted(told) == sorted(b"0" * (n - 1) + b"1")


def test_a_lock_taken_since_it_was_judged_is_not_moved_away(tmp_path: Path):
    path = _written(tmp_path)
    taken = read_bytes(path)
    with pytest.raises(StoreError, match="at the same moment"):
        driver_lock._move_away(path, b"what was judged")
    assert read_bytes(path) == taken
    assert [one.name for one in tmp_path.iterdir()] == ["driver.lock"]


@pytest.mark.parametrize("how", ["removed", "replaced", "overwritten"])
def test_a_driver_that_lost_its_lock_stops_before_it_writes_more(tmp_path: Path, how: str):
    store = Store(tmp_path)
    path = tmp_path / "driver.lock"
    another = json.dumps({**this_process(), "pid": 7, "host": "elsewhere"})
    with store.lock() as held:
        held.require()
        store.plan([])
        before = (tmp_path / "planned.jsonl").read_bytes()
        (tmp_path / "planned.jsonl").unlink()
        if how != "overwritten":
            path.unlink()
        if how != "removed":
            path.write_text(another)
        said = "was removed" if how == "removed" else "was taken by process 7 on elsewhere"
        with pytest.raises(StoreError, match=rf"{said}.* while this run went on.* writes no more"):
            held.require()
        with pytest.raises(StoreError, match=said):
            store.plan([])
    assert before
    assert not (tmp_path / "planned.jsonl").exists()
    assert path.exists() == (how != "removed")  # another's lock is not given back by who lost it
    if how != "removed":
        assert path.read_text() == another


def test_the_heartbeat_notices_a_lost_lock_and_beats_no_more(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(driver_lock, "HEARTBEAT_S", 0.001)
    path = tmp_path / "driver.lock"
    beaten, noticed = threading.Event(), threading.Event()
    touch = os.utime
    monkeypatch.setattr(driver_lock.os, "utime", lambda *args: (touch(*args), beaten.set()))
    with DriverLock(path).held() as held:
        assert beaten.wait(20)
        monkeypatch.setattr(held._lost, "set", lambda set_=held._lost.set: (set_(), noticed.set()))
        path.write_text("{}")
        assert noticed.wait(20)
        assert held.is_lost()


def test_a_file_system_that_does_not_answer_has_not_given_the_lock_away(tmp_path: Path, monkeypatch):
    with DriverLock(tmp_path / "driver.lock").held() as held:

        def silent(path: Path) -> bytes:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as context:
            context.setattr(driver_lock, "_read", silent)
            assert not held.is_lost()
        assert not held.is_lost()
