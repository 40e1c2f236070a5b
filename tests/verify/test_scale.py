"""The long checks of scale: data parallelism over twenty steps, a thousand backbones in simulation, fake GPUs, and a suite under fire.

What each of them measured is written to docs/verification.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from benchmark import registry
from benchmark.cards import VOLATILE_FIELDS
from benchmark.events import Event, Finished
from benchmark.execute.connecting import QUIET, session_folder
from benchmark.execute.costs import Costs
from benchmark.execute.on_ray import RayExecutor
from benchmark.execute.placing import Node
from benchmark.execute.schedule import Schedule
from benchmark.execute.simulate import Simulation, simulate
from benchmark.execute.work import WorkUnit
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.store import Store
from benchmark.tracking.runs import EXPERIMENT
from benchmark.training.record import failed
from tests.execute.test_simulate import suite_units
from tests.execute.test_two_nodes import NODE, Named, Noting, require_no_device_twice, sleeping, spans, whole_device_units
from tests.planted import told_in, write_whole_and_damaged
from tests.test_parallel import compare, together, trained
from tests.test_tracking_server import free_port, server

pytestmark = pytest.mark.slow
GIB = 2**30
CURVE = Path(__file__).resolve().parents[2] / "docs" / "scheduling.png"


@pytest.mark.parametrize("name", ["unet", "yolov3"])
def test_two_processes_equal_one_over_twenty_steps(name: str, tmp_path: Path, record_property):
    losses, parameters = compare(trained(name, 20, torch.float64), together(tmp_path, name, 20, torch.float64))
    one, two = trained(name, 1, torch.float32), together(tmp_path, name, 1, torch.float32)
    first = largest_difference(one["gradients"], two["gradients"])
    # oneDNN takes another convolution for a process's half of a batch, on some processors one that rounds a hundred times more coarsely:
    # what one process loses to float32 at either size, two may differ by.
    rounding = max(
        largest_difference(*(trained(name, 1, dtype, batch=batch)["gradients"] for dtype in (torch.float32, torch.float64)))
        for batch in (4, 8)
    )
    record_property("largest difference of losses, of parameters", f"{losses:.1e}, {parameters:.1e}")
    record_property("float32, first gradients: between two and one, between one and float64", f"{first:.1e}, {rounding:.1e}")
    record_property("processor", torch.backends.cpu.get_cpu_capability())
    assert losses < 1e-8
    assert parameters < 1e-8
    assert first < 1e-4 + rounding


def largest_difference(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(some, others, strict=True))


def test_a_thousand_backbones_keep_512_devices_busy(record_property):
    made = suite_units(1000)
    nodes = [Node(f"node {i}", cpus=64, memory_bytes=1024 * GIB, n_gpus=8, gpu_bytes=80 * GIB) for i in range(64)]
    started = time.monotonic()
    result = simulate(made, nodes, Costs())
    took, over = time.monotonic() - started, result.makespan_s / result.bound_s
    record_property("units", len(made))
    record_property("seconds to simulate them", f"{took:.0f}")
    record_property("utilisation until the tail", f"{result.utilisation():.4f}")
    record_property("makespan over what no schedule can beat", f"{over:.4f}")
    draw_use(result, CURVE)
    assert result.utilisation() >= 0.95
    assert result.makespan_s <= 1.10 * result.bound_s


def draw_use(result: Simulation, file: Path) -> None:
    """The whole course, and its last hundredth, where devices fall idle for want of work."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "lobe"  # the same picture for the same numbers
    figure = Figure(figsize=(9, 3), layout="constrained")
    hours = [at / 3600 for at, _ in result.curve]
    for axes, start in zip(figure.subplots(1, 2, sharey=True), (0.0, 0.99), strict=True):
        axes.step(hours, [n for _, n in result.curve], where="post", linewidth=1.2)
        axes.axvline(result.tail_s / 3600, linestyle=":", color="black", label="the last unit has started")
        axes.set(
            xlim=(start * hours[-1], hours[-1] * (1 + 0.02 * (1 - start))), ylim=(0, result.devices * 1.05), xlabel="hours (simulated)"
        )
    figure.axes[0].set_ylabel(f"GPUs in use, of {result.devices}")
    figure.axes[1].legend(loc="lower left")
    figure.savefig(file, dpi=110)


