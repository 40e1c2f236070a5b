"""Two local raylets with declared GPUs: both work, no device is given twice, what a lost node ran starts again elsewhere.

The units do nothing but tell where they ran, in light processes: it is the placing that is checked. The long checks use the same parts.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from benchmark import own_code
from benchmark.errors import DeviceMissing, EnvironmentProblem, LobeError
from benchmark.events import Event, Finished, Noticed, Started
from benchmark.execute import on_ray
from benchmark.execute.connecting import QUIET
from benchmark.execute.costs import Costs
from benchmark.execute.on_ray import RayExecutor
from benchmark.execute.placing import Node, Placer
from benchmark.execute.schedule import Schedule
from benchmark.execute.simulate import simulate
from benchmark.execute.work import WorkUnit
from benchmark.training.record import failed
from tests.execute.test_simulate import suite_units

pytestmark = pytest.mark.long(30)

GIB = 2**30
# A killed node is seen after five refused connections in a row: after 3 s instead of 15. An answer has as long as ever.
HEAD = {"num_gpus": 0, "include_dashboard": False, "_system_config": {"health_check_period_ms": 600}}
NODE = {"num_cpus": 4, "memory": 16 * GIB, "object_store_memory": 2**27}


@dataclass(frozen=True)
class Span:
    """When and where a unit had its device; the device is numbered within its node."""

    start_s: float
    end_s: float
    node: str
    device: str


class Named(Costs):
    """A unit takes as many seconds as its name says."""

    def unit_seconds(self, unit: WorkUnit) -> float:
        return float(unit.name)


class Noting(Schedule):
    """Remembers the order in which units were given out, and when."""

    def next_that_fits(self, fit):
        found = super().next_that_fits(fit)
        if found is not None:
            self.given = [*getattr(self, "given", []), found[0].name]
            self.given_at = [*getattr(self, "given_at", []), time.time()]
        return found


def sleeping(unit: WorkUnit) -> Iterator[Event]:
    """Takes the time of its name and tells its span by a failure's sentence."""
    for job in unit.jobs:
        yield Started(job.key)
        began = time.time()
        time.sleep(float(unit.name))
        told = [began, time.time(), _node(), os.environ.get("CUDA_VISIBLE_DEVICES", "")]
        yield Finished(failed(job, unit.inputs, unit.options, RuntimeError(json.dumps(told))))


def waiting_once(unit: WorkUnit) -> Iterator[Event]:
    """Never ends on the first node that runs it, whose id it leaves in the file `unit.name`."""
    tried = Path(unit.name)
    for job in unit.jobs:
        first = not tried.exists()
        if first:
            tried.write_text(_node())
        yield Started(job.key)
        while first:
            time.sleep(0.1)
        yield Finished(failed(job, unit.inputs, unit.options, RuntimeError(json.dumps([0, 0, _node(), ""]))))


def losing_its_device(unit: WorkUnit) -> Iterator[Event]:
    """Ends as jobs do on a lost GPU, and tells its process."""
    for job in unit.jobs:
        yield Started(job.key)
        yield Finished(
            failed(job, unit.inputs, unit.options, RuntimeError(f"CUDA error: unspecified launch failure in process {os.getpid()}"))
        )


def _node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def spans(events) -> list[Span]:
    return [Span(*json.loads(e.record.failure.sentence.partition(": ")[2])) for e in events if isinstance(e, Finished)]


def whole_device_units(names: list[str], device_type: str = "cuda") -> list[WorkUnit]:
    """One-job units, each for a device of its own, that wait for nothing."""
    made = [replace(unit, jobs=unit.jobs[:1]) for unit in suite_units(2, device_type) if not unit.jobs[0].depends_on]
    return [replace(unit, name=name) for unit, name in zip(made[: len(names)], names, strict=True)]


def require_no_device_twice(found: list[Span]) -> None:
    for place in {(s.node, s.device) for s in found}:
        own = sorted((s.start_s, s.end_s) for s in found if (s.node, s.device) == place)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(own)), place


@pytest.fixture(scope="module")
def cluster():
    os.environ.update(QUIET)
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, **HEAD})
    try:
        made.add_node(**NODE, num_gpus=1)
        made.add_node(**NODE, num_gpus=1)
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def test_both_nodes_work_no_device_is_given_twice_and_the_simulator_foretold_the_order(cluster):
    names = ["0.8", "0.7", "0.6", "0.5", "0.4", "0.3"]
    made = whole_device_units(names)
    schedule = Noting(made, costs=Named())
    found = spans(RayExecutor(address=cluster.address, work=sleeping).run(schedule))
    assert len(found) == len(names)
    assert len({s.node for s in found}) == 2
    require_no_device_twice(found)
    foretold = simulate(made, [Node("a", 4, n_gpus=1), Node("b", 4, n_gpus=1)], Named())
    assert [name for _, name in foretold.starts] == schedule.given == names


def test_nodes_with_another_package_are_not_used_and_that_is_said(cluster, monkeypatch):
    monkeypatch.setattr(own_code, "digest", lambda: "another")  # of the driver; the nodes look for themselves
    events = list(RayExecutor(address=cluster.address, work=sleeping).run(Schedule(whole_device_units(["0.1", "0.1"], "cpu"))))
    said = [e.sentence for e in events if isinstance(e, Noticed)]
    assert len(said) == 2
    assert all("is not used: benchmark package is" in sentence and "another here" in sentence for sentence in said)
    assert {span.node for span in spans(events)} == {cluster.head_node.node_id}


