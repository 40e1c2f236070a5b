"""The steps of `make gpu`, each in a process of its own: what the product does on this device, and what it found.

Jobs are those of `lobe run` on generated images, limited so that a batch is the protocol's, with a budget of steps. Without a GPU the same
runs with a smaller backbone, small frames, a few images and steps: every line then says so.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
from torch import distributed

from benchmark import plan, registry
from benchmark.api import Request, evaluate, plan_jobs
from benchmark.cards import VOLATILE_FIELDS, Record
from benchmark.errors import LobeError
from benchmark.events import Finished
from benchmark.execute.work import WorkUnit, run_unit
from benchmark.machine import usable_cores
from benchmark.training import fit as fitting
from benchmark.training.determinism import prepare_process
from benchmark.training.model import Model
from benchmark.training.shared_work import SharedWork
from benchmark.training.sizes import batch_size
from tests.frames import small_frames
from tests.perf import gpu
from tests.perf.alternatives import tracing
from tests.perf.corpus import corpus
from tests.perf.gpu_report import Line

TASKS = ("rsna-linear-frozen-100", "siim-unet-finetune-100", "rsna-yolov3-finetune-100")
SHARED = TASKS[0]  # by two processes
LABELS = "siim-labels-linear-finetune-100-lobe"  # has no BatchNorm of its own
PATIENTS_SMALL, LIMIT_SMALL, STEPS_SMALL = 16, 4, 2
SHOWN = 5  # differences


@dataclass(frozen=True)
class Scale:
    """How large the check is: the protocol's batches on a GPU, a few images on a CPU."""

    device_type: Literal["cpu", "cuda"]
    folder: Path

    @property
    def small(self) -> bool:
        return self.device_type == "cpu"

    @property
    def root(self) -> Path:
        """Generated images of both datasets."""
        if self.small:
            make = partial(corpus, self.folder, n_patients=PATIENTS_SMALL, images_per_patient=(1, 1), positive_share=0.5)
        else:
            make = partial(corpus, self.folder, n_patients=gpu.PATIENTS, workers=min(usable_cores(), 8))
        make("rsna")
        return make("siim")

    def request(self, task: str, out: str, backbone: str | None = None, limit_small: int = LIMIT_SMALL, **more: Any) -> Request:
        """What `lobe run` would be asked; one `out` keeps what is stored in it."""
        return Request(
            backbones=[backbone or f"torchvision:{'resnet18' if self.small else 'resnet50'}"],
            tasks=[task],
            data=[str(self.root)],
            out=self.folder / out,
            cache=self.folder / "cache",
            executor="inline",
            protocol=registry.task(task).protocols[0],
            runs=1,
            limit=limit_small if self.small else gpu.LIMIT,
            profile="smoke",
            tracking=False,
            **more,
        )

    def steps(self) -> AbstractContextManager:
        """The smoke budget; on a CPU it is cut, and so are the frames."""
        cut = ExitStack()
        if self.small:
            cut.enter_context(mock.patch.object(plan, "smoke_steps", return_value=STEPS_SMALL))
            cut.enter_context(small_frames())
        return cut

    def evaluated(self, task: str, out: str, backbone: str | None = None, **more: Any) -> Record:
        """The record of the task's one job.

        Raises:
            LobeError: the job failed.
        """
        record = evaluate(self.request(task, out, backbone, **more)).records[-1]
        if record.failure is not None:
            raise LobeError(f"{task}: {record.failure.sentence}\n{record.failure.traceback}")
        return record

    def unit(self, task: str) -> WorkUnit:
        return plan_jobs(self.request(task, "planned")).todo[-1]


def run(name: str, folder: Path) -> Iterator[Line]:
    """The lines of a step, each as soon as it is known.

    Raises:
        Exception: the step stopped on it.
    """
    scale = Scale("cuda" if torch.cuda.is_available() else "cpu", folder)
    with scale.steps():
        for line in RUN[name](scale):
            yield line.model_copy(update={"what": f"{line.what} (on the CPU, small)"}) if scale.small else line


