"""Records: the result of one job, or why there is none."""

from __future__ import annotations

from typing import Literal

from benchmark.cards.base import SCHEMA_VERSION, Card, Later
from benchmark.cards.jobs import Job


class Epoch(Card):
    """One line of a training curve. `learning_rate` is the rate of the epoch's last batch."""

    epoch: int
    step: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    metrics: dict[str, float]


class Choice(Card):
    """How a job's learning rate was chosen, by validation alone.

    Attributes:
        rates: that could win, in the order tried; one beyond the grid stands last.
        values: of each of them, the selection metric of each selection run, in the order of their seeds.
        failed: rates at which the training of a run failed, as where its loss became infinite; they cannot win.
        beyond: the rate tried one step beyond the grid, whose winner lay on its edge; None where it lay inside.
        uncertain: another rate is within one standard error of the winner: it was at least as good in one of two runs.
    """

    rates: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    failed: tuple[float, ...] = ()
    beyond: float | None = None
    uncertain: bool = False


class Failure(Card):
    """Why a job has no result.

    Attributes:
        environment: the fault of a disk, a device, memory or a node: says nothing of the job, and is never stored (`benchmark.faults`).
    """

    kind: str
    sentence: str
    traceback: str
    environment: Later[bool] = False


class Record(Card):
    """The result of one job, complete enough to re-score, resample and audit without recomputing it.

    Attributes:
        scale: "limited" for --limit or --profile runs and on a partial release: never ranked, never beside published numbers.
        phantom: True when the data was generated.
        path: which loop took the steps: "fused" is the one that trains linear heads side by side, equal to the plain one within 1e-5.
        micro_batches: pieces in which each batch passed for want of memory; equal to 1 up to rounding.
        metrics: test metrics by name; detection and Dice values are fractions in [0, 1].
        validation: metrics of the selected epoch on the validation split.
        counts: images and positives per split as used.
        sample_digests: SHA-256 of the ordered ids per split; under `<split> sorted` of the sorted ids, as papers' lists are compared;
            under `<split> files` of the bytes of their image files.
        predictions: files with predictions and per-image sufficient statistics, relative to the output folder, all in `predictions/<key>/`.
        file_digests: SHA-256 of each file of `predictions`; empty before a record is stored, and in older records.
        leakage: images and patients shared between the splits as used (`benchmark.readers.kit.audit`); aggregates only.
        anchors: anchor -> metric -> test score that needs no model (`benchmark.metrics.anchors`); empty for detection and in older records.
        account: of encoder tensors: loaded, missing, unexpected, ignored, wrong shape.
        input_size: side in pixels of the square that the encoder was given; None in older records, as the next two are empty there.
        grids: cells per side of each map that the head read, coarse ones first.
        macs: multiply-adds of "encoder" and "head" for one image (`benchmark.training.passage`); empty where they cannot be counted.
        checksum: SHA-256 of the canonical JSON of all other fields, as stored (`benchmark.integrity`); likewise empty.
        choice: how a final job's learning rate was chosen; None where one run a rate decides, nothing was searched, and in older records.
        not_needed: why nothing was computed, for a search beyond the edge of a grid whose winner lies inside; empty for all others.
        adopted_from: key under which an earlier release stored this result, where it was taken over (`benchmark.adopt`).
    """

    schema_version: int = SCHEMA_VERSION
    key: str
    job: Job
    status: Literal["ok", "failed"]
    scale: Literal["full", "limited"]
    phantom: bool
    redistribution: Literal["open", "ids", "none"]
    path: Literal["plain", "fused"] = "plain"
    micro_batches: int = 1
    metrics: dict[str, float] = {}
    validation: dict[str, float] = {}
    counts: dict[str, dict[str, int]] = {}
    sample_digests: dict[str, str] = {}
    leakage: dict[str, int] = {}
    anchors: dict[str, dict[str, float]] = {}
    learning_rate: float | None = None
    selected_epoch: int | None = None
    steps: int = 0
    curve: tuple[Epoch, ...] = ()
    parameters: dict[str, int] = {}
    account: dict[str, int] = {}
    predictions: tuple[str, ...] = ()
    file_digests: Later[dict[str, str]] = {}
    timings_s: dict[str, float] = {}
    peak_memory_bytes: int | None = None
    environment: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    finished_at: str = ""
    choice: Later[Choice | None] = None
    not_needed: Later[str] = ""
    adopted_from: Later[str | None] = None
    input_size: Later[int | None] = None
    grids: Later[tuple[int, ...]] = ()
    macs: Later[dict[str, int]] = {}
    checksum: Later[str] = ""


# Values that differ between two runs of one job without the result differing: left out of every comparison of records. (The checksum
# covers the others of them.)
VOLATILE_FIELDS = frozenset({"timings_s", "peak_memory_bytes", "environment", "finished_at", "checksum"})
