"""The lock of an output folder: one driver at a time, told by a file with its owner's name, a token and a heartbeat.

The heartbeat is the file's modification time. A lock without one for `STALE_S` is abandoned, wherever its owner ran: a process number says
little, since a restarted container has another process under it. Takers go one at a time, behind a lock of the operating system where the
file system has one. An owner looks at its token with every beat and before it writes; where it is gone, it writes no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from benchmark import json_files
from benchmark.errors import NotRegular, StoreError
from benchmark.files import open_regular

HEARTBEAT_S = 5.0
STALE_S = 60.0
GUARD = ".driver.guard"
GUARD_S = 10.0  # a taker holds it for milliseconds
_MOST_BYTES = 2**16  # of a lock's file
_MOST_PID = 2**31 - 1
_SHOWN = 80


class DriverLock:
    """A lock that this process holds.

    Args:
        path: of its file, in the output folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self._mine = json.dumps(this_process()).encode()
        self._lost = threading.Event()

    @contextmanager
    def held(self) -> Iterator[DriverLock]:
        """Takes the lock, keeps it alive, and gives it back if it is still this process's.

        Raises:
            StoreError: another living driver holds the folder (names host, process and start), or the folder takes no lock.
        """
        with _guarded(self.path):
            _take(self.path, self._mine)
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(stop,), daemon=True, name="store-heartbeat")
        beat.start()
        try:
            yield self
        finally:
            stop.set()
            beat.join()
            with contextlib.suppress(OSError, StoreError), _guarded(self.path):
                if not self.is_lost():
                    self.path.unlink(missing_ok=True)

    def is_lost(self) -> bool:
        """Looks at the file: another took it, or it was removed. Once lost it stays so."""
        try:
            if _read(self.path) != self._mine:
                self._lost.set()
        except (FileNotFoundError, NotRegular):
            self._lost.set()
        except OSError:
            pass  # a file system that does not answer has not given the lock away
        return self._lost.is_set()

    def require(self) -> None:
        """Raises StoreError if this process is not the folder's driver any more."""
        if not self.is_lost():
            return
        try:
            by = f"was taken by {_named(_owner(_read(self.path)))}"
        except OSError:
            by = "was removed"
        raise StoreError(
            f"The lock {self.path} {by} while this run went on: it may have given no sign of life for {STALE_S:.0f} s. This run stops and "
            "writes no more. What is stored stays; the same command goes on from there when nothing else runs."
        )

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT_S):
            if self.is_lost():
                return
            with contextlib.suppress(OSError):
                os.utime(self.path)


def this_process() -> dict[str, Any]:
    """What a lock says of its owner. `place` tells process numbers of one namespace, since one boot, from all others."""
    place = ""
    with contextlib.suppress(OSError):  # no /proc: hosts are told apart by name alone
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        place = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "place": place, "token": uuid.uuid4().hex}


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """One taker at a time, among all processes that see the file system's locks."""
    lock = FileLock(path.with_name(GUARD), timeout=GUARD_S)
    guard: BaseFileLock | None = lock
    try:
        lock.acquire()
    except Timeout:
        raise StoreError(f"Another process has been taking the lock {path} for {GUARD_S:.0f} s. Try again.") from None
    except (OSError, NotImplementedError):
        guard = None  # no such locks here: what is moved away is then held to what was judged
    try:
        yield
    finally:
        if guard is not None:
            guard.release()


def _take(path: Path, mine: bytes) -> None:
    for _ in range(2):
        if _created(path, mine):
            return
        try:
            found = _read(path)
            if not _is_abandoned(path, _owner(found)):
                raise StoreError(
                    f"{path.parent} is in use by {_named(_owner(found))}. Wait for it, or choose another --out. "
                    f"Without a sign of life it counts as abandoned after {STALE_S:.0f} s."
                )
            _move_away(path, found)
        except FileNotFoundError:
            continue  # given back in between
        except NotRegular as error:
            raise StoreError(f"The lock {path} cannot be used: {error.strerror}. Remove it.") from None
        except OSError as error:
            raise StoreError(f"The lock {path} cannot be read: {error.strerror}. Remove it, or choose another --out.") from None
    raise StoreError(f"Could not take the lock {path}; another driver took it at the same moment. Try again.")


def _created(path: Path, mine: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    except OSError as error:
        raise StoreError(f"Cannot take the lock {path}: {error.strerror}. Choose another --out.") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(mine)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise StoreError(f"Cannot take the lock {path}: {error.strerror}. Make room, or choose another --out.") from None
    return True


def _move_away(path: Path, judged: bytes) -> None:
    """Removes an abandoned lock, and no other that came in its place since it was judged."""
    away = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    os.rename(path, away)
    if _read(away) != judged:
        with contextlib.suppress(OSError):
            os.link(away, path)
        away.unlink()
        raise StoreError(f"Could not take the lock {path}; another driver took it at the same moment. Try again.")
    away.unlink()


def _is_abandoned(path: Path, owner: dict[str, Any]) -> bool:
    here = this_process()
    pid = owner.get("pid")
    if owner.get("host") == here["host"] and owner.get("place") == here["place"] and type(pid) is int and 0 < pid <= _MOST_PID:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # it is somebody else's
    # A beat sets the time to now, so a time far ahead is as little a sign of life as one long ago.
    return abs(_now(path) - path.stat().st_mtime) > STALE_S


def _now(path: Path) -> float:
    """The file system's clock, which stamps heartbeats: a server's differs from this machine's."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read(_MOST_BYTES)


def _owner(content: bytes) -> dict[str, Any]:
    """What a lock says of its owner; nothing where it is no object of JSON."""
    try:
        return json_files.parse(content)
    except ValueError:
        return {}


def _named(owner: dict[str, Any]) -> str:
    pid, host, since = (_shown(owner.get(name, "?")) for name in ("pid", "host", "since"))
    return f"process {pid} on {host} since {since}"


def _shown(value: Any) -> str:
    return "".join(letter for letter in str(value)[:_SHOWN] if letter.isprintable()) if isinstance(value, str | int) else "?"