# ------------------------------------------------------------------------------------------------- several local raylets


@contextlib.contextmanager
def raylets(n_more: int, **each: int) -> Iterator:
    """A head and so many more raylets of this machine, killed at the end."""
    os.environ.update(QUIET)
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, **each, "include_dashboard": False})
    try:
        for _ in range(n_more):
            made.add_node(**{**NODE, **each})
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.alone
def test_fake_devices_are_never_given_twice_and_the_simulator_foretells_the_real_run(record_property):
    import ray

    seconds = [120, 100, 90, 70, 50, 30, 20]  # 480 s on 4 devices, which the longest first fills without a gap
    made = whole_device_units([str(s) for s in seconds])
    with raylets(1, num_gpus=2) as cluster:
        ray.init(address=cluster.address, log_to_driver=False)
        executor = RayExecutor(address=cluster.address, work=sleeping)
        assert len(spans(executor.run(Schedule(whole_device_units(["0.1"] * 4))))) == 4  # from here on nodes answer at once
        schedule = Noting(made, costs=Named())
        began = time.time()
        found = spans(executor.run(schedule))
        makespan = time.time() - began
    # Every unit has a process of its own. How long its start takes is the machine's affair; when it is given out, the driver's.
    start_s = statistics.mean(s.start_s for s in found) - statistics.mean(schedule.given_at)
    foretold = simulate(made, [Node(name, 4, 16 * GIB, 2) for name in "ab"], Named(), overhead_s=start_s)
    over, off = makespan / foretold.bound_s, makespan / foretold.makespan_s
    record_property("start of a process, makespan in seconds", f"{start_s:.1f}, {makespan:.1f}")
    record_property("over what no schedule can beat", f"{over:.3f}")
    record_property("over what the simulator foretold", f"{off:.3f}")
    assert len(found) == len(seconds)
    assert len({(s.node, s.device) for s in found}) == 4
    require_no_device_twice(found)
    assert [name for _, name in foretold.starts] == schedule.given
    assert makespan <= 1.10 * foretold.bound_s
    assert 0.95 <= off <= 1.10  # a start is not always as long


def nothing(unit: WorkUnit) -> Iterator[Event]:
    for job in unit.jobs:
        yield Finished(failed(job, unit.inputs, unit.options, RuntimeError("nothing to do")))


@pytest.mark.alone
def test_the_driver_costs_eight_times_at_most_what_ray_itself_takes_for_an_empty_task(record_property):
    """Milliseconds are the machine's. What Ray takes to give out a task that does nothing, and to hear of it, is the measure."""
    import ray

    (first, *_) = suite_units(1, device_type="cpu")
    job = first.jobs[0]
    n = 2_500
    seeded = (job.model_copy(update={"experiment": job.experiment.model_copy(update={"order_seed": i})}) for i in range(n))
    made = [WorkUnit(first.name, (each,), first.inputs) for each in seeded]
    with raylets(0) as cluster:
        ray.init(address=cluster.address, log_to_driver=False)
        empty = ray.remote(num_cpus=1, num_returns="streaming")(say_something)
        said_by([empty.remote() for _ in range(100)])  # from here on the processes have started
        started = time.process_time()
        assert said_by([empty.remote() for _ in range(n)]) == n
        ray_ms = (time.process_time() - started) / n * 1000
        started = time.process_time()
        done = sum(isinstance(e, Finished) for e in RayExecutor(address=cluster.address, work=nothing).run(Schedule(made)))
        each_ms = (time.process_time() - started) / n * 1000
    record_property("driver's processor time a job in ms, Ray's own", f"{each_ms:.2f}, {ray_ms:.2f}")
    assert done == n
    assert each_ms <= 8 * ray_ms


def say_something() -> Iterator[int]:
    yield 1


def said_by(streams: list) -> int:
    """How many things the tasks said."""
    import ray

    return sum(len(ray.get(list(stream))) for stream in streams)


# --------------------------------------------------------------------------------------------------------------- chaos

