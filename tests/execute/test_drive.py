"""What a driver on Ray decides where nodes do not answer, end, or never come: on a stand-in for Ray, as no cluster does so when asked."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from ray import exceptions

from benchmark.errors import EnvironmentProblem
from benchmark.events import Noticed
from benchmark.execute import on_ray, spool
from benchmark.execute.on_ray import RayExecutor, _collected, _Drive, _Running
from benchmark.execute.placing import Node, Slot
from benchmark.execute.schedule import Schedule
from benchmark.training.record import failed
from tests.execute.test_simulate import suite_units

HERE, OTHER = "ab" * 28, "cd" * 28


class Ray:
    """Connects to nothing: knows its own node, and raises what it is told to when it is asked for a result."""

    exceptions = exceptions

    def __init__(self, *nodes: dict, answer: Exception | None = None):
        self._nodes, self._answer = nodes, answer

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(get_node_id=lambda: HERE)

    def remote(self, *_, **__):
        task = SimpleNamespace(remote=lambda *_: "task")
        return lambda function: SimpleNamespace(options=lambda **_: task, remote=task.remote)

    def nodes(self) -> tuple[dict, ...]:
        return self._nodes

    def get(self, *_, **__):
        raise self._answer


def alive(name: str) -> dict:
    return {"NodeID": name, "Alive": True, "Resources": {"CPU": 4.0}}


def drive(*nodes: dict, address: str | None = "head:6379", answer: Exception | None = None, device: str = "cpu", n: int = 1) -> _Drive:
    return _Drive(Ray(*nodes, answer=answer), Schedule(suite_units(1, device)[:n]), RayExecutor(address=address))


def test_the_end_of_the_node_it_speaks_through_ends_the_run_with_a_sentence():
    made = drive(alive("another"), address=None)
    with pytest.raises(EnvironmentProblem, match="The node of Ray on this machine ended, through which it speaks to the cluster"):
        list(made._look())


def test_a_node_that_does_not_answer_is_not_used_and_that_is_said_once():
    made = drive(alive(HERE), alive(OTHER), answer=exceptions.GetTimeoutError("30 s"), address=None)
    (told,) = made._look()
    assert told == Noticed("Node cdcdcdcd is not used: it did not answer (GetTimeoutError).")
    assert set(made.placer.nodes) == {HERE}
    made._looked = -1e9
    assert list(made._look()) == []


def test_a_lost_unit_without_room_waits_for_a_node():
    made = drive()
    unit = made.schedule.next()
    made.lost = [(unit, 1)]
    made._fill()
    assert (made.lost, made.running) == ([(unit, 1)], {})
    made.placer.join(Node(OTHER, cpus=64, memory_bytes=2**40))
    made._fill()
    assert made.lost == []
    assert [(run.unit, run.losses) for run in made.running.values()] == [(unit, 1)]


def test_a_process_that_dies_after_its_last_job_has_lost_nothing():
    made = drive()
    unit = made.schedule.next()
    run = _Running(unit, Slot("n", 1, 0), done={job.key for job in unit.jobs})
    assert list(made._lost(run, exceptions.WorkerCrashedError())) == []
    assert made.lost == []


def test_what_no_node_could_ever_hold_fails_with_what_it_needs_and_the_run_ends():
    made = drive({**alive(HERE), "Resources": {"CPU": 4.0, "GPU": 1.0}}, address=None)
    unit = replace(suite_units(1, "cuda")[0], workers=2)
    made.schedule = Schedule([unit])
    ended = list(made.events())
    assert [event.record.key for event in ended] == [job.key for job in unit.jobs]
    for event in ended:
        assert event.record.failure.environment  # so it is not stored
        assert event.record.failure.sentence == f"No node of the cluster has what {unit.name} needs: 2 GPU, 2 CPU."


def test_what_a_node_kept_for_an_earlier_driver_is_told_and_not_run_again(monkeypatch):
    made = drive(alive(HERE), address=None)
    (unit,) = made.schedule._units.values()
    first, *others = unit.jobs
    record = failed(first, unit.inputs, unit.options, KeyError("x"))
    monkeypatch.setattr(spool, "waiting", lambda store, keys: iter([(record, {"a": b"1"})]) if first.key in keys else iter(()))
    (told,) = made._look()
    assert (told.record, told.files) == (record, {"a": b"1"})
    assert made.schedule.keys() == {job.key for job in others}
    assert made.stored == {HERE: [first.key]}  # and is acknowledged


def test_without_a_node_a_cluster_is_waited_for_and_then_named(monkeypatch):
    monkeypatch.setattr(on_ray, "LOOK_S", 0.0)
    made = drive()
    assert list(made._nothing_fits()) == []  # and looked again
    monkeypatch.setattr(on_ray, "NODES_JOIN_S", 0.0)
    with pytest.raises(EnvironmentProblem, match=r"No node can be used\. The cluster has no node with a CPU\."):
        list(made._nothing_fits())
    made.executor.refused["n"] = "Node n is not used: torch is 1.0 there."
    with pytest.raises(EnvironmentProblem, match=r"No node can be used\. Node n is not used: torch is 1\.0 there\."):
        list(made._nothing_fits())


def test_gpus_are_lacking_only_where_jobs_want_one_and_no_node_has_any():
    assert not drive()._lacks_gpus()
    made = drive(device="cuda")
    assert made._lacks_gpus()
    made.placer.join(Node("n", cpus=4, n_gpus=1))
    assert not made._lacks_gpus()


def test_a_node_hands_over_what_it_kept(monkeypatch):
    monkeypatch.setattr(spool, "waiting", lambda store, keys: iter([(store, tuple(keys))]))
    assert _collected("0" * 32, ["a", "b"]) == [("0" * 32, ("a", "b"))]


def test_a_node_that_is_gone_gets_no_further_unit_and_one_that_is_not_alive_or_has_no_core_is_none():
    made = drive(alive(HERE), {**alive(OTHER), "Alive": False}, {**alive("ef" * 28), "Resources": {}}, address=None)
    made.placer.join(Node(OTHER, cpus=4, memory_bytes=2**30))
    list(made._look())
    assert set(made.placer.nodes) == {HERE}
