"""Frozen features of more images than their budget of memory holds: how much memory they take, and what reading them costs."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmark.errors import EnvironmentProblem
from benchmark.kinds.base import Part
from benchmark.training.features import BATCH, FeatureBank
from tests.perf.corpus import frame_size, jobs, shared_corpus
from tests.perf.ingredients import gather
from tests.perf.measure import Measurement, alternate

TASK = "rsna-yolov3-frozen-100"  # reads three levels, 0.7 MB an image at 224 px
SHARE = 4  # the features are so many times the budget
# What the process may grow by beyond the budget: rounding of the allocator, the map of rows, one batch on its way to disk.
SLACK_BYTES = 8 * 2**20
STATUS = Path("/proc/self/status")


def row(quick: bool, folder: Path, cores: int) -> Measurement:
    """A pass over the features, kept under the budget, against encoding every image again.

    Raises:
        EnvironmentProblem: the system does not say how much memory a process has.
    """
    (job,), inputs = jobs(
        folder / "memory",
        shared_corpus(folder, "rsna", quick),
        TASK,
        limit=8 if quick else 96,
        threads=cores,
        runs=1,
        card={"fraction": 1.0},
        grid=(),
        frame_size=frame_size(quick),
    )
    given = gather(job.experiment, inputs)
    encoder = given.encoder()
    encoder.set_mode("frozen")
    part, strides = given.data.train, given.head(encoder).strides
    needed = len(part) * sum(level[0].nbytes for level in _encode(encoder, part, strides, np.arange(1)).values())
    budget = needed // SHARE
    for index in _batches(part):
        _encode(encoder, part, strides, index)  # what the allocator keeps for the encoder, it keeps before the clock and the scale
    grown, banks = {}, {}
    for name, bytes_of_memory in (("under the budget", budget), ("all in memory", 2 * needed)):
        before = own_bytes()
        banks[name] = FeatureBank(encoder, strides, bytes_of_memory, folder=folder / "memory" / "features", batch=BATCH)
        banks[name].prepare(part)
        grown[name] = own_bytes() - before
    kept = banks["under the budget"]
    plain, fast, encoded, read = alternate(
        lambda: [_encode(encoder, part, strides, index) for index in _batches(part)],
        lambda: [kept.pyramid(part, index) for index in _batches(part)],
        1 if quick else 5,
    )
    apart = max(float((one[s] - other[s]).abs().max()) for one, other in zip(encoded, read, strict=True) for s in strides)
    beyond = max(0, kept.memory_bytes - budget, grown["under the budget"] - budget - SLACK_BYTES)
    seen = grown["all in memory"] > needed / 2  # a scale that does not see the features proves nothing about a part of them
    return Measurement(
        what=f"features of {len(part)} images, {SHARE} times their budget of memory: reading them back, against the encoder",
        plain=plain,
        fast=fast,
        target=1,
        compared="every feature, and whether the process grew by no more than the budget, and by all features without one",
        difference=apart if seen and not beyond else None,
        tolerance=1e-5,
        details={
            "features, MB": _mb(needed),
            "budget, MB": _mb(budget),
            "kept in memory, MB": _mb(kept.memory_bytes),
            "kept on disk, MB": _mb(kept.disk_bytes),
            **{f"growth of the process {name}, MB": _mb(n) for name, n in grown.items()},
        },
    )


def own_bytes() -> int:
    """Memory of this process that no file stands behind and that is in use: what the allocator only keeps goes back first.

    Raises:
        EnvironmentProblem: not Linux, or another C library than glibc.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        raise EnvironmentProblem("The C library has no malloc_trim: memory in use cannot be told from memory kept. This bench needs glibc.")
    trim(0)
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    for line in lines:
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise EnvironmentProblem(f"{STATUS} does not say RssAnon, so memory cannot be measured here; this bench needs Linux.")


def _encode(encoder, part: Part, strides: tuple[int, ...], index: np.ndarray) -> dict[int, torch.Tensor]:
    with torch.no_grad():
        pyramid = encoder.pyramid(part.images(index), strides)
    return {stride: pyramid[stride] for stride in strides}


def _batches(part: Part) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + BATCH, len(part))) for start in range(0, len(part), BATCH))


def _mb(n_bytes: int) -> float:
    return round(n_bytes / 2**20, 1)
