"""What a unit takes: seconds, memory and GPU memory. A rough guess first, then measurements of similar jobs, kept between evaluations.

Orders and places units; it never changes a result. Measured values live in `<cache>/costs.json`.
"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import json_files, private, registry
from benchmark.cards import EncoderMode, Job, Record
from benchmark.execute import memory
from benchmark.execute.work import WorkUnit
from benchmark.files import write_atomically
from benchmark.readers.base import SPLITS
from benchmark.training.inputs import Inputs
from benchmark.training.sizes import SplitSizes, batch_size, chosen

# Rough seconds an image on one CPU core, for what nobody has measured yet: good enough to put the longest unit first and to tell hours from
# days. What a step of a head takes on frozen features, the head says (`HeadFacts.step_s`); these belong to a ResNet-18
# (docs/performance.md has such rows).
FINETUNE_S = 0.06  # more for a step through the encoder
FEATURES_S = 0.04  # once for every image of a frozen encoder
FORWARD = 0.35  # of a step: validation and test
SCORING_S = 0.01  # all metrics of a test image, and its predictions
DECODE_S = 0.03  # once for every image of a dataset and frame
RUN_S = 0.5  # an encoder and a head built
START_S = 10.0  # a process with its imports, once a unit
# Multiplications of an encoder over a ResNet-18's, by the longest of these that its name holds; any other counts as one.
ENCODER_WORK = {
    "resnet18": 1.0, "resnet34": 2.0, "resnet50": 2.3, "resnet101": 4.3, "resnet152": 6.4, "densenet121": 1.6, "densenet169": 1.9,
    "vit_small": 2.5, "vit_base": 9.7, "vit_b_16": 9.7, "vit_large": 34.0, "vit_l_16": 34.0, "convnext_tiny": 2.5, "swin_t": 2.5,
}  # fmt: skip
GPU_OVER_CORE = 50.0  # a guess that no GPU has confirmed (docs/gpu.md)
ASSUMED = SplitSizes(5000, 1500, 1500)  # of a dataset that was not opened and whose card says nothing
MARGIN = 1.25  # on expected memory
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
                self._known = {name: entry for name, entry in json_files.read(path).items() if _is_entry(entry)}

    def note(self, record: Record, disk_bytes: int = 0) -> None:
        """Learns from a finished job and the size of its files."""
        if record.status != "ok" or record.not_needed:
            return
        job, total = record.job, sum(record.timings_s.values())
        training = record.timings_s.get("training", total)
        used = SplitSizes(**{name: record.counts.get(name, {}).get("images", 0) for name in ("train", "validation", "test")})
        seen: float = used.images
        if job.experiment.words is None:
            batch = batch_size(job.experiment.recipe, job.experiment.limit, used.train)
            seen = record.steps * batch + FORWARD * used.validation * len(record.curve)
        self._keep(_exactly(job), seconds=total, disk=float(disk_bytes))
        # What pieces of a batch needed says nothing of a whole one.
        peak = record.peak_memory_bytes if record.micro_batches == 1 else None
        rest, images = (total - training) / max(used.images, 1), float(used.images)
        self._keep(kind_of(job), seconds_per_image=training / max(seen, 1), rest_per_image=rest, bytes=float(peak or 0), images=images)

    def seconds(self, job: Job, inputs: Inputs | None = None) -> float:
        """Expected time of a job on one worker, without what its unit does once for all its jobs.

        Args:
            inputs: whose split sizes are taken; None assumes some.
        """
        exact = self._known.get(_exactly(job), {}).get("seconds")
        if job.experiment.extends_grid:  # it is seldom needed
            return RUN_S
        if exact is not None:
            return exact
        work = expected_work(job, sizes_of(job, inputs))
        like = self._known.get(kind_of(job), {})
        if "seconds_per_image" in like:
            return work.seen * like["seconds_per_image"] + work.used.images * like.get("rest_per_image", 0.0)
        return _rough_seconds(job, work)

    def measured(self, job: Job) -> bool:
        """True when `seconds` rests on a measurement."""
        return bool(self._known) and (_exactly(job) in self._known or kind_of(job) in self._known)

    def disk_bytes(self, job: Job) -> float:
        """Files of a job like one that ran before; 0 when none did."""
        return self._known.get(_exactly(job), {}).get("disk", 0.0)

    def unit_seconds(self, unit: WorkUnit) -> float:
        """Expected time of all its jobs, and of the features they share where nothing like them was measured."""
        seconds = sum(self.seconds(job, unit.inputs) for job in unit.jobs)
        rough = [job for job in unit.jobs if not self.measured(job) and job.experiment.encoder is EncoderMode.FROZEN]
        images = max((expected_work(job, sizes_of(job, unit.inputs)).used.images for job in rough), default=0)
        return seconds + (images * FEATURES_S * _encoder_work(rough[0]) / _speed(rough[0]) if rough else 0.0)

    def peak_bytes(self, unit: WorkUnit) -> int:
        """Peak memory of a process of the unit: as measured of its kind, else as `memory` counts it, else as the head guesses."""
        return self._expected_bytes(unit) or registry.head(unit.jobs[0].experiment.head).memory_bytes

    def needs(self, unit: WorkUnit) -> Needs:
        """What the unit is given. Memory doubles with every time it was not enough (`unit.growth`)."""
        experiment = unit.jobs[0].experiment
        grown, guess = 2**unit.growth, registry.head(experiment.head).memory_bytes
        if experiment.device_type == "cpu":
            return Needs(experiment.threads * unit.workers, int((self._expected_bytes(unit) * MARGIN or guess) * grown) * unit.workers)
        seen = max((self._seen_bytes(job) for job in unit.jobs), default=0.0)
        if unit.workers > 1:
            return Needs(experiment.threads * unit.workers, guess * unit.workers, n_gpus=unit.workers)
        share = int((seen * MARGIN + CUDA_CONTEXT_BYTES) * grown) if seen else None
        return Needs(experiment.threads, guess, n_gpus=1, gpu_bytes=share)

    def save(self) -> None:
        """Writes what was learned; an unwritable cache is no reason to fail."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            private.root(self.path.parent)
            newest = dict(list(self._known.items())[-KEPT:])
            write_atomically(self.path, json.dumps(newest).encode(), private.opener)

    def _seen_bytes(self, job: Job) -> float:
        """Largest memory of a job of this kind; 0 when none was measured."""
        return self._known.get(kind_of(job), {}).get("bytes", 0.0)

    def _expected_bytes(self, unit: WorkUnit) -> int:
        """Of one process; 0 where nothing was measured and nothing can be counted."""
        return max(self._expected_of_job(job, unit) for job in unit.jobs)

    def _expected_of_job(self, job: Job, unit: WorkUnit) -> int:
        sizes, budget = sizes_of(job, unit.inputs), unit.options.feature_budget_bytes
        seen = self._seen_bytes(job)
        if not seen:
            return memory.peak_bytes(job, unit.options, sizes, unit.workers) or 0
        # Jobs of a kind differ in how many images they keep features of; the kind itself fixes all else.
        before = self._known[kind_of(job)].get("images")
        now = chosen(job.experiment, sizes).images
        then = now if before is None else int(before)
        kept_now, kept_then = (memory.features_bytes(job.experiment, n, budget) for n in (now, then))
        return int(seen) + max(kept_now - kept_then, 0)

    def _keep(self, name: str, **values: float) -> None:
        entry: dict[str, Any] = self._known.pop(name, {})  # to the end: newest last
        largest = max(entry, values, key=lambda one: one.get("bytes", 0.0))
        peak = {key: largest[key] for key in ("bytes", "images") if largest.get("bytes") and key in largest}
        self._known[name] = {**entry, **values} | peak