# `lobe run`, with budgets of some seconds a job, checkpoints after every epoch, and a note of every start: key, process, node.
DRIVER = """
import functools, os
from dataclasses import replace
from benchmark import plan
plan.smoke_steps = {"yolov3": 8, "unet": 6, "linear": 200}.__getitem__
from benchmark.execute import on_ray
from benchmark.events import Started
from benchmark.execute.work import run_unit

STARTS = os.environ["LOBE_TEST_STARTS"]

def noted(unit):
    import ray

    for event in run_unit(replace(unit, options=replace(unit.options, checkpoint_every_s=0.0))):
        if isinstance(event, Started):
            with open(STARTS, "a") as file:
                file.write(f"{event.key} {os.getpid()} {ray.get_runtime_context().get_node_id()}\\n")
        yield event

on_ray.RayExecutor = functools.partial(on_ray.RayExecutor, work=noted)
from benchmark.cli import main
main()
"""
KILLS = 20
DRIVER_DIES_AT, NODE_DIES_AT, SERVER_DIES_AT, SERVER_IS_BACK_AT = (7, 14), 10, 4, 12  # kills of workers so far
LONGEST_S = 1800  # a busy machine is no failure
TASKS = ("rsna-linear-frozen-100", "rsna-linear-frozen-10", "rsna-yolov3-frozen-100", "covid-rural-unet-finetune-100")


@dataclass
class Toll:
    """What has been killed; `processes` are those that ran units and died, themselves or with driver or node."""

    workers: int = 0
    drivers: int = 0
    nodes: int = 0
    servers: int = 0
    processes: set[int] = field(default_factory=set)


@pytest.mark.alone
def test_a_suite_under_fire_gives_the_bytes_of_a_quiet_one(tmp_path: Path, monkeypatch, record_property):
    seed = int(os.environ.get("LOBE_CHAOS_SEED") or int.from_bytes(os.urandom(4)))
    record_property("LOBE_CHAOS_SEED", seed)
    for name in ("rsna", "covid-rural"):
        write_corpus(CorpusPlan(dataset=name, n_patients=24, seed=5), tmp_path / "data" / registry.dataset(name).folder)
    monkeypatch.setenv("LOBE_SPOOL", str(tmp_path / "spool"))  # the raylets' workers inherit it
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # nobody kills but us
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    environment = {**os.environ, "LOBE_TEST_STARTS": str(tmp_path / "starts")}

    def command(out: str, *more: str) -> list[str]:
        words = ["run", "--backbone", "torchvision:resnet18", "--data", str(tmp_path / "data"), "--out", str(tmp_path / out)]
        words += ["--cache", str(tmp_path / "cache"), "--limit", "8", "--profile", "smoke", "--seeds", "4", "--json"]
        return [sys.executable, "-c", DRIVER, *words, *(w for task in TASKS for w in ("--task", task)), *more]

    began = time.monotonic()
    quiet = subprocess.run(command("quiet", "--executor", "inline", "--no-tracking"), env=environment, capture_output=True, check=False)
    assert quiet.returncode == 0, quiet.stderr[-2000:]
    record_property("seconds undisturbed, in one process", f"{time.monotonic() - began:.0f}")

    port, began = free_port(), time.monotonic()
    (tmp_path / "server").mkdir()
    environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    mlflow = (f"sqlite:///{tmp_path / 'server.db'}", tmp_path / "server" / "artifacts", port)
    with raylets(1, num_cpus=1) as cluster, (tmp_path / "fire.log").open("wb") as log:
        fire = command("fire", "--address", cluster.address, "--retries", "100", "--checkpoints", str(tmp_path / "checkpoints"))
        toll = _under_fire(fire, environment, log, cluster, mlflow, random.Random(seed), tmp_path / "fire")
    took = time.monotonic() - began
    record_property("killed", f"{toll.workers} workers, {toll.drivers} drivers, {toll.nodes} node, {toll.servers} server")
    record_property("seconds under fire", f"{took:.0f}")
    assert (toll.drivers, toll.nodes, toll.servers) == (2, 1, 1)
    assert toll.workers >= KILLS
    assert _content(tmp_path / "fire") == _content(tmp_path / "quiet")
    record_property("work", _require_explained(tmp_path / "starts", toll, Store(tmp_path / "fire")))


