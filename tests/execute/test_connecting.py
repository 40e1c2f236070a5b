"""A head that is lost is told before Ray ends the process without a word; signals stay ours."""

from __future__ import annotations

import signal
import sys
import threading
from types import SimpleNamespace

import pytest

from benchmark.errors import EnvironmentProblem
from benchmark.execute import addresses, connecting
from benchmark.execute.connecting import Connection, listen


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