def _is_entry(entry: Any) -> bool:
    """Numbers that can be times and sizes, by name; anything else would be met in the middle of a run."""
    return isinstance(entry, dict) and bool(entry) and all(type(v) in (int, float) and math.isfinite(v) and v >= 0 for v in entry.values())


def kind_of(job: Job) -> str:
    """Jobs of one kind take the same memory, and the same time per image."""
    e = job.experiment
    model = (e.backbone.family, e.backbone.model.rpartition("/")[2])
    images = (e.dataset.name, e.dataset.frame_size, batch_size(e.recipe, e.limit, e.limit or 0))
    return "|".join(map(str, (e.head, e.encoder.value, *model, *images, e.precision, e.device_type, e.threads)))


def sizes_of(job: Job, inputs: Inputs | None) -> SplitSizes:
    """Images of the splits a job was planned on: counted, else those of the public release, else assumed."""
    if inputs is None:
        return ASSUMED
    if inputs.sizes is not None:
        return inputs.sizes
    split = job.experiment.dataset.split
    expected = inputs.card.splits[split].expected if split in inputs.card.splits else {}
    named = {name: expected[name].n_images for name in SPLITS if name in expected}
    return SplitSizes(**named) if len(named) == len(SPLITS) else ASSUMED


@dataclass(frozen=True)
class Work:
    """What a job is expected to do.

    Attributes:
        used: images of each split as the job uses them.
        trained: images in all its steps.
        validated: images in all its validations.
    """

    used: SplitSizes
    trained: float
    validated: float

    @property
    def seen(self) -> float:
        """Images, as if all went through a step; of a job that trains nothing, those it looks at."""
        return self.trained + FORWARD * self.validated if self.trained else float(self.used.images)


