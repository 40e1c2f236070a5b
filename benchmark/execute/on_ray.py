"""Runs units on a Ray cluster, or on a local one it starts. Every unit is a streaming task, so events arrive as they happen.

The schedule and the placer decide what starts where; Ray starts it there, isolates it and says when it is lost. What a unit computes is
`work.run_unit`, the same function the inline executor calls.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark.errors import EnvironmentProblem, LobeError
from benchmark.execute import nodes, spool
from benchmark.execute.placing import Node, Placer, Slot
from benchmark.execute.schedule import MOST_GROWTH, Schedule
from benchmark.execute.ship import found_here, stage
from benchmark.execute.work import Event, Finished, Noticed, WorkUnit, failed, near, run_unit, with_share_of_memory

Work = Callable[[WorkUnit], Iterator[Event]]
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0"}
RETRIES = 2  # of a unit whose process was lost; its finished jobs are not repeated
LOOK_S = 2.0  # between two looks at which nodes there are
FORGET_S = 2.0  # between two acknowledgements to a node
NODE_ANSWERS_S = 120.0
NODES_JOIN_S = 120.0  # how long an evaluation without a node that fits waits for one


class WorkerLost(EnvironmentProblem):
    """The process that ran a job died: killed, out of memory, or its node went away."""


@dataclass
class _Running:
    unit: WorkUnit
    slot: Slot
    losses: int = 0
    done: set[str] = field(default_factory=set)


class RayExecutor:
    """
    Args:
        address: cluster address; None starts Ray on this machine and stops it afterwards.
        cpus: cores of the local Ray; None takes what the machine has.
        retries: of a unit whose process was lost.
        work: what runs a unit in its process.

    Attributes:
        refused: a sentence for every node that is not used.
    """

    name = "ray"

    def __init__(self, address: str | None = None, cpus: int | None = None, retries: int = RETRIES, work: Work = run_unit):
        self.address, self.cpus, self.retries, self.work = address, cpus, retries, work
        self.refused: dict[str, str] = {}

    def run(self, schedule: Schedule) -> Iterator[Event]:
        """Events as they happen. Asking for the next one says that the last is stored: only then is it forgotten on its node."""
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:
            raise EnvironmentProblem(f"Ray cannot be imported ({error}). Use --executor inline, or `lobe doctor` for the cure.") from None
        own = not ray.is_initialized()
        if own:
            self._connect(ray, schedule)
        drive = _Drive(ray, schedule, self)
        try:
            yield from drive.events()
        finally:
            drive.acknowledge(at_once=True)
            if own:
                ray.shutdown()

    def _connect(self, ray, schedule: Schedule) -> None:
        common = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address is None:
            ray.init(address="local", num_cpus=self.cpus, include_dashboard=False, **common)  # its own, whatever else runs here
            return
        if os.environ.get("RAY_JOB_ID") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):  # handed over with --detach: all is there
            ray.init(address=self.address, **common)
            return
        with tempfile.TemporaryDirectory(prefix="lobe-ship-") as staging:
            stage(Path(staging), schedule.backbone_files())
            try:
                ray.init(address=self.address, runtime_env={"working_dir": staging}, **common)
            except ray.exceptions.AuthenticationError:
                raise nodes.wants_token(self.address) from None
            except (ConnectionError, RuntimeError) as error:
                raise EnvironmentProblem(f"No Ray cluster answers at {self.address}: {str(error).splitlines()[0][:200]}") from None


class _Drive:
    """One evaluation on a connected Ray."""

    def __init__(self, ray, schedule: Schedule, executor: RayExecutor):
        self.ray, self.schedule, self.executor = ray, schedule, executor
        self.placer = Placer()
        self.here = ray.get_runtime_context().get_node_id()
        self.running: dict = {}
        self.lost: list[tuple[WorkUnit, int]] = []  # to start again, with how often they were lost
        self.stored: dict[str, list[str]] = {}  # by node, not acknowledged yet
        self._looked = self._acknowledged = -1e9
        self._with_gpus = False
        self._idle_since: float | None = None
        self._start = ray.remote(max_retries=0, num_returns="streaming")(_remote_unit)

    def events(self) -> Iterator[Event]:
        while True:
            yield from self._look()
            self._fill()
            if not self.running:
                if not len(self.schedule) and not self.lost:
                    return
                yield from self._nothing_fits()
                continue
            self._idle_since = None
            ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=1.0)
            for stream in ready:
                yield from self._take(stream)
            self.acknowledge()

    def _look(self) -> Iterator[Event]:
        """Nodes that joined or left. A new one shows that it may be used and hands over what it kept for an earlier driver."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        seen = {node.id: node for node in nodes.alive(self.ray)}
        for gone in self.placer.nodes.keys() - seen.keys():
            self.placer.leave(gone)
        for name in seen.keys() - self.placer.nodes.keys() - self.executor.refused.keys():
            yield from self._welcome(seen[name])

    def _welcome(self, node: Node) -> Iterator[Event]:
        if node.id == self.here:
            kept = spool.waiting(self.schedule.store_id, self.schedule.keys())
            gpu_bytes = int(nodes.identity()["gpu_bytes"]) if node.n_gpus else 0
        else:
            try:
                theirs = self._ask(node.id, nodes.identity)
                wrong = nodes.difference(nodes.identity(), theirs, node.id[:8])
                kept = [] if wrong else self._ask(node.id, _collected, self.schedule.store_id, sorted(self.schedule.keys()))
            except self.ray.exceptions.RayError as error:
                wrong, kept = f"Node {node.id[:8]} is not used: it did not answer ({type(error).__name__}).", []
            if wrong:
                self.executor.refused[node.id] = wrong
                yield Noticed(wrong)
                return
            gpu_bytes = int(theirs["gpu_bytes"]) if node.n_gpus else 0
        self._with_gpus = self._with_gpus or node.n_gpus > 0
        self.placer.join(replace(node, gpu_bytes=node.gpu_bytes or gpu_bytes))
        for record, files in kept:
            self.schedule.drop(record.key)
            yield from self._told(Finished(record, files), node.id)

    def _ask(self, node: str, function, *arguments):
        return self.ray.get(nodes.on(self.ray, node, function).remote(*arguments), timeout=NODE_ANSWERS_S)

    def _fill(self) -> None:
        waiting, self.lost = self.lost, []
        for unit, losses in waiting:
            slot = self._room(unit)
            if slot is None:
                self.lost.append((unit, losses))
            else:
                self._submit(_Running(self.schedule.refreshed(unit), slot, losses))
        while (found := self.schedule.next_that_fits(self._room)) is not None:
            self._submit(_Running(*found))

    def _room(self, unit: WorkUnit) -> Slot | None:
        return self.placer.place(self.schedule.costs.needs(unit), near=near(unit))

    def _submit(self, run: _Running) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        several = run.unit.workers > 1  # Ray Train starts those and gives them the slot's cores and devices
        options = {
            "num_cpus": 0 if several else run.slot.cpus,
            "num_gpus": 0 if several else run.slot.share * len(run.slot.gpus),
            # Soft: a node that left takes the unit with it to another one instead of failing it.
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=run.slot.node, soft=True),
        }
        if several:
            options["runtime_env"] = {"env_vars": {"LOBE_SEVERAL": "1"}}  # a process of its own: it hides all GPUs from itself
        elif self._with_gpus and not run.slot.gpus:
            options["runtime_env"] = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
        unit = replace(run.unit, gpu_share=0.0 if several else run.slot.share)
        self.running[self._start.options(**options).remote(self.executor.work, unit, self.schedule.n_units)] = run

    def _take(self, stream) -> Iterator[Event]:
        run = self.running[stream]
        try:
            event: Event = self.ray.get(next(stream))
        except StopIteration:
            self._end(stream)
            return
        except self.ray.exceptions.RayError as error:
            self._end(stream)
            yield from self._lost(run, error)
            return
        if isinstance(event, Finished):
            run.done.add(event.record.key)
            if self.schedule.again(run.unit, event, run.slot.share if run.slot.gpus else 1.0):
                return
        yield from self._told(event, run.slot.node)

    def _end(self, stream) -> None:
        self.placer.release(self.running.pop(stream).slot)

    def _lost(self, run: _Running, error: Exception) -> Iterator[Event]:
        left = tuple(job for job in run.unit.jobs if job.key not in run.done)
        if not left:
            return
        starved = isinstance(error, self.ray.exceptions.OutOfMemoryError) and run.unit.growth < MOST_GROWTH
        if run.losses < self.executor.retries:
            self._looked = -1e9  # the node may be gone
            self.lost.append((replace(run.unit, jobs=left, growth=run.unit.growth + starved), run.losses + 1))
            return
        for job in left:
            sentence = WorkerLost(_why(job.labels.task, run.losses + 1, error))
            yield from self._told(Finished(failed(job, run.unit.place, sentence)), run.slot.node)

    def _nothing_fits(self) -> Iterator[Event]:
        """Nothing runs and nothing fits: waits for nodes to join, then fails what no node could ever hold."""
        self._idle_since = self._idle_since or time.monotonic()
        if self._with_others() and time.monotonic() - self._idle_since < NODES_JOIN_S:
            time.sleep(min(LOOK_S, 0.5))
            return
        if not self.placer.nodes:
            why = " ".join(self.executor.refused.values()) or "The cluster has no node with a CPU."
            raise EnvironmentProblem(f"No node can be used. {why} What is stored stays; the same command goes on from there.")
        unit = self.lost.pop()[0] if self.lost else self.schedule.next()
        if unit is None:
            raise LobeError("Jobs are left that wait for selection runs nobody will make. This is a bug: please report it.")
        needs = self.schedule.costs.needs(unit)
        sentence = EnvironmentProblem(f"No node of the cluster has what {unit.name} needs: {needs.n_gpus} GPU, {needs.cpus} CPU.")
        for job in unit.jobs:
            yield from self._told(Finished(failed(job, unit.place, sentence)), self.here)

    def _with_others(self) -> bool:
        """True on a cluster, which may grow; a local Ray has this machine and no other."""
        return self.executor.address is not None or not self.placer.nodes

    def _told(self, event: Event, node: str) -> Iterator[Event]:
        self.schedule.note(event)
        yield event
        if isinstance(event, Finished):
            self.stored.setdefault(node, []).append(event.record.key)

    def acknowledge(self, at_once: bool = False) -> None:
        """Lets nodes forget what is stored."""
        if not at_once and time.monotonic() - self._acknowledged < FORGET_S:
            return
        self._acknowledged = time.monotonic()
        told = []
        for node, keys in self.stored.items():
            if node == self.here:
                spool.forget(self.schedule.store_id, keys)
            elif node in self.placer.nodes:
                told.append(nodes.on(self.ray, node, nodes.forget).remote(self.schedule.store_id, keys))
        self.stored.clear()
        if at_once and told:
            self.ray.wait(told, num_returns=len(told), timeout=10.0)