def machine(scale: Scale) -> Iterator[Line]:
    if scale.small:
        yield Line(what="no CUDA device", outcome="ok", values={"device": "none: on the CPU, small"})
    else:
        about = torch.cuda.get_device_properties(0)
        found: dict[str, float | int | str] = {"device": about.name, "devices": torch.cuda.device_count()}
        found |= {
            "GiB of a device": round(about.total_memory / 2**30, 1),
            "capability": f"{about.major}.{about.minor}",
            "CUDA": str(torch.version.cuda),
            "cuDNN": torch.backends.cudnn.version() or 0,
        }
        yield Line(what="the device", outcome="ok", values=found)
    began = time.monotonic()
    root = scale.root
    n = sum(path.suffix == ".dcm" for path in root.rglob("*"))
    yield Line(what="generated images", outcome="ok", values={"images": n, "seconds": round(time.monotonic() - began, 1)})


def tasks(scale: Scale) -> Iterator[Line]:
    for task in TASKS:
        try:
            yield _as_protocol(scale, scale.evaluated(task, "first"))
        except LobeError as error:  # the others are still worth a look
            yield Line(what=task, outcome="failed", detail=str(error))


def _as_protocol(scale: Scale, record: Record) -> Line:
    """A line on a run: failed if it was not on this device, in its precision, at the protocol's batch."""
    e, n_train = record.job.experiment, record.counts["train"]["images"]
    batch = batch_size(e.recipe, e.limit, n_train)
    values = {
        "batch": batch,
        "steps": record.steps,
        "training, images/s": round(record.steps * batch / max(record.timings_s["training"], 1e-9), 1),
        "peak, GiB": round((record.peak_memory_bytes or 0) / 2**30, 2),
        **({e.report: round(record.metrics[e.report], 4)} if e.report in record.metrics else {}),
        **{f"{name}, s": seconds for name, seconds in record.timings_s.items()},
    }
    wanted = (scale.device_type, "float32" if scale.small else "float16")
    right = (e.device_type, e.precision) == wanted and (scale.small or batch == e.recipe.batch_size) and record.micro_batches == 1
    how = f"{e.device_type}, {e.precision}, {record.environment.get('device', '')}"
    return Line(what=record.job.labels.task, outcome="ok" if right else "failed", detail=how, values=values)


def twice(scale: Scale) -> Iterator[Line]:
    """In two folders; the first is that of `tasks`, whose result is not computed again."""
    for task in TASKS[:1] if scale.small else TASKS:
        one, other = (scale.evaluated(task, out) for out in ("first", "again"))
        files = [{path: (scale.folder / out / path).read_bytes() for path in one.predictions} for out in ("first", "again")]
        yield _compared(f"{task}, again", one, other, *files)


def _compared(what: str, one: Record, other: Record, files: dict[str, bytes], others: dict[str, bytes]) -> Line:
    """A line on two results that should be one; which values and files differ, if any do."""
    values, theirs = (dict(_flat(record.model_dump(mode="json", exclude=set(VOLATILE_FIELDS)))) for record in (one, other))
    names = sorted(name for name in values.keys() | theirs.keys() if values.get(name) != theirs.get(name))
    names += sorted(name for name in files.keys() | others.keys() if files.get(name) != others.get(name))
    if not names:
        return Line(what=what, outcome="ok", detail=f"equal to the bit: {len(values)} values of the record and {len(files)} files")
    apart = [abs(a - b) for name in names if isinstance(a := values.get(name), float) and isinstance(b := theirs.get(name), float)]
    some = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    return Line(what=what, outcome="differs", detail=some, values={"largest difference of a value": max(apart, default=0.0)})


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def sharing(scale: Scale) -> Iterator[Line]:
    """One process with the device to itself, then two with half of its memory each, at once."""
    unit = scale.unit(SHARED)
    alone = _forked(scale, [partial(_keep, unit, 0.0 if scale.small else 1.0, scale.folder / "alone")])
    beside = _forked(scale, [partial(_keep, unit, 0.0 if scale.small else 0.5, scale.folder / f"beside-{i}") for i in range(2)])
    (first, files), *both = [_kept(scale.folder / name) for name in ("alone", "beside-0", "beside-1")]
    for i, (record, others) in enumerate(both):
        line = _compared(f"{SHARED}, process {i + 1} of two at once", first, record, files, others)
        yield line.model_copy(update={"values": {**line.values, "alone, s": round(alone, 1), "two at once, s": round(beside, 1)}})


