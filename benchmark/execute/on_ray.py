"""Runs units on a Ray cluster, or on a local one it starts. Every unit is a streaming task, so events arrive as they happen.

The schedule and the placer decide what starts where; Ray starts it there, isolates it and says when it is lost. What a unit computes is
`work.run_unit`, the same function the inline executor calls.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from benchmark.cards import Record
from benchmark.errors import DeviceMissing, EnvironmentProblem, LobeError
from benchmark.events import Event, Finished, Noticed
from benchmark.execute import addresses, nodes, spool
from benchmark.execute.connecting import STAYS, Connection
from benchmark.execute.costs import Needs
from benchmark.execute.equipment import DeviceChoice, Equipment, equip, this_machine
from benchmark.execute.placing import Node, Placer, Slot
from benchmark.execute.remote import Work, run_here
from benchmark.execute.schedule import MOST_GROWTH, Schedule
from benchmark.execute.work import WorkUnit, near, run_unit
from benchmark.training.record import failed

RETRIES = 2  # of a unit whose process was lost; its finished jobs are not repeated
LOOK_S = 2.0  # between two looks at which nodes there are
FORGET_S = 2.0  # between two acknowledgements to a node
FORGET_WAIT_S = 60.0  # at the end, for nodes that have not yet heard: the process that tells one may have to be started
NODE_ANSWERS_S = 120.0
NODES_JOIN_S = 120.0  # how long an evaluation without a node that fits waits for one
GPUS_JOIN_S = 900.0  # the same for the first GPU, of a cluster that starts such nodes when they are asked for
MOST_ASKED = 256  # units at once, of the cluster's autoscaler


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
        cpus: cores of the local Ray; None takes those that this process may use.
        retries: of a unit whose process was lost.
        work: what runs a unit in its process.
        backbones: `file.py:function` of the user's own; their folders travel to a cluster. None takes those of the schedule.
        lists: say which of their files travel.

    Attributes:
        refused: a sentence for every node that is not used.
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        cpus: int | None = None,
        retries: int = RETRIES,
        work: Work = run_unit,
        backbones: Iterable[str] | None = None,
        lists: bool = False,
    ):
        self.address, self.retries, self.work, self.backbones = address, retries, work, backbones
        self.connection = Connection(address, cpus, lists)
        self.refused: dict[str, str] = {}

    def equipment(self, asked: DeviceChoice) -> Equipment:
        """What the cluster's nodes have, to which it connects; without an address what this machine has, and nothing is started yet."""
        ray = sys.modules.get("ray")
        if self.address is None and not (ray is not None and ray.is_initialized()):
            return equip(asked, [this_machine(asked)], "this machine", may_grow=False)
        ray = self.connection.open(self.backbones or ())
        where = f"the cluster at {self.address}" if self.address not in (None, addresses.AUTO) else "the Ray that runs here"
        return equip(asked, nodes.alive(ray), where, may_grow=True)

    def run(self, schedule: Schedule) -> Iterator[Event]:
        """Events as they happen. Asking for the next one says that the last is stored: only then is it forgotten on its node."""
        ray = self.connection.open(schedule.backbone_files() if self.backbones is None else self.backbones)
        drive = _Drive(ray, schedule, self)
        try:
            yield from drive.events()
        finally:
            drive.acknowledge(at_once=True)
            drive.ask_for_nodes(())
            self.close()

    def close(self) -> None:
        """Disconnects, and stops what was started on this machine."""
        self.connection.close()


