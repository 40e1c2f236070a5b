"""The long checks of scale: data parallelism over twenty steps, a thousand backbones in simulation, fake GPUs, and a suite under fire."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark import registry
from benchmark.cards import VOLATILE_FIELDS
from benchmark.execute.costs import Costs
from benchmark.execute.on_ray import QUIET, RayExecutor
from benchmark.execute.placing import Node
from benchmark.execute.schedule import Schedule
from benchmark.execute.simulate import simulate
from benchmark.execute.work import Event, Finished, Started, WorkUnit, failed
from benchmark.phantom.corpus import Plan, write_corpus
from tests.execute.test_simulate import suite_units
from tests.test_parallel import compare, together, trained

pytestmark = pytest.mark.slow
GIB = 2**30


@pytest.mark.parametrize("name", ["unet", "yolov3"])
def test_two_processes_equal_one_over_twenty_steps(name: str, tmp_path: Path, record_property):
    losses, parameters = compare(trained(name, 20, torch.float64), together(tmp_path, name, 20, torch.float64))
    record_property("largest difference of losses, of parameters", f"{losses:.1e}, {parameters:.1e}")
    assert losses < 1e-8
    assert parameters < 1e-8
    one, two = trained(name, 1, torch.float32), together(tmp_path, name, 1, torch.float32)
    first = max(float((a - b).abs().max()) for a, b in zip(one["gradients"], two["gradients"], strict=True))
    record_property("float32, first gradients", f"{first:.1e}")
    assert first < 1e-4


def test_a_thousand_backbones_keep_512_devices_busy(record_property):
    made = suite_units(1000)
    nodes = [Node(f"node {i}", cpus=64, memory_bytes=1024 * GIB, n_gpus=8, gpu_bytes=80 * GIB) for i in range(64)]
    started = time.monotonic()
    result = simulate(made, nodes, Costs())
    record_property("units", len(made))
    record_property("simulated in", f"{time.monotonic() - started:.0f} s")
    record_property("utilisation until the tail", f"{result.utilisation():.4f}")
    record_property("makespan over bound", f"{result.makespan_s / result.bound_s:.4f}")
    marks = [result.makespan_s * k / 10 for k in range(11)]
    in_use = [next((n for at, n in reversed(result.curve) if at <= mark), 0.0) for mark in marks]
    record_property("devices in use at each tenth", " ".join(f"{n:.0f}" for n in in_use))
    assert result.utilisation() >= 0.95
    assert result.makespan_s <= 1.10 * result.bound_s


# ------------------------------------------------------------------------------------------------- several local raylets


@pytest.fixture
def cluster():
    os.environ.update(QUIET)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1, num_gpus=1)
    yield made
    import ray

    ray.shutdown()
    made.shutdown()


def sleeping(unit: WorkUnit) -> Iterator[Event]:
    """A unit whose name says how long it takes; tells when it had its device."""
    seconds = float(unit.name)
    for job in unit.jobs:
        yield Started(job.key)
        began = time.time()
        time.sleep(seconds)
        yield Finished(
            failed(job, unit.place, RuntimeError(json.dumps([began, time.time(), os.environ.get("CUDA_VISIBLE_DEVICES"), _node()])))
        )


def _node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def test_fake_devices_are_never_given_twice_and_seldom_idle(cluster, record_property):
    import ray

    seconds = [120, 90, 75, 60, 60, 45, 45, 30, 30, 20, 20, 20]
    made = [replace(unit, name=str(s)) for unit, s in zip(_apart(len(seconds)), seconds, strict=True)]

    class Known(Costs):
        def unit_seconds(self, unit: WorkUnit) -> float:
            return float(unit.name)

    ray.init(address=cluster.address, log_to_driver=False)
    began = time.time()
    events = RayExecutor(address=cluster.address, work=sleeping).run(Schedule(made, costs=Known()))
    spans = [json.loads(e.record.failure.sentence.partition(": ")[2]) for e in events if isinstance(e, Finished)]
    makespan = time.time() - began
    bound = max(max(seconds), sum(seconds) / 2)
    record_property("makespan over bound", f"{makespan / bound:.3f}")
    assert len(spans) == len(seconds)
    for node in {node for *_, node in spans}:
        mine = sorted((start, end) for start, end, _, where in spans if where == node)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(mine))
    assert makespan <= 1.10 * bound


def _apart(n: int) -> list[WorkUnit]:
    """One-job units that need a whole device."""
    found = [replace(unit, jobs=unit.jobs[:1]) for unit in suite_units(2) if not unit.jobs[0].depends_on]
    assert len(found) >= n
    return found[:n]


def nothing(unit: WorkUnit) -> Iterator[Event]:
    for job in unit.jobs:
        yield Finished(failed(job, unit.place, RuntimeError("nothing to do")))


def test_the_driver_costs_ten_milliseconds_a_job_at_most(record_property):
    (first, *_) = suite_units(1, device_type="cpu")
    job = first.jobs[0]
    n = 10_000
    made = [
        replace(first, jobs=(job.model_copy(update={"experiment": job.experiment.model_copy(update={"order_seed": i})}),)) for i in range(n)
    ]
    started = time.process_time()
    done = sum(isinstance(e, Finished) for e in RayExecutor(cpus=2, work=nothing).run(Schedule(made)))
    each_ms = (time.process_time() - started) / n * 1000
    record_property("driver's processor time a job", f"{each_ms:.2f} ms")
    assert done == n
    assert each_ms <= 10


# --------------------------------------------------------------------------------------------------------------- chaos

DRIVER = """
import os, sys
from benchmark import plan
plan.SMOKE_STEPS.update(yolov3=12, unet=8, linear=400)  # long enough to be killed in the middle
from benchmark.cli import main
main()
"""
KILLS = 20


def test_a_suite_under_fire_gives_the_bytes_of_a_quiet_one(cluster, tmp_path: Path, record_property):
    seed = int.from_bytes(os.urandom(4))
    print(f"chaos seed {seed}")
    record_property("seed", seed)
    chance = random.Random(seed)
    for name in ("rsna", "covid-rural"):
        write_corpus(Plan(dataset=name, n_patients=40, seed=5), tmp_path / "data" / registry.dataset(name).folder)
    tasks = ("rsna-linear-frozen-100", "rsna-linear-frozen-10", "rsna-yolov3-frozen-100", "covid-rural-unet-finetune-100")

    def command(out: str, *more: str) -> list[str]:
        words = ["run", "--backbone", "torchvision:resnet18", "--data", str(tmp_path / "data"), "--out", str(tmp_path / out)]
        words += ["--cache", str(tmp_path / "cache"), "--limit", "16", "--profile", "smoke", "--seeds", "5", "--json", "--no-tracking"]
        return [sys.executable, "-c", DRIVER, *words, *(w for task in tasks for w in ("--task", task)), *more]

    environment = {**os.environ, "LOBE_SPOOL": str(tmp_path / "spool"), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    quiet = subprocess.run(command("quiet", "--executor", "inline"), env=environment, capture_output=True, check=False)
    assert quiet.returncode == 0, quiet.stderr[-2000:]

    fire = command("fire", "--address", cluster.address, "--retries", "100", "--checkpoints", str(tmp_path / "checkpoints"))
    kills, drivers, node_lost = 0, 0, False
    driver = subprocess.Popen(fire, env=environment, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 3600
    while time.monotonic() < until:
        time.sleep(chance.uniform(0.5, 4.0))
        if driver.poll() is not None:
            break
        workers = _workers()
        if workers and kills < KILLS:
            os.kill(chance.choice(workers), signal.SIGKILL)
            kills += 1
        if kills in (7, 14) and drivers < kills // 7:
            driver.kill()
            driver.wait()
            drivers += 1
            driver = subprocess.Popen(fire, env=environment, stdout=subprocess.DEVNULL)
        if kills >= 10 and not node_lost:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            cluster.add_node(num_cpus=1)
            node_lost = True
    assert driver.wait(60) == 0
    record_property("kills of workers, drivers, nodes", f"{kills}, {drivers}, {int(node_lost)}")
    assert (kills, drivers, node_lost) == (KILLS, 2, True)
    assert _content(tmp_path / "fire") == _content(tmp_path / "quiet")


def _workers() -> list[int]:
    """Processes that run a unit, children of this test's raylets."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            ancestors = _ancestors(int(folder.name))
        except (OSError, ValueError):
            continue
        if words.startswith(b"ray::_remote_unit") and os.getpid() in ancestors:
            found.append(int(folder.name))
    return sorted(found)


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1:
        pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        found.add(pid)
    return found


