"""What a unit takes: seconds, memory and GPU memory. A rough guess first, then what its like took before, remembered between evaluations.

Orders and places units; it never changes a result. Measured values live in `<cache>/costs.json`.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.cards import EncoderMode, Job, Record
from benchmark.execute.work import WorkUnit
from benchmark.store import write_atomically

# Rough seconds per image and step on one CPU core with ResNet-18: good enough to put the longest unit first, and used for nothing else.
COST_S = {"linear": 0.001, "unet": 0.15, "smp_unet": 0.1, "yolov3": 0.1, "yolov3_mgca": 0.1, "faster_rcnn": 1.8}
FINETUNE_COST_S = 0.06
MEMORY_BYTES = 2 * 2**30  # of a process nobody has measured yet
MARGIN = 1.25  # on measured memory
CUDA_CONTEXT_BYTES = 2**30  # of a process on a GPU, beside what torch counts
KEPT = 10_000  # entries; the oldest go first


@dataclass(frozen=True)
class Needs:
    """What a unit must be given.

    Attributes:
        cpus: threads.
        memory_bytes: of the node.
        n_gpus: devices, 0 for none; each worker of a data-parallel job has one to itself.
        gpu_bytes: of one device; None takes a whole one.
    """

    cpus: int = 1
    memory_bytes: int = 0
    n_gpus: int = 0
    gpu_bytes: int | None = None


class Costs:
    """
    Args:
        path: where measured values are kept; None keeps them for this process only.
    """

    def __init__(self, path: Path | None = None):
        self.path = path
        self._known: dict[str, dict[str, float]] = {}
        if path is not None:
            with contextlib.suppress(OSError, ValueError):  # a damaged memory is no memory
                self._known = {str(k): dict(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}

    def note(self, record: Record, disk_bytes: int = 0) -> None:
        """Learns from a finished job and the size of its files."""
        if record.status != "ok":
            return
        job, total = record.job, sum(record.timings_s.values())
        training = record.timings_s.get("training", total)
        images = max(record.steps * job.experiment.recipe.batch_size, 1)
        self._keep(_exactly(job), seconds=total, disk=float(disk_bytes))
        # What pieces of a batch needed says nothing of a whole one.
        peak = record.peak_memory_bytes if record.micro_batches == 1 else None
        self._keep(kind_of(job), seconds_per_image=training / images, bytes=float(peak or 0))

    def seconds(self, job: Job) -> float:
        """Expected time of a job on one worker."""
        exact = self._known.get(_exactly(job), {}).get("seconds")
        if exact is not None:
            return exact
        like = self._known.get(kind_of(job), {}).get("seconds_per_image")
        images = expected_steps(job) * job.experiment.recipe.batch_size
        return images * (like if like is not None else _rough_seconds(job))

    def measured(self, job: Job) -> bool:
        """True when `seconds` rests on a measurement."""
        return _exactly(job) in self._known or kind_of(job) in self._known

    def disk_bytes(self, job: Job) -> float:
        """Files of a job like one that ran before; 0 when none did."""
        return self._known.get(_exactly(job), {}).get("disk", 0.0)

    def unit_seconds(self, unit: WorkUnit) -> float:
        return sum(map(self.seconds, unit.jobs))

    def needs(self, unit: WorkUnit) -> Needs:
        """What the unit is given. Memory doubles with every time it was not enough (`unit.growth`)."""
        experiment = unit.jobs[0].experiment
        seen = max((self._known.get(kind_of(job), {}).get("bytes", 0.0) for job in unit.jobs), default=0.0)
        grown = 2**unit.growth
        if experiment.device_type == "cpu":
            return Needs(experiment.threads * unit.workers, int((seen * MARGIN or MEMORY_BYTES) * grown) * unit.workers)
        if unit.workers > 1:
            return Needs(experiment.threads * unit.workers, MEMORY_BYTES * unit.workers, n_gpus=unit.workers)
        share = int((seen * MARGIN + CUDA_CONTEXT_BYTES) * grown) if seen else None
        return Needs(experiment.threads, MEMORY_BYTES, n_gpus=1, gpu_bytes=share)

    def save(self) -> None:
        """Writes what was learned; an unwritable cache is no reason to fail."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            newest = dict(list(self._known.items())[-KEPT:])
            write_atomically(self.path, json.dumps(newest).encode())

    def _keep(self, name: str, **values: float) -> None:
        entry: dict[str, Any] = self._known.pop(name, {})  # to the end: newest last
        peak = max(entry.get("bytes", 0.0), values.get("bytes", 0.0))
        self._known[name] = {**entry, **values} | ({"bytes": peak} if peak else {})


def kind_of(job: Job) -> str:
    """Jobs of one kind take the same memory, and the same time per image."""
    e = job.experiment
    model = (e.backbone.family, e.backbone.model.rpartition("/")[2])
    images = (e.dataset.name, e.dataset.frame_size, batch_of(job))
    return "|".join(map(str, (e.head, e.encoder.value, *model, *images, e.precision, e.device_type)))


def expected_steps(job: Job) -> float:
    """Steps of a job: its budget, or a third of its epochs, where early stopping tends to end it."""
    e = job.experiment
    images = e.limit or 5000 * e.fraction
    return e.recipe.max_steps or e.recipe.max_epochs * max(images / e.recipe.batch_size, 1) / 3


def _exactly(job: Job) -> str:
    e = job.experiment
    return "|".join((kind_of(job), job.labels.task, str(e.fraction), str(e.limit), e.profile, e.role.value))


def batch_of(job: Job) -> int:
    """Images of a batch, at most: few images make it smaller."""
    e = job.experiment
    return min(e.recipe.batch_size, e.limit) if e.limit else e.recipe.batch_size


def _rough_seconds(job: Job) -> float:
    e = job.experiment
    return COST_S.get(e.head, 0.1) + (FINETUNE_COST_S if e.encoder is EncoderMode.FINETUNE else 0.0)