def _under_fire(fire: list[str], environment: dict, log, cluster, mlflow: tuple, chance: random.Random, out: Path) -> Toll:
    """Runs the command to its end, through every failure; then everything must be on the server."""
    toll = Toll()

    def start() -> subprocess.Popen:
        return subprocess.Popen(fire, env=environment, stdout=log, stderr=log)

    with contextlib.ExitStack() as tracking:
        tracking.enter_context(server(*mlflow))
        driver, until, away = start(), time.monotonic() + LONGEST_S, False
        while driver.poll() is None and time.monotonic() < until:
            time.sleep(chance.uniform(0.5, 4.0))  # a process lives about as long as it takes to start: hardly a job ends meanwhile
            workers = _workers(os.getpid())
            if workers and toll.workers < KILLS:
                victim = chance.choice(workers)
                with contextlib.suppress(ProcessLookupError):  # it had just ended
                    os.kill(victim, signal.SIGKILL)
                    toll.workers += 1
                    toll.processes.add(victim)
            if toll.drivers < len(DRIVER_DIES_AT) and toll.workers >= DRIVER_DIES_AT[toll.drivers]:
                toll.processes.update(_workers(os.getpid()))
                driver.kill()
                driver.wait()
                toll.processes.update(_workers(os.getpid()))  # whose driver is gone, and who will be ended for it
                toll.drivers += 1
                driver = start()
            if toll.workers >= NODE_DIES_AT and not toll.nodes:
                (node,) = cluster.worker_nodes
                (raylet,) = node.all_processes["raylet"]
                toll.processes.update(_workers(raylet.process.pid))
                cluster.remove_node(node, allow_graceful=False)
                toll.nodes += 1
                cluster.add_node(**{**NODE, "num_cpus": 1})
            if toll.workers >= SERVER_DIES_AT and not toll.servers:
                tracking.close()
                toll.servers, away = 1, True
            if toll.workers >= SERVER_IS_BACK_AT and away:
                tracking.enter_context(server(*mlflow))
                away = False
        ended = driver.poll()
        driver.kill()
        log.flush()
        assert ended == 0, Path(log.name).read_text()[-3000:]
        assert not away
        _require_tracked(f"http://127.0.0.1:{mlflow[2]}", Store(out), toll)
    return toll


