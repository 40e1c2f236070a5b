"""Builds the record of a job: `succeeded` where it has a result, `failed` where it has none.

What every record says of its job and inputs stands once, in `_record`. The driver builds records too, of processes that were lost, so
importing this module loads no torch.
"""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmark import extras, own_code
from benchmark.cards import Failure, Job, Record
from benchmark.errors import LobeError
from benchmark.faults import OUT_OF_MEMORY, is_environment, is_of_memory
from benchmark.machine import peak_memory_bytes
from benchmark.readers.base import SPLITS, ids_digest
from benchmark.readers.kit.audit import leakage
from benchmark.readers.kit.withheld import without_names
from benchmark.training.inputs import Inputs
from benchmark.training.options import RunOptions

if TYPE_CHECKING:
    import torch

    from benchmark.encoders.sealed import SealedEncoder
    from benchmark.heads.base import Head
    from benchmark.training.data import Part
    from benchmark.training.evaluate import ScoredSplit
    from benchmark.training.loop import Selected
    from benchmark.training.passage import Passage

RECORDED_PACKAGES = (
    "torch",
    "torchvision",
    "mmdet",
    "mmcv-lite",
    "numpy",
    "scipy",
    "pydicom",
    "pillow",
    "pycocotools",
    "timm",
    "lobe-bench",
)


class Clock:
    """Seconds of the phases of a job, by name.

    Args:
        seconds: of phases that ended before.
    """

    def __init__(self, seconds: Mapping[str, float] | None = None):
        self.seconds = dict(seconds or {})
        self._since = time.monotonic()

    def lap(self, phase: str) -> None:
        """Ends a phase; the next one begins."""
        now = time.monotonic()
        self.seconds[phase], self._since = now - self._since, now


def succeeded(
    job: Job,
    inputs: Inputs,
    options: RunOptions,
    result: ScoredSplit | None,
    parts: Sequence[Part],
    *,
    digests: Mapping[str, str],
    parameters: Mapping[str, int],
    account: Mapping[str, int],
    clock: Clock,
    passage: Passage,
    warnings: Sequence[str] = (),
    n_positive: Mapping[str, int] | None = None,
    learning_rate: float | None = None,
    selected: Selected | None = None,
    anchors: Mapping[str, Mapping[str, float]] | None = None,
    path: Literal["plain", "fused"] = "plain",
) -> Record:
    """The record of a job that went well.

    Args:
        result: metrics of the test split; None for a search that left it closed.
        parts: the splits as used; a job that trains nothing has no `train`.
        digests: `sample_digests` of the parts, made before training.
        parameters: trained, frozen, and of each module.
        account: of encoder tensors.
        clock: all phases have ended.
        passage: of one image.
        n_positive: positives by split, where the parts cannot tell.
        learning_rate, selected: None for a job that trains nothing.
        anchors: scores of the test split that need no model.
        path: which loop took the steps.
    """
    import torch

    device, classes = torch.device(job.experiment.device_type), job.experiment.dataset.classes
    training: dict[str, Any] = {}
    if selected is not None:
        training = {
            "validation": selected.metrics,
            "selected_epoch": selected.epoch,
            "steps": selected.steps,
            "curve": tuple(selected.curve),
        }
    return _record(
        job,
        inputs,
        options,
        status="ok",
        path=path,
        metrics={} if result is None else result.metrics,
        counts={part.name: _counts(part, classes, None if n_positive is None else n_positive[part.name]) for part in parts},
        sample_digests=dict(digests),
        leakage=_leakage(parts),
        anchors=anchors or {},
        learning_rate=learning_rate,
        parameters=dict(parameters),
        account=dict(account),
        input_size=passage.input_size,
        grids=passage.grids,
        macs=passage.macs,
        timings_s={phase: round(seconds, 3) for phase, seconds in clock.seconds.items()},
        peak_memory_bytes=_peak_memory(device),
        environment=environment(device),
        warnings=tuple(warnings),
        **training,
    )


def not_needed(job: Job, inputs: Inputs, options: RunOptions, why: str) -> Record:
    """The record of a search beyond the grid that nobody needs: nothing was computed.

    Args:
        why: a sentence without a full stop.
    """
    return _record(job, inputs, options, status="ok", not_needed=why)