def _content(out: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted((out / "records").glob("*.json")):
        found[path.name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in VOLATILE_FIELDS}
    assert found
    return found | {str(p.relative_to(out)): p.read_bytes() for p in sorted((out / "predictions").rglob("*")) if p.is_file()}


# -------------------------------------------------------------------------------------------------------------- detached


@pytest.fixture
def job_server():
    """A local Ray with its job server; address for `--detach`."""
    os.environ.update(QUIET)
    import ray

    context = ray.init(num_cpus=2, include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=0, log_to_driver=False)
    yield f"http://{context.dashboard_url}"
    ray.shutdown()


def test_an_evaluation_handed_over_runs_without_us(job_server: str, tiny, corpora: Path, lobe, tmp_path: Path):
    run = ["run", "--backbone", f"{tiny()}:build", "--task", "rsna-linear-frozen-100", "--data", corpora, "--out", tmp_path / "out"]
    run += ["--cache", tmp_path / "cache", "--limit", 8, "--profile", "smoke", "--seeds", 1, "--no-tracking"]
    code, printed, _ = lobe(*run, "--address", job_server, "--detach", "--json")
    assert code == 0
    submission = json.loads(printed)["id"]
    until = time.monotonic() + 600
    while (state := _state(lobe, job_server)) in ("PENDING", "RUNNING") and time.monotonic() < until:
        time.sleep(2.0)
    said = lobe("logs", submission, "--address", job_server)[1]
    assert state == "SUCCEEDED", said[-2000:]
    (record,) = (tmp_path / "out" / "records").glob("*.json")
    assert json.loads(record.read_text())["status"] == "ok"
    assert lobe("cancel", submission, "--address", job_server)[1].strip() == "It had ended already."
    assert lobe("cancel", "no-such", "--address", job_server)[0] == 2


def _state(lobe, address: str) -> str:
    (row,) = json.loads(lobe("status", "--address", address, "--json")[1])
    return row["state"]