def _workers(ancestor: int) -> list[int]:
    """Processes that run a unit now, below a process of ours."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            if words.startswith(b"ray::run_here") and ancestor in _ancestors(int(folder.name)):
                found.append(int(folder.name))
        except (OSError, ValueError):  # it has ended
            continue
    return sorted(found)


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1:
        pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        found.add(pid)
    return found


def _require_explained(starts: Path, toll: Toll, store: Store) -> str:
    """Every start of a job but one was by a process that died. Says in words how often that was."""
    attempts: dict[str, list[int]] = defaultdict(list)
    nodes = set()
    for line in starts.read_text().splitlines():
        key, process, node = line.split()
        attempts[key].append(int(process))
        nodes.add(node)
    n_starts, again = sum(map(len, attempts.values())), sum(len(a) - 1 for a in attempts.values())
    assert attempts.keys() == {record.key for record in store.all()}
    unexplained = {key: pids for key, pids in attempts.items() if sum(pid not in toll.processes for pid in pids) > 1}
    assert not unexplained
    assert again > 0
    assert len(nodes) >= 2
    return f"{len(attempts)} jobs, {n_starts} starts, {again} of them again, on {len(nodes)} nodes"


def _require_tracked(uri: str, store: Store, toll: Toll) -> None:
    """The server has every job once as finished, with its metric, though it and its writers died."""
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id], max_results=1000)
    assert "RUNNING" not in {run.info.status for run in runs}
    evaluations = [run.info.status for run in runs if run.data.tags["lobe.kind"] == "evaluation"]
    assert sorted(evaluations) == ["FINISHED"] + ["KILLED"] * toll.drivers
    finished = [run for run in runs if run.data.tags["lobe.kind"] == "run" and run.info.status == "FINISHED"]
    records = {record.key: record for record in store.all()}
    assert sorted(run.data.tags["lobe.key"] for run in finished) == sorted(records)
    for run in finished:
        record = records[run.data.tags["lobe.key"]]
        name = record.job.experiment.report
        assert run.data.metrics[f"test_{name.replace('@', '_at_')}"] == record.metrics[name]
    assert not list((store.out / "tracking").glob("*.json"))


def _content(out: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted((out / "records").glob("*.json")):
        found[path.name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in VOLATILE_FIELDS}
    assert found
    return found | {str(p.relative_to(out)): p.read_bytes() for p in sorted((out / "predictions").rglob("*")) if p.is_file()}


# -------------------------------------------------------------------------------------------------------------- detached


@pytest.fixture
def job_server(monkeypatch):
    """A local Ray with its job server; address for `--detach`."""
    os.environ.update(QUIET)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # a cluster's `python` is Ray's
    import ray

    context = ray.init(num_cpus=2, include_dashboard=True, dashboard_host="127.0.0.1", log_to_driver=False)
    yield f"http://{context.dashboard_url}"
    ray.shutdown()


@pytest.mark.alone
def test_an_evaluation_handed_over_runs_without_us(job_server: str, tiny, corpora: Path, lobe, tmp_path: Path):
    run = ["run", "--backbone", f"{tiny()}:build", "--task", "rsna-linear-frozen-100", "--data", corpora, "--out", tmp_path / "out"]
    run += ["--cache", tmp_path / "cache", "--limit", 8, "--profile", "smoke", "--seeds", 1, "--no-tracking"]
    submission = _handed_over(lobe, job_server, *run)
    state, _ = _ended(lobe, job_server)
    said = lobe("logs", submission, "--address", job_server)[1]
    assert state == "SUCCEEDED", said[-2000:]
    (record,) = (tmp_path / "out" / "records").glob("*.json")
    assert json.loads(record.read_text())["status"] == "ok"
    assert lobe("cancel", submission, "--address", job_server)[1].strip() == "It had ended already."
    assert lobe("cancel", "no-such", "--address", job_server)[0] == 2


@pytest.mark.alone  # the job agents of two Rays on one machine ask for the same port
def test_no_planted_word_reaches_the_log_of_an_evaluation_handed_over(job_server: str, tiny, lobe, tmp_path: Path):
    """Of data that may not be passed on, whole and damaged; neither Ray's own logs, nor what it says of a failed job."""
    tasks, words = write_whole_and_damaged(tmp_path / "data")
    run = ["run", "--backbone", f"{tiny()}:build", *(word for task in tasks for word in ("--task", task)), "--protocol", "corrected"]
    run += ["--data", tmp_path / "data", "--out", tmp_path / "out", "--cache", tmp_path / "cache", "--limit", 8, "--profile", "smoke"]
    submission = _handed_over(lobe, job_server, *run, "--seeds", 1, "--no-tracking")
    state, listed = _ended(lobe, job_server)
    said = lobe("logs", submission, "--address", job_server)[1]
    assert state == "FAILED", said[-2000:]
    records = [json.loads(path.read_text()) for path in (tmp_path / "out" / "records").glob("*.json")]
    assert sorted(record["status"] for record in records) == ["failed", "ok"], said[-2000:]
    assert "Pneumothorax_reports.csv line" in said  # where whoever holds the data finds the image
    assert [word for word in words if word in (said + listed).encode()] == []
    assert told_in(session_folder() / "logs", words) == []


def _handed_over(lobe, address: str, *run: object) -> str:
    """The id of an evaluation that the cluster took."""
    code, printed, stderr = lobe(*run, "--address", address, "--detach", "--json")
    assert code == 0, stderr
    return json.loads(printed)["id"]


def _ended(lobe, address: str) -> tuple[str, str]:
    """The state in which the only evaluation ended, and all that is listed of it."""
    until = time.monotonic() + 600
    while True:
        listed = lobe("status", "--address", address, "--json")[1]
        (row,) = json.loads(listed)
        if row["state"] not in ("PENDING", "RUNNING") or time.monotonic() > until:
            return row["state"], listed
        time.sleep(2.0)
