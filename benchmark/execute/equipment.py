"""What an evaluation will run on: the device type its jobs are planned for, by the nodes of the executor.

The driver's own devices do not count: a head, a login node and a laptop have no GPU; their cluster has.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.cards import Job
from benchmark.errors import EnvironmentProblem, UsageError
from benchmark.execute.nodes import gpus_here
from benchmark.execute.placing import Node
from benchmark.machine import usable_cores, usable_memory_bytes
from benchmark.shelf import Shelf

DeviceType = Literal["cpu", "cuda"]
DeviceChoice = Literal["auto", "cpu", "cuda"]
_OTHER: dict[DeviceType, DeviceType] = {"cpu": "cuda", "cuda": "cpu"}
PRECISION = {"cpu": "float32", "cuda": "float16"}  # of training, as `plan` writes it into every experiment


@dataclass(frozen=True)
class Equipment:
    """
    Attributes:
        device_type: of every job of the plan.
        nodes: machines that compute; none where they have yet to join.
        where: whose they are, in words.
        at_once: units that run at a time, however much is there; None: as many as fit.
    """

    device_type: DeviceType
    nodes: tuple[Node, ...]
    where: str
    at_once: int | None = None

    @property
    def n_gpus(self) -> int:
        return sum(node.n_gpus for node in self.nodes)

    @property
    def machine(self) -> str:
        """What the jobs can use of it, in words."""
        if self.device_type == "cuda":
            return f"{self.n_gpus} GPU" if self.n_gpus else "no GPU yet"
        return f"{sum(node.cpus for node in self.nodes)} cores"

    @property
    def sentence(self) -> str:
        """What a person should know before anything starts."""
        several = f" of {len(self.nodes)} nodes" if len(self.nodes) > 1 else ""
        said = f"Planned for {in_words(self.device_type)}: {self.machine}{several} on {self.where}."
        without = sum(not node.n_gpus for node in self.nodes)
        if self.device_type == "cuda" and not self.n_gpus:
            said += " Jobs wait for a node with a GPU to join."
        elif self.device_type == "cuda" and without:
            said += f" {without} of its nodes have no GPU and are given none of these jobs."
        elif self.device_type == "cpu" and self.n_gpus:
            said += f" Its {self.n_gpus} GPU stay unused."
        return said


def in_words(device_type: DeviceType) -> str:
    return f"{device_type}, {PRECISION[device_type]}"


def this_machine(asked: DeviceChoice = "auto") -> Node:
    """This machine as this process may use it; its GPUs are those that torch sees."""
    n_gpus, gpu_bytes = 0, 0
    if asked != "cpu":
        import torch

        if torch.cuda.is_available():  # pragma: no cover: needs CUDA; `make gpu` runs it
            n_gpus, gpu_bytes = torch.cuda.device_count(), gpus_here()[1]
    return Node("here", usable_cores(), usable_memory_bytes(), n_gpus, gpu_bytes)


def equip(asked: DeviceChoice, nodes: Sequence[Node], where: str, may_grow: bool) -> Equipment:
    """Decides for which device type to plan.

    Args:
        asked: `auto` takes GPUs where a node has one.
        nodes: those that compute and are there now.
        may_grow: nodes may join later.

    Raises:
        EnvironmentProblem: nothing there can do what was asked, or it cannot be told.
    """
    with_gpu = any(node.n_gpus for node in nodes)
    if asked == "auto" and not nodes:
        raise EnvironmentProblem(
            f"No node that computes has joined {where} yet, so it cannot be told for which device to plan. "
            "Say --device cuda or --device cpu: the jobs then wait for nodes."
        )
    if asked == "cuda" and not with_gpu and not may_grow:
        raise EnvironmentProblem(
            f"--device cuda: torch sees no GPU on {where} (`lobe doctor` says why). "
            "Name a cluster with --address, or use --device cpu: the results are others, and so are their keys."
        )
    return Equipment("cuda" if asked == "cuda" or (asked == "auto" and with_gpu) else "cpu", tuple(nodes), where)


def stored_otherwise(jobs: Iterable[Job], done: Container[str], shelf: Shelf, asked: DeviceChoice, equipment: Equipment) -> list[str]:
    """A sentence when jobs of a plan are stored as the other device type's: another key, and other numbers.

    Args:
        done: keys that need no computing.

    Raises:
        UsageError: there are some and nobody asked for this device type, so that it may be a mistake.
    """
    if not shelf:  # thousands of keys need not be made
        return []
    planned, other = equipment.device_type, _OTHER[equipment.device_type]
    update = {"device_type": other, "precision": PRECISION[other]}
    twins = (job.model_copy(update={"experiment": job.experiment.model_copy(update=update)}) for job in jobs if job.key not in done)
    found = sum(facts is not None and facts.status == "ok" for facts in (shelf.facts(twin.key) for twin in twins))
    if not found:
        return []
    said = f"{found} of these jobs are stored in {shelf.out} as {in_words(other)}; this plan is {in_words(planned)}"
    if asked == "auto":
        raise UsageError(
            f"{said} and would compute them again, with other numbers. Name the machines they ran on with --address, or say "
            f"--device {other} where that is there; --device {planned} if you mean it."
        )
    return [f"{said} and computes them again, with other numbers."]