def _forked(scale: Scale, targets: list[partial]) -> float:
    """Seconds until processes that start at once have ended; each meets CUDA for itself."""
    assert not torch.cuda.is_initialized()
    prepare_process(1)  # no pool of threads is lost in a fork
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=target) for target in targets]
    began = time.monotonic()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise LobeError(f"A process ended with {[process.exitcode for process in processes]}; the log has its words.")
    return time.monotonic() - began


def _keep(unit: WorkUnit, share: float, folder: Path) -> None:
    """Runs a unit as every executor does and keeps what it made."""
    finished = [event for event in run_unit(replace(unit, gpu_share=share)) if isinstance(event, Finished)][-1]
    _write(folder, finished.record, dict(finished.files))


def _write(folder: Path, record: Record, files: dict[str, bytes]) -> None:
    (folder / "files").mkdir(parents=True)
    for name, content in files.items():
        (folder / "files" / name).write_bytes(content)
    (folder / "record.json").write_text(record.model_dump_json(), encoding="utf-8")


def _kept(folder: Path) -> tuple[Record, dict[str, bytes]]:
    record = Record.model_validate_json((folder / "record.json").read_text(encoding="utf-8"))
    if record.failure is not None:
        raise LobeError(f"{record.failure.sentence}\n{record.failure.traceback}")
    return record, {path.name: path.read_bytes() for path in (folder / "files").iterdir()}


def memory(scale: Scale) -> Iterator[Line]:
    """A network without BatchNorm, first with room for its batches, then with less."""
    backbone = f"timm:{'vit_tiny' if scale.small else 'vit_small'}_patch16_224"
    whole = scale.evaluated(LABELS, "roomy", backbone, limit_small=2 * LIMIT_SMALL)
    peak = whole.peak_memory_bytes or 0
    with _less_memory(scale, peak):
        pieces = scale.evaluated(LABELS, "tight", backbone, limit_small=2 * LIMIT_SMALL)
    losses = [abs(a.train_loss - b.train_loss) for a, b in zip(whole.curve[:1], pieces.curve[:1], strict=True)]
    values = {"pieces": pieces.micro_batches, "peak of whole batches, GiB": round(peak / 2**30, 2)}
    values |= {"peak in pieces, GiB": round((pieces.peak_memory_bytes or 0) / 2**30, 2), "first epoch's loss apart": max(losses)}
    near = max(losses) < (1e-4 if scale.small else 1e-2)
    yield Line(
        what=f"{LABELS} on {backbone}",
        outcome="ok" if pieces.micro_batches > 1 and near else "failed",
        detail="running out of memory was pretended for whole batches"
        if scale.small
        else "two thirds of what whole batches took were left",
        values=values,
    )


def _less_memory(scale: Scale, peak: int) -> AbstractContextManager:
    """Two thirds of the memory whole batches took; a CPU pretends, for more than two images."""
    if not scale.small:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(peak * 2 / 3 / total, 1.0))
        return nullcontext()
    whole = Model.outputs_at_once

    def outputs(self: Model, part: Any, index: Any) -> Any:
        if len(index) > 2:
            raise torch.OutOfMemoryError("out of memory, pretended")
        return whole(self, part, index)

    return mock.patch.object(Model, "outputs_at_once", outputs)