def failed(job: Job, inputs: Inputs, options: RunOptions, error: BaseException, seconds: float = 0.0) -> Record:
    """The record of a job that ended in an error. The traceback keeps code lines, never data.

    It says whether the environment is at fault; such a record is told, and never stored (`benchmark.faults`).
    A foreign error may quote data, a report's words for one; where the dataset's agreement lets nothing leave, its message is dropped.

    Args:
        seconds: from the job's start to the error.
    """
    error = extras.missing(error) or error  # what is not installed is no fault of the job
    kind, foreign, starved = type(error).__name__, not isinstance(error, LobeError), is_of_memory(error)
    sentence, trace = str(error), ""
    if foreign and inputs.card.redistribution == "none":
        sentence = f"{kind}: message withheld, it may quote data that must not be passed on."
        trace = "".join(traceback.format_tb(error.__traceback__))[-8000:]
    elif inputs.card.redistribution == "none":
        sentence = without_names(sentence, inputs.dataset_root)
    elif foreign:
        sentence, trace = f"{kind}: {error}", "".join(traceback.format_exception(error))[-8000:]
    if starved and options.micro_batches > 1:
        sentence = f"Memory is too small even for batches in {options.micro_batches} pieces: use a device with more. {sentence}"
    failure = Failure(
        kind=OUT_OF_MEMORY if starved else kind,
        sentence=sentence or kind,
        traceback=trace,
        environment=is_environment(error),
    )
    return _record(job, inputs, options, status="failed", failure=failure, timings_s={"total": round(seconds, 3)})


def sample_digests(parts: Sequence[Part]) -> dict[str, str]:
    """SHA-256 of the ids of each split, in order and sorted, and of the bytes of its image files (`Record.sample_digests`)."""
    digests: dict[str, str] = {}
    for part in parts:
        digests |= {part.name: part.digest(), f"{part.name} sorted": ids_digest(part.ids), f"{part.name} files": part.files_digest()}
    return digests


def parameters_of(encoder: SealedEncoder, head: Head | None, finetune: bool) -> dict[str, int]:
    """Numbers that were trained and that stayed frozen, and of each module (`Record.parameters`); a job that trains nothing has no head."""
    from benchmark.heads.networks.pyramid import WithPyramid

    in_head = 0 if head is None else sum(p.numel() for p in head.parameters())
    in_encoder = sum(p.numel() for p in encoder.parameters())
    pyramid = {"pyramid": sum(p.numel() for p in head.pyramid.parameters())} if isinstance(head, WithPyramid) else {}
    return {
        "trained": in_head + (in_encoder if finetune else 0),
        "frozen": 0 if finetune else in_encoder,
        "head": in_head,
        "encoder": in_encoder,
        **pyramid,
    }


def environment(device: torch.device) -> dict[str, str]:
    """Versions and machine, for provenance; never part of a key."""
    import torch

    versions = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        **versions,
        "lobe-code": own_code.digest()[:16],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": name,
    }


def _record(job: Job, inputs: Inputs, options: RunOptions, **known: Any) -> Record:
    """What every record says, and what is known of this one."""
    return Record(
        key=job.key,
        job=job,
        scale="limited" if job.limited else "full",
        phantom=inputs.phantom,
        redistribution=inputs.card.redistribution,
        micro_batches=options.micro_batches,
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **known,
    )


def _counts(part: Part, classes: Sequence[str], n_positive: int | None) -> dict[str, int]:
    """Images, positives and boxes of a part; with several classes of boxes, those of each: a class of few boxes is only described."""
    labels = np.concatenate([*part.labels, np.zeros(0, np.int64)])
    each = {f"boxes of {name}": int((labels == k).sum()) for k, name in enumerate(classes)} if len(classes) > 1 and len(labels) else {}
    positives = part.n_positive() if n_positive is None else n_positive
    return {"images": len(part), "positives": positives, "boxes": len(labels), **each}


def _leakage(parts: Sequence[Part]) -> dict[str, int]:
    """Images and patients that the splits share; a split that the job does not see has none."""
    patients = {i: patient for part in parts for i, patient in zip(part.ids, part.patients, strict=True)}
    return leakage(dict.fromkeys(SPLITS, ()) | {part.name: part.ids for part in parts}, patients.get)


def _peak_memory(device: torch.device) -> int:
    import torch

    if device.type == "cuda":  # pragma: no cover: needs CUDA; `make gpu` runs it
        return torch.cuda.max_memory_allocated(device)
    return peak_memory_bytes()
