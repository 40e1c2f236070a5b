"""A pretraining by several processes, but for Ray: what the leader tells arrives, and what is lost is said. With Ray: test_on_ray.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import EnvironmentProblem
from benchmark.execute import connected, pretrain
from benchmark.pretraining.run import Telling
from tests.pretraining.small import corpus, recipe


def in_this_process(name, work, given, places):
    told: list = []
    work(given, told.append)
    yield from told


def test_images_steps_and_validations_of_the_leader_arrive_and_its_backbone_at_the_end(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(connected, "run", in_this_process)
    call = pretrain.Call(recipe("convirt", steps=2), corpus(tmp_path / "data" / "mimic-cxr"), tmp_path / "out", seed=3)
    heard: dict[str, list] = {"decoded": [], "step": [], "validated": []}
    telling = Telling(
        lambda done, of: heard["decoded"].append((done, of)),
        lambda step, n: heard["step"].append((step.number, n)),
        lambda step, share: heard["validated"].append((step.number, share)),
    )
    made = pretrain.together(call, 2, telling)
    assert made.card == tmp_path / "out" / "convirt-phantom-3" / "backbone.yaml"
    assert len({of for _, of in heard["decoded"]}) == 1
    assert heard["decoded"] == sorted(set(heard["decoded"]))
    assert heard["step"] == [(0, 2), (1, 2)]
    assert heard["validated"][-1] == (1, made.percentile)


class Ray:
    """One that is connected, with so much in its cluster."""

    def __init__(self, **resources: float):
        self.resources = resources

    def cluster_resources(self) -> dict[str, float]:
        return self.resources


@pytest.fixture(autouse=True)
def ray(monkeypatch):
    monkeypatch.setattr(connected, "ray_of_this_process", lambda: Ray(CPU=16.0, GPU=4.0))


def test_each_process_asks_for_its_threads_and_a_gpu_where_it_trains_on_one(monkeypatch):
    asked: list[connected.Places] = []

    def noted(name, work, given, places):
        asked.append(places)
        return iter([("made", ("it",))])

    monkeypatch.setattr(connected, "run", noted)
    for device in ("cpu", "cuda"):
        assert pretrain.together(pretrain.Call(recipe("lovt"), Path("data"), Path("out"), 0, 3, device), 4, Telling()) == "it"
    assert asked == [connected.Places(4, 3.0, False), connected.Places(4, 3.0, True)]


def test_more_processes_than_cores_share_them_and_more_than_gpus_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(connected, "ray_of_this_process", lambda: Ray(CPU=2.0))
    assert connected.room_for(4, 1, cuda=False) == connected.Places(4, 0.5, False)
    with pytest.raises(EnvironmentProblem, match="2 processes with a GPU each, and this Ray has 0"):
        connected.room_for(2, 1, cuda=True)


@pytest.mark.parametrize(
    ("told", "match"),
    [(connected.ProcessLost("WorkerCrashedError"), "was lost .WorkerCrashedError.. The same command goes on"), (None, "without a word")],
)
def test_a_lost_process_is_said_with_what_to_do(told, match, monkeypatch):
    def ends(*_):
        if told:
            raise told
        return
        yield

    monkeypatch.setattr(connected, "run", ends)
    with pytest.raises(EnvironmentProblem, match=match):
        pretrain.together(pretrain.Call(recipe("lovt"), Path("data"), Path("out")), 2, Telling())