class _Drive:
    """One evaluation on a connected Ray."""

    def __init__(self, ray, schedule: Schedule, executor: RayExecutor):
        self.ray, self.schedule, self.executor = ray, schedule, executor
        self.placer = Placer()
        self.here = ray.get_runtime_context().get_node_id()
        self.running: dict = {}
        self.lost: list[tuple[WorkUnit, int]] = []  # to start again, with how often they were lost
        self.stored: dict[str, list[str]] = {}  # by node, not acknowledged yet
        self._told: list[Any] = []  # tasks that tell nodes to forget, as far as nobody saw them end
        self._looked = self._acknowledged = -1e9
        self._with_gpus = False
        self._idle_since: float | None = None
        self._asked: tuple[Needs, ...] = ()
        self._start = ray.remote(max_retries=0, num_returns="streaming")(run_here)
        # A process that had a device ends with its unit: after a CUDA error it would fail the next one too, it sees the device that it met
        # first and no other, and idle it keeps memory there. Ray does so by itself only where the decorator names `num_gpus`.
        self._start_on_device = ray.remote(max_retries=0, num_returns="streaming", max_calls=1)(run_here)

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
        if self.executor.address is not None:
            self.ask_for_nodes(self._wanted())
        if not nodes.is_alive(self.ray, self.here):
            raise EnvironmentProblem(f"The node of Ray on this machine ended, through which it speaks to the cluster. {STAYS}")
        seen = {node.id: node for node in nodes.alive(self.ray)}
        for gone in self.placer.nodes.keys() - seen.keys():
            self.placer.leave(gone)
        for name in seen.keys() - self.placer.nodes.keys() - self.executor.refused.keys():
            yield from self._welcome(seen[name])

    def _welcome(self, node: Node) -> Iterator[Event]:
        kept: Iterable[tuple[Record, dict[str, bytes]]]
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
            yield from self._publish(Finished(record, files), node.id)

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
        options: dict[str, Any] = {
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
        start = self._start_on_device if run.slot.gpus else self._start
        self.running[start.options(**options).remote(self.executor.work, unit, self.schedule.n_units)] = run

    def _take(self, stream) -> Iterator[Event]:
        run = self.running[stream]
        try:
            reference = next(stream, None)
            event: Event | None = None if reference is None else self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self._end(stream)
            yield from self._lost(run, error)
            return
        if event is None:
            self._end(stream)
            return
        if isinstance(event, Finished):
            run.done.add(event.record.key)
            if event.record.failure is not None and event.record.failure.kind == DeviceMissing.__name__:
                yield from self._without_device(run, event.record)
                return
            if self.schedule.retry(run.unit, event, run.slot.share if run.slot.gpus else 1.0):
                return
        yield from self._publish(event, run.slot.node)

    def _without_device(self, run: _Running, record: Record) -> Iterator[Event]:
        """A node that declares GPUs its processes do not see would fail all jobs there are: it gets no more, this one goes elsewhere."""
        assert record.failure is not None
        self.schedule.put_back(run.unit, record.job)
        if run.slot.node not in self.executor.refused:
            self.placer.leave(run.slot.node)
            said = f"Node {run.slot.node[:8]} is not used: {record.failure.sentence}"
            self.executor.refused[run.slot.node] = said
            yield Noticed(said)

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
            yield from self._publish(Finished(failed(job, run.unit.inputs, run.unit.options, sentence)), run.slot.node)

    def _nothing_fits(self) -> Iterator[Event]:
        """Nothing runs and nothing fits: waits for nodes to join, then fails what no node could ever hold."""
        patience = GPUS_JOIN_S if self._lacks_gpus() and not self.executor.refused else NODES_JOIN_S
        if self._idle_since is None:
            self._idle_since = time.monotonic()
            if self._with_others() and self._lacks_gpus():
                yield Noticed(f"No node with a GPU is there: waiting for one to join, for {patience / 60:.0f} minutes at most.")
        if self._with_others() and time.monotonic() - self._idle_since < patience:
            time.sleep(min(LOOK_S, 0.5))
            return
        if not self.placer.nodes:
            why = " ".join(self.executor.refused.values()) or "The cluster has no node with a CPU."
            raise EnvironmentProblem(f"No node can be used. {why} {STAYS}")
        if self._lacks_gpus():
            why = " ".join(self.executor.refused.values()) or "None declares one (`ray status` shows what Ray was told)."
            raise EnvironmentProblem(f"The jobs are planned for GPUs and no node of the cluster has one. {why} {STAYS}")
        unit = self.lost.pop()[0] if self.lost else self.schedule.next()
        if unit is None:  # pragma: no cover: a fault of the schedule; its tests see none
            raise LobeError("Jobs are left that wait for selection runs nobody will make. This is a bug: please report it.")
        needs = self.schedule.costs.needs(unit)
        sentence = EnvironmentProblem(f"No node of the cluster has what {unit.name} needs: {needs.n_gpus} GPU, {needs.cpus} CPU.")
        for job in unit.jobs:
            yield from self._publish(Finished(failed(job, unit.inputs, unit.options, sentence)), self.here)

    def _lacks_gpus(self) -> bool:
        """True when what waits needs a GPU, and no node that is used has any."""
        if any(node.n_gpus for node in self.placer.nodes.values()):
            return False
        return any(needs.n_gpus for needs in self._wanted())

    def _wanted(self) -> tuple[Needs, ...]:
        """What runs and what could start needs, as far as anybody is asked for it."""
        needs = self.schedule.costs.needs
        now = [needs(run.unit) for run in self.running.values()] + [needs(unit) for unit, _ in self.lost]
        return tuple([*now, *self.schedule.ready_needs(MOST_ASKED)][:MOST_ASKED])

    def ask_for_nodes(self, wanted: tuple[Needs, ...]) -> None:
        """Tells the autoscaler, where there is one, what would be of use: it sees no waiting unit, only what fits is submitted."""
        if wanted == self._asked:
            return
        self._asked = wanted
        from ray.autoscaler.sdk import request_resources

        with contextlib.suppress(self.ray.exceptions.RayError, RuntimeError):  # a cluster without one need not take it
            request_resources(bundles=[{"CPU": n.cpus} | ({"GPU": n.n_gpus} if n.n_gpus else {}) for n in wanted])

    def _with_others(self) -> bool:
        """True on a cluster, which may grow; a local Ray has this machine and no other."""
        return self.executor.address is not None or not self.placer.nodes

    def _publish(self, event: Event, node: str) -> Iterator[Event]:
        self.schedule.note(event)
        yield event
        if isinstance(event, Finished):
            self.stored.setdefault(node, []).append(event.record.key)

    def acknowledge(self, at_once: bool = False) -> None:
        """Lets nodes forget what is stored."""
        if not at_once and time.monotonic() - self._acknowledged < FORGET_S:
            return
        self._acknowledged = time.monotonic()
        for node, keys in self.stored.items():
            if node == self.here:
                spool.forget(self.schedule.store_id, keys)
            elif node in self.placer.nodes:
                self._told.append(nodes.on(self.ray, node, nodes.forget).remote(self.schedule.store_id, keys))
        self.stored.clear()
        # What is still on its way when the driver leaves is lost with it.
        heard = self.ray.wait(self._told, num_returns=len(self._told), timeout=FORGET_WAIT_S if at_once else 0.0)[0] if self._told else []
        self._told = [told for told in self._told if told not in heard]


def _collected(store_id: str, keys: list[str]) -> list:
    return list(nodes.collect(store_id, keys))


def _why(task: str, losses: int, error: Exception) -> str:
    return f"The process running {task} died {losses} times ({type(error).__name__}). Most often this is memory: see `lobe doctor`."