def compile_(scale: Scale) -> Iterator[Line]:
    """Against the run of `tasks` that was not compiled. On a CPU the network is traced and not compiled, which would take minutes."""
    task = LABELS if scale.small else TASKS[1]
    plain = scale.evaluated(task, "first")
    with tracing() if scale.small else nullcontext():
        record = scale.evaluated(task, "compiled", compiled=True)
    apart = max(abs(a.train_loss - b.train_loss) for a, b in zip(plain.curve[:1], record.curve[:1], strict=True))
    said = any("torch.compile" in warning for warning in record.warnings)
    values = {"first epoch's loss apart": apart, "compiling, s": record.timings_s.get("compiling", 0.0)}
    values |= {"training, s": record.timings_s["training"], "training uncompiled, s": plain.timings_s["training"]}
    how = ("traced" if scale.small else "compiled") if said else "not compiled"
    yield Line(what=task, outcome="ok" if said and apart < 5e-2 else "failed", detail=how, values=values)


def several(scale: Scale) -> Iterator[Line]:
    """As Ray Train would connect them; without Ray."""
    task, n_devices = LABELS if scale.small else TASKS[1], torch.cuda.device_count()
    if not scale.small and n_devices < 2:
        yield Line(what=f"{task} over two devices", outcome="not run", detail=f"{n_devices} device is here")
        return
    unit = scale.unit(task)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    seconds = _forked(scale, [partial(_share, scale, unit, rank, port) for rank in range(2)])
    record, _ = _kept(scale.folder / "several")
    one = scale.evaluated(task, "first")
    apart = max(abs(a.train_loss - b.train_loss) for a, b in zip(one.curve[:1], record.curve[:1], strict=True))
    values = {"first epoch's loss apart": apart, "seconds": round(seconds, 1), "training, s": record.timings_s["training"]}
    values["training on one, s"] = one.timings_s["training"]
    said = any("2 processes" in warning for warning in record.warnings)
    near = apart < (1e-4 if scale.small else 1e-2)
    how = "two processes by gloo" if scale.small else "two devices by NCCL"
    yield Line(what=task, outcome="ok" if said and near else "failed", detail=how, values=values)


def _share(scale: Scale, unit: WorkUnit, rank: int, port: int) -> None:
    """One of two processes that share each batch of the unit's job; the first keeps the record."""
    if not scale.small:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(rank)  # as Ray does
    job = unit.jobs[0]
    prepare_process(job.experiment.threads)
    where = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo" if scale.small else "nccl", init_method=where, rank=rank, world_size=2)
    try:
        rate = job.experiment.learning_rate or job.experiment.recipe.learning_rate
        events = list(fitting.fit(job, unit.inputs, unit.options, rate, SharedWork()))
        finished = [event for event in events if isinstance(event, Finished)]
    finally:
        distributed.destroy_process_group()
    if rank == 0:
        _write(scale.folder / "several", finished[-1].record, dict(finished[-1].files))


def rows(scale: Scale) -> Iterator[Line]:
    given = {"tasks": TASKS[:1]} if scale.small else {}
    for row in gpu.measure(scale.small, scale.folder, scale.device_type, other_ways=False, **given):
        values = {"plain, ms": row.plain.median * 1000, "ours, ms": row.fast.median * 1000, "ours / plain": row.ratio, **row.details}
        values |= {"difference": row.difference if row.difference is not None else "none"}
        reached = "" if row.target is None or scale.small else f"; at most {row.target:g}: {'reached' if row.reached else 'not reached'}"
        yield Line(what=row.what, outcome="ok" if row.equal else "failed", detail=f"{row.compared} compared{reached}", values=values)


RUN = {
    "machine": machine,
    "tasks": tasks,
    "twice": twice,
    "sharing": sharing,
    "memory": memory,
    "compile": compile_,
    "several": several,
    "rows": rows,
}