def _remote_unit(work: Work, unit: WorkUnit, n_units: int) -> Iterator[Event]:
    if not unit.gpu_share:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    yield from work(on_this_node(replace(unit, place=found_here(unit.jobs[0], unit.place)), n_units))


def on_this_node(unit: WorkUnit, n_units: int) -> WorkUnit:
    """The unit with its share of the memory that the node this process runs on may give to features.

    Args:
        n_units: of the whole schedule: no more than these can run side by side.
    """
    import ray

    here = ray.get_runtime_context().get_node_id()
    resources = next((node["Resources"] for node in ray.nodes() if node["NodeID"] == here), {})
    return with_share_of_memory(unit, min(units_at_once(resources, unit), n_units))


def units_at_once(resources: Mapping[str, float], unit: WorkUnit) -> int:
    """How many units like this one a node with these resources runs side by side; at least one."""
    e = unit.jobs[0].experiment
    room = resources.get("CPU", 1) // e.threads
    if e.device_type == "cuda":
        room = min(room, resources.get("GPU", 1))
    return max(int(room), 1)


def _collected(store_id: str, keys: list[str]) -> list:
    return list(nodes.collect(store_id, keys))


def _why(task: str, losses: int, error: Exception) -> str:
    return f"The process running {task} died {losses} times ({type(error).__name__}). Most often this is memory: see `lobe doctor`."
