"""A head that is lost is told before Ray ends the process without a word; signals stay ours."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.errors import EnvironmentProblem
from benchmark.execute import addresses, connecting
from benchmark.execute.connecting import Connection, listen, session_folder, start_here


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    """A home folder without a token, and no word about one."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(connecting, "session_folder", lambda: tmp_path / "session")
    return tmp_path


def heard(monkeypatch, answers: list[bool], named: str | None = "head:6379") -> list[int]:
    """Exit codes of a listener that gets these answers, ten seconds apart."""
    monkeypatch.setattr(connecting, "LISTEN_S", 0.0)
    left, clock, closed, codes = list(answers), [0.0], threading.Event(), []

    def is_alive(_: str) -> bool:
        clock[0] += 10.0
        if len(left) == 1:
            closed.set()
        return left.pop(0)

    listen("10.0.0.1:6379", named, closed, is_alive, codes.append, lambda: clock[0])
    return codes


def test_a_lost_head_ends_the_process_with_a_sentence_before_ray_does(monkeypatch, capsys):
    assert heard(monkeypatch, [True, *[False] * 9]) == [2]
    said = capsys.readouterr().err
    assert "error: The head of the Ray cluster at head:6379 ended or cannot be reached. What is stored stays; the same command" in said
    assert connecting.LOST_S + 2 * (connecting.LISTEN_S + addresses.ANSWER_S) < 60  # after which Ray ends it


def test_the_ray_of_this_machine_is_named_so(monkeypatch, capsys):
    assert heard(monkeypatch, [False] * 9, named=None) == [2]
    assert "The Ray started on this machine ended" in capsys.readouterr().err


def test_a_head_that_comes_back_is_no_loss(monkeypatch, capsys):
    assert heard(monkeypatch, [True, False, False, False, True, False, False, False, True]) == []
    assert capsys.readouterr().err == ""


def test_ray_leaves_the_signals_of_the_program_as_they_were(monkeypatch):
    import ray

    before = signal.getsignal(signal.SIGTERM)

    def init(**_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="10.0.0.1:6379"))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    connection = Connection(cpus=1)
    connection.open()
    assert signal.getsignal(signal.SIGTERM) is before
    connection.close()


def test_a_signal_while_ray_connects_is_an_interruption_too(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: sys.exit(signal.SIGTERM))  # what Ray's handler does
    with pytest.raises(KeyboardInterrupt):
        Connection(cpus=1).open()


def test_a_local_ray_takes_the_cores_that_this_process_may_use(monkeypatch):
    import ray

    given = {}
    monkeypatch.setattr(ray, "init", lambda **options: given.update(options))
    monkeypatch.setattr(connecting, "usable_cores", lambda: 3)
    Connection()._connect(ray, ())
    assert (given["address"], given["num_cpus"]) == ("local", 3)


def test_a_machine_that_is_no_node_of_the_cluster_is_told_how_to_drive_it(monkeypatch):
    from ray._private import services

    monkeypatch.setattr(addresses, "require_answer", lambda *_: None)
    monkeypatch.setattr(services, "find_node_ids", set)
    with pytest.raises(EnvironmentProblem, match=r"no node of the Ray cluster at 10.0.0.1:6379.*ray start .*--num-cpus=0.*--detach"):
        Connection("10.0.0.1:6379").open()


def test_without_ray_there_is_another_executor(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentProblem, match=r"Ray cannot be imported .*Use --executor inline"):
        Connection().open()


def test_an_end_that_is_no_signal_stays_what_it_was(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: sys.exit(3))
    with pytest.raises(SystemExit) as ended:
        Connection(cpus=1).open()
    assert ended.value.code == 3


def test_a_cluster_that_answers_and_takes_nobody_is_named_with_its_reason(monkeypatch):
    import ray

    def refuse(**_):
        raise ConnectionError("Version mismatch: the cluster was started with Ray 1.0\nand more")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(Connection, "_found", lambda self, given: given)
    with pytest.raises(EnvironmentProblem, match=r"at head:6379 answers but does not take this process: Version mismatch.*Ray 1\.0\. "):
        Connection("head:6379").open()


def test_where_no_ray_runs_auto_says_what_to_name(monkeypatch):
    from ray._private import services

    def none(_):
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(services, "canonicalize_bootstrap_address_or_die", none)
    with pytest.raises(EnvironmentProblem, match="--address auto: no Ray cluster was found on this machine"):
        Connection("auto")._found("auto")


def test_a_ray_that_does_not_know_its_node_is_a_sentence(monkeypatch):
    from ray._private import worker

    monkeypatch.setattr(worker.global_worker, "node", None)
    with pytest.raises(EnvironmentProblem, match="does not know its own node"):
        session_folder()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def starting(init=lambda **_: None):
    """A stand-in for Ray that does this when it starts."""
    return SimpleNamespace(init=init)


def test_the_token_is_private_before_ray_looks_for_one(home: Path):
    token, seen = home / ".ray" / "auth_token", []
    before = os.umask(0)
    try:
        start_here(starting(lambda **_: seen.append((mode(token.parent), mode(token), token.read_text()))), 1)
    finally:
        os.umask(before)
    assert [(folder, file, len(bytes.fromhex(text))) for folder, file, text in seen] == [(0o700, 0o600, 32)]
    start_here(starting(), 1)
    assert token.read_text() == seen[0][2]
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def test_a_token_that_others_could_read_is_kept_and_closed(home: Path):
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("known to other machines")
    token.chmod(0o644)
    start_here(starting(), 1)
    assert (token.read_text(), mode(token)) == ("known to other machines", 0o600)


@pytest.mark.parametrize("given", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "x"}, {"RAY_AUTH_TOKEN_PATH": "/run/secrets/x"}])
def test_no_token_is_made_where_the_user_has_said_which_or_none(home: Path, monkeypatch, given: dict[str, str]):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    start_here(starting(), 1)
    assert not (home / ".ray").exists()


def test_others_may_not_look_into_rays_folder(home: Path):
    (home / "session").mkdir()
    start_here(starting(lambda **_: (home / "session").chmod(0o777)), 1)
    assert mode(home / "session") == 0o700


def test_ray_is_bound_to_loopback_only_where_lobe_starts_it_for_this_machine():
    from ray._private import services

    seen = []
    start_here(starting(lambda **_: seen.append(services.get_node_ip_address())), 1)
    assert seen == ["127.0.0.1"]
    from ray._private import ray_constants

    assert ray_constants.ENABLE_RAY_CLUSTER