@pytest.mark.slow
def test_a_driver_that_sees_no_gpu_plans_cuda_for_a_cluster_that_declares_some(cluster, corpora: Path, image_cache: Path, tmp_path: Path):
    words = ["run", "--backbone", "torchvision:resnet18", "--task", "rsna-linear-frozen-100", "--data", str(corpora), "--seeds", "1"]
    words += ["--out", str(tmp_path / "out"), "--cache", str(image_cache), "--limit", "8", "--address", cluster.address, "--dry-run"]
    told = subprocess.run(
        [sys.executable, "-c", "from benchmark.cli import main; main()", *words],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    where = f"the cluster at {cluster.address}"
    assert f"Planned for cuda, float16: 2 GPU of 3 nodes on {where}. 1 of its nodes have no GPU" in told.stdout
    assert f"Expected with 2 GPU of {where}:" in told.stdout

    found = RayExecutor(address=cluster.address).equipment("auto")
    placer, (unit,) = Placer(found.nodes), whole_device_units(["1"], found.device_type)
    slots = [placer.place(Costs().needs(unit)) for _ in range(3)]
    assert [slot and len(slot.gpus) for slot in slots] == [1, 1, None]


@pytest.mark.slow
def test_the_clusters_autoscaler_is_asked_for_what_waits_and_for_nothing_in_the_end(cluster, monkeypatch):
    asked = []
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: asked.append(bundles))
    names = ["0.2", "0.1", "0.1"]
    assert len(spans(RayExecutor(address=cluster.address, work=sleeping).run(Schedule(whole_device_units(names), costs=Named())))) == 3
    assert asked[0] == [{"CPU": 1, "GPU": 1}] * 3
    assert asked[-1] == []


def blind(unit: WorkUnit) -> Iterator[Event]:
    """A node whose processes do not see the devices it declares."""
    for job in unit.jobs:
        error = LobeError("The selection run failed.") if job.depends_on else DeviceMissing("The job is planned for a GPU: there is none.")
        yield Finished(failed(job, unit.inputs, unit.options, error))


def test_nodes_whose_processes_see_no_device_are_given_up_and_no_job_of_theirs_is_a_result(cluster, monkeypatch):
    monkeypatch.setattr(on_ray, "NODES_JOIN_S", 0.0)
    events, executor = [], RayExecutor(address=cluster.address, work=blind)
    with pytest.raises(EnvironmentProblem, match=r"no node of the cluster has one\. Node .{8} is not used: The job is planned for a GPU"):
        events.extend(executor.run(Schedule(suite_units(1))))
    assert len(executor.refused) == 2
    assert {type(event) for event in events} == {Noticed}


@pytest.mark.slow
def test_sigterm_ends_a_driver_as_ctrl_c_does(cluster):
    """Without the stacks that Ray's own handler prints."""
    program = (
        "import signal; from benchmark.execute.connecting import Connection; from benchmark import cli, doctor\n"
        "def wait(*_): Connection('ADDRESS').open(); signal.raise_signal(signal.SIGTERM); signal.pause()\n"
        "doctor.examine = wait; cli.main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", program.replace("ADDRESS", cluster.address), "doctor"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    travels, stopped = ended.stderr.splitlines()  # and no line of Ray's
    assert travels.startswith("To the cluster travel ")
    assert stopped == "Stopped. What is stored stays; the same command goes on from there."


@pytest.mark.slow
def test_a_task_without_gpu_sees_none_where_there_are_some(cluster):
    found = spans(RayExecutor(address=cluster.address, work=sleeping).run(Schedule(whole_device_units(["0.1"], "cpu"))))
    assert [s.device for s in found] == [""]


@pytest.mark.slow
def test_a_process_that_had_a_device_takes_no_further_unit(cluster):
    """A lost device stays lost for its process, and a CUDA context stays on the device that it met first."""
    made = whole_device_units(["0"] * 3)  # of the two devices one has two units
    events = list(RayExecutor(address=cluster.address, work=losing_its_device).run(Schedule(made)))
    failures = [event.record.failure for event in events if isinstance(event, Finished)]
    assert [failure.environment for failure in failures] == [True] * 3
    assert len({failure.sentence.rpartition(" ")[2] for failure in failures}) == 3
    assert sum(isinstance(event, Started) for event in events) == 3  # none was lost with its process


def test_what_a_lost_node_ran_starts_again_on_another(cluster, tmp_path: Path):
    tried = tmp_path / "tried"
    nodes = {node.node_id: node for node in cluster.worker_nodes}
    started = 0
    for event in RayExecutor(address=cluster.address, work=waiting_once).run(Schedule(whole_device_units([str(tried)]))):
        if isinstance(event, Started):
            started += 1
            if started == 1:
                cluster.remove_node(nodes[tried.read_text()], allow_graceful=False)
        if isinstance(event, Finished):
            assert event.record.failure.kind == "RuntimeError", event.record.failure.sentence
            (after,) = spans([event])
    assert started == 2
    assert after.node != tried.read_text()
