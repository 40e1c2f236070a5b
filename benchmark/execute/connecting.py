"""The connection to Ray: opened once, before anything is planned, and used until the evaluation has ended."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmark import private
from benchmark.errors import EnvironmentProblem
from benchmark.execute import addresses
from benchmark.execute.ship import stage
from benchmark.machine import usable_cores

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0"}
SILENT = {"log_to_driver": False, "logging_level": logging.ERROR}
LOST_S = 40.0  # of silence, after which a head counts as lost; Ray ends the process after 60, with a line of its own and no other word
LISTEN_S = 5.0  # between two signs of life
STAYS = "What is stored stays; the same command goes on from there."
JOIN = (
    "A driver needs a node of the cluster on its own machine: `ray start --address={address} --num-cpus=0` makes this one a node that "
    "computes nothing. Or hand the evaluation over, from anywhere: --address http://head:8265 --detach."
)


class Connection:
    """
    Args:
        address: cluster address; None starts Ray on this machine and stops it afterwards.
        cpus: cores of the local Ray; None takes those that this process may use.
        lists: say which files of the authors travel to the cluster, beside how many.

    Attributes:
        own: True when `open` made the connection, and `close` ends it.
    """

    def __init__(self, address: str | None = None, cpus: int | None = None, lists: bool = False):
        self.address, self.cpus, self.lists = address, cpus, lists
        self.own = False
        self._closed = threading.Event()

    def open(self, backbones: Iterable[str] = ()):
        """Connects, if this process is not connected.

        Args:
            backbones: `file.py:function` of the user's own, whose folders travel to the cluster.

        Returns:
            The module `ray`.

        Raises:
            UsageError: the address is none.
            EnvironmentProblem: there is no Ray, or no cluster that takes us; says which.
        """
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:
            raise EnvironmentProblem(f"Ray cannot be imported ({error}). Use --executor inline, or `lobe doctor` for the cure.") from None
        if ray.is_initialized():
            return ray
        with _own_signals():
            self._connect(ray, backbones)
        self.own = True
        self._closed.clear()
        head = ray.get_runtime_context().gcs_address
        threading.Thread(target=listen, args=(head, self.address, self._closed), daemon=True, name="head").start()
        return ray

    def close(self) -> None:
        """Ends what `open` began."""
        if self.own:
            import ray

            self._closed.set()
            ray.shutdown()
            self.own = False

    def _connect(self, ray, backbones: Iterable[str]) -> None:
        if self.address is None:  # its own, even where another Ray runs here
            start_here(ray, self.cpus or usable_cores())
            return
        common: dict[str, Any] = {**SILENT}
        addresses.checked(self.address)
        handed_over = bool(os.environ.get("RAY_JOB_ID") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))
        address = self._found(self.address)
        with tempfile.TemporaryDirectory(prefix="lobe-ship-") as staging:
            if not handed_over:  # with --detach all is there
                stage(Path(staging), backbones, lists=self.lists)
                common["runtime_env"] = {"working_dir": staging}
            try:
                ray.init(address=address, **common)
            except ray.exceptions.AuthenticationError:
                raise addresses.wants_token(self.address) from None
            except (ConnectionError, RuntimeError) as error:
                raise EnvironmentProblem(
                    f"The Ray cluster at {self.address} answers but does not take this process: {str(error).splitlines()[0][:200]}. "
                    + JOIN.format(address=self.address)
                ) from None

    def _found(self, given: str) -> str:
        """Host and port of a head that answers, and a node of Ray on this machine, through which a driver speaks to it."""
        from ray._private import services
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

        if given == addresses.AUTO:
            maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # as ray.init does, for this address alone
        try:
            address: str = services.canonicalize_bootstrap_address_or_die(given)
        except (ConnectionError, ValueError):  # no Ray runs here, or several; or $RAY_ADDRESS is none
            raise EnvironmentProblem(
                f"--address {given}: no Ray cluster was found on this machine. Name its head and port, like head:6379."
            ) from None
        addresses.require_answer(address, given)
        if not services.find_node_ids():
            raise EnvironmentProblem(f"This machine is no node of the Ray cluster at {given}. " + JOIN.format(address=given))
        return address


def start_here(ray, n_cores: int) -> None:
    """Starts Ray on this machine, for this machine: sockets are bound to loopback, token and session folder are the user's alone.

    Ray makes a token by itself when it starts, readable as the umask has it; ours is there before. `RAY_AUTH_MODE=disabled` does without.
    Its session folder, where logs and spilled objects lie, anybody might write.
    """
    with _token_kept_private(), _on_loopback():
        ray.init(address="local", num_cpus=n_cores, include_dashboard=False, **SILENT)
    with contextlib.suppress(OSError):
        private.tighten(session_folder())


def session_folder() -> Path:
    """Logs, sockets and spilled objects of the Ray that runs on this machine."""
    from ray._private import worker

    node = worker.global_worker.node
    if node is None:
        raise EnvironmentProblem("Ray started on this machine and does not know its own node. Stop other Rays here and try again.")
    return Path(node.get_session_dir_path())


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray takes 127.0.0.1 for this machine's address, as it does on macOS, and binds to it.

    `_node_ip_address="127.0.0.1"` does not do: Ray puts the address by which others reach the machine in its place, and then all of its
    servers listen on every interface. The variable that decides, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER, is read once, when Ray is imported.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _token_kept_private() -> Iterator[None]:
    """~/.ray/auth_token with mode 0600 where Ray would make it or finds it; one that the user names otherwise is the user's affair."""
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        yield
        return
    token = Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):  # what is wrong there, Ray says
        _make_token(token)
        private.tighten(token)
    yield
    with contextlib.suppress(OSError):
        private.tighten(token)


def _make_token(token: Path) -> None:
    """As `ray get-auth-token --generate`, but private, and never in the place of another one."""
    if token.exists() and token.stat().st_size:
        return
    private.root(token.parent)
    whole = token.with_name(f".{token.name}.{os.getpid()}")
    try:
        with open(whole, "w", encoding="ascii", opener=private.opener) as handle:
            handle.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(whole, token)
    finally:
        whole.unlink(missing_ok=True)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """SIGTERM stays what it was: Ray's own handlers, one of them native, would print stacks and exit with the signal's number."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as ended:  # by Ray's handler, while it connects
        if ended.code == signal.SIGTERM:
            raise KeyboardInterrupt from None
        raise
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def listen(
    head: str,
    named: str | None,
    closed: threading.Event,
    is_alive: Callable[[str], bool] = addresses.is_alive,
    end: Callable[[int], None] = os._exit,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Ends this process with a sentence when the cluster's head has been silent for `LOST_S`.

    No exception will do: a call that waits for the head does not come back, and Ray ends the process before it would.

    Args:
        head: host and port.
        named: the address as the user wrote it.
        closed: set when there is nothing to listen for any more.
        is_alive, end, now: what a test puts in their place.
    """
    silent_since: float | None = None
    while not closed.wait(LISTEN_S):
        if is_alive(head):
            silent_since = None
            continue
        silent_since = now() if silent_since is None else silent_since
        if now() - silent_since >= LOST_S and not closed.is_set():
            who = "The Ray started on this machine" if named is None else f"The head of the Ray cluster at {named}"
            show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a live display hides it
            print(f"{show_cursor}\nerror: {who} ended or cannot be reached. {STAYS}", file=sys.stderr, flush=True)
            end(2)
            return
