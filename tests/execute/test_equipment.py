"""What is planned for is what the machines that compute have, not what the driver has; mixed devices are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark import api, plan
from benchmark.api import Request, plan_jobs
from benchmark.errors import EnvironmentProblem, UsageError
from benchmark.execute import equipment
from benchmark.execute.costs import Costs
from benchmark.execute.equipment import equip, stored_otherwise, this_machine
from benchmark.execute.forecast import forecast
from benchmark.execute.nodes import difference
from benchmark.execute.on_ray import RayExecutor
from benchmark.execute.placing import Node
from benchmark.execute.work import run_unit, units
from benchmark.shelf import Shelf
from benchmark.store import Store
from benchmark.training.options import RunOptions
from benchmark.training.record import failed
from tests.execute.test_simulate import suite_units

LINEAR = "rsna-linear-frozen-100"
CPU, GPU = Node("a", cpus=16), Node("b", cpus=64, n_gpus=8, gpu_bytes=80 * 2**30)


@pytest.fixture
def clusters_nodes(monkeypatch):
    """Makes a cluster of these nodes answer at any address."""

    def answer(*found: Node) -> None:
        monkeypatch.setattr("benchmark.execute.connecting.Connection.open", lambda self, backbones=(): None)
        monkeypatch.setattr("benchmark.execute.nodes.alive", lambda ray: list(found))

    return answer


@pytest.fixture
def request_for(corpora: Path, tmp_path: Path, image_cache: Path, monkeypatch):
    monkeypatch.setattr(plan, "smoke_steps", lambda head: 2)
    given = {"backbones": ["torchvision:resnet18"], "tasks": [LINEAR], "data": [str(corpora)], "out": tmp_path / "out"}
    given |= {"cache": image_cache, "runs": 1, "limit": 8, "profile": "smoke", "tracking": False}
    return lambda **changes: Request(**(given | changes))


@pytest.mark.parametrize(
    ("asked", "found", "device_type"),
    [
        ("auto", [CPU], "cpu"),
        ("auto", [CPU, GPU], "cuda"),
        ("cpu", [CPU, GPU], "cpu"),
        ("cuda", [GPU], "cuda"),
        ("cuda", [CPU], "cuda"),  # of a cluster, which may grow
        ("cuda", [], "cuda"),
        ("cpu", [], "cpu"),
    ],
)
def test_a_driver_without_a_gpu_plans_for_what_the_cluster_has(clusters_nodes, request_for, asked, found, device_type):
    assert not torch.cuda.is_available() or device_type == "cuda"
    clusters_nodes(*found)
    planned = plan_jobs(request_for(address="head:6379", device=asked))
    precision = {"cpu": "float32", "cuda": "float16"}[device_type]
    assert {(job.experiment.device_type, job.experiment.precision) for job in planned.jobs} == {(device_type, precision)}
    assert planned.equipment.nodes == tuple(found)
    assert planned.equipment.sentence.startswith(f"Planned for {device_type}, {precision}: ")
    needs = [Costs().needs(unit).n_gpus for unit in planned.todo]
    assert needs == [int(device_type == "cuda")] * len(planned.todo)


def test_a_cluster_without_a_single_node_that_computes_cannot_be_planned_for_unasked(clusters_nodes, request_for):
    clusters_nodes()
    with pytest.raises(EnvironmentProblem, match="Say --device cuda or --device cpu"):
        plan_jobs(request_for(address="head:6379"))


@pytest.mark.parametrize("executor", ["ray", "inline"])
def test_a_gpu_that_this_machine_has_not_is_refused_before_anything_starts(request_for, monkeypatch, executor):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentProblem, match="--device cuda: torch sees no GPU on this machine"):
        plan_jobs(request_for(executor=executor, device="cuda"))


def test_without_an_address_this_processs_torch_is_asked_and_no_ray_is_started(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(equipment, "gpus_here", lambda: (8, 2**34))
    monkeypatch.setattr("benchmark.execute.connecting.Connection.open", lambda *_: pytest.fail("connected"))
    found = RayExecutor().equipment("auto")
    assert (found.device_type, found.nodes[0].n_gpus, found.nodes[0].gpu_bytes) == ("cuda", 2, 2**34)
    assert this_machine("cpu").n_gpus == 0


def test_what_is_said_names_device_precision_machines_and_what_stays_unused():
    said = [equip(asked, nodes, "the cluster at head:6379", True).sentence for asked, nodes in (("auto", [CPU, GPU]), ("cpu", [CPU, GPU]))]
    assert said[0] == (
        "Planned for cuda, float16: 8 GPU of 2 nodes on the cluster at head:6379. "
        "1 of its nodes have no GPU and are given none of these jobs."
    )
    assert said[1] == "Planned for cpu, float32: 80 cores of 2 nodes on the cluster at head:6379. Its 8 GPU stay unused."
    assert equip("cuda", [CPU], "x", True).sentence.endswith("Jobs wait for a node with a GPU to join.")
    assert equip("auto", [CPU], "this machine", False).sentence == "Planned for cpu, float32: 16 cores on this machine."


def test_a_forecast_is_of_the_clusters_nodes():
    made = suite_units(2)
    several = [replace(GPU, id=str(i)) for i in range(10)]
    one, ten = (forecast(made, Costs(), equip("auto", several[:n], "the cluster at head:6379", True)) for n in (1, 10))
    assert one.machine == "8 GPU of the cluster at head:6379"
    assert ten.seconds < one.seconds
    nobody = forecast(made, Costs(), equip("cuda", [CPU], "the cluster at head:6379", True))
    assert nobody.machine == "1 GPU of a node that has yet to join the cluster at head:6379"
    assert nobody.seconds > one.seconds


def stored_as(device_type: str, job, place, store: Store) -> None:
    e = job.experiment.model_copy(update={"device_type": device_type, "precision": equipment.PRECISION[device_type]})
    other = job.model_copy(update={"experiment": e})
    record = failed(other, place, RunOptions(), RuntimeError("x")).model_copy(update={"status": "ok", "failure": None})
    store.put(record)


def test_jobs_stored_as_another_devices_are_not_computed_again_unasked(small, tiny, tmp_path: Path):
    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    place = places[jobs[0].key]
    store, here = Store(tmp_path / "out"), equip("auto", [CPU], "this machine", False)
    assert stored_otherwise(jobs, {}, Shelf(store.out), "auto", here) == []
    stored_as("cuda", jobs[0], place, store)
    with pytest.raises(UsageError, match=r"1 of these jobs are stored in .* as cuda, float16; this plan is cpu, float32 .* --device cpu"):
        stored_otherwise(jobs, {}, Shelf(store.out), "auto", here)
    (said,) = stored_otherwise(jobs, {}, Shelf(store.out), "cpu", here)
    assert "computes them again, with other numbers" in said
    assert stored_otherwise(jobs, {jobs[0].key}, Shelf(store.out), "auto", here) == []  # both are there


def test_a_plan_warns_of_what_it_mixes_when_that_was_asked_for(request_for, monkeypatch, small, tiny):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (job,) = plan_jobs(request_for(executor="inline")).jobs
    _, places = small.plan(LINEAR, [tiny()])
    stored_as("cuda", job, next(iter(places.values())), Store(request_for().out))
    with pytest.raises(UsageError, match="stored in"):
        plan_jobs(request_for(executor="inline"))
    assert "with other numbers" in plan_jobs(request_for(executor="inline", device="cpu")).warnings[0]


def test_a_cuda_job_without_a_device_fails_with_a_sentence_and_never_runs_on_the_cpu(small, tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    cuda = [
        j.model_copy(update={"experiment": j.experiment.model_copy(update={"device_type": "cuda", "precision": "float16"})}) for j in jobs
    ]
    (unit,) = units(cuda, dict.fromkeys((j.key for j in cuda), places[jobs[0].key]))
    events = list(run_unit(replace(unit, gpu_share=0.5)))
    found = [e.record for e in events if hasattr(e, "record")]
    assert {r.failure.kind for r in found} == {"DeviceMissing"}
    assert all(r.failure.sentence.startswith("The job is planned for a GPU and its process has none: ") for r in found)


def test_an_address_and_this_process_exclude_each_other(request_for):
    with pytest.raises(UsageError, match="needs Ray"):
        plan_jobs(request_for(executor="inline", address="head:6379"))
    with pytest.raises(UsageError, match="is no address"):
        api.evaluate(request_for(address="127.0.0.1:notaport"))


def test_a_drivers_torch_without_cuda_is_the_nodes_torch_of_the_same_release():
    node = {"Python": "3.11", "torch": "2.15.0", "benchmark package": "x", "gpu_bytes": "0"}
    assert difference({**node, "torch": "2.15.0+cpu"}, node, "n") is None
    assert difference({**node, "torch": "2.15.0+cpu"}, {**node, "torch": "2.15.0+cu128"}, "n") is None
    assert difference({**node, "torch": "2.14.0+cpu"}, node, "n") is not None
    assert difference(node, {**node, "torch": "2.15.0+cpu"}, "n") is not None