def expected_work(job: Job, sizes: SplitSizes) -> Work:
    """Images of a job's steps and validations: its budget, or a third of its epochs, where early stopping tends to end it.

    Args:
        sizes: of the dataset's splits.
    """
    e, recipe = job.experiment, job.experiment.recipe
    used = chosen(e, sizes)
    if e.words is not None:
        return Work(used, 0.0, 0.0)
    batch = batch_size(recipe, e.limit, used.train)
    steps_an_epoch = max(used.train // batch if recipe.drop_last else math.ceil(used.train / batch), 1)
    epochs = max(recipe.max_epochs / 3, min(recipe.patience + 1, recipe.max_epochs))
    if recipe.max_steps is not None:
        epochs = min(math.ceil(recipe.max_steps / steps_an_epoch), recipe.max_epochs)
    steps = min(epochs * steps_an_epoch, recipe.max_steps or math.inf)
    return Work(used, steps * batch, epochs * used.validation)


def batch_of(job: Job, inputs: Inputs) -> int:
    """Images of a job's batches."""
    e = job.experiment
    return e.recipe.batch_size if e.words is not None else batch_size(e.recipe, e.limit, chosen(e, sizes_of(job, inputs)).train)


def decoding_seconds(job: Job, inputs: Inputs) -> float:
    """Roughly what the images of a job take to decode, once for all jobs of their dataset and frame."""
    return expected_work(job, sizes_of(job, inputs)).used.images * DECODE_S


def _exactly(job: Job) -> str:
    e = job.experiment
    return "|".join((kind_of(job), job.labels.task, str(e.fraction), str(e.limit), e.profile, e.role.value))


def _rough_seconds(job: Job, work: Work) -> float:
    """A guess by head, by whether the encoder trains, by its architecture, and by the device."""
    e = job.experiment
    encoder = _encoder_work(job)
    if e.words is not None:
        return RUN_S + work.used.images * (FEATURES_S * encoder / _speed(job) + SCORING_S)
    step = registry.head(e.head).step_s + (FINETUNE_S * encoder if e.encoder is EncoderMode.FINETUNE else 0.0)
    return RUN_S + step * (work.seen + FORWARD * work.used.test) / _speed(job) + SCORING_S * work.used.test


def _encoder_work(job: Job) -> float:
    name = job.experiment.backbone.model.lower()
    return ENCODER_WORK.get(max((known for known in ENCODER_WORK if known in name), key=len, default=""), 1.0)


def _speed(job: Job) -> float:
    """Of the job's device over one core."""
    return GPU_OVER_CORE if job.experiment.device_type == "cuda" else float(job.experiment.threads)
