"""What was measured is remembered, and comes before what was guessed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.errors import LobeError
from benchmark.execute.costs import CUDA_CONTEXT_BYTES, MARGIN, MEMORY_BYTES, Costs
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import Finished, failed, units

LINEAR = "rsna-linear-frozen-100"


@pytest.fixture
def unit(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    return units(jobs, places)[0]


@pytest.fixture
def record(unit):
    made = failed(unit.jobs[0], unit.place, RuntimeError("x"))
    done = {"status": "ok", "failure": None, "steps": 4, "timings_s": {"data": 1.0, "training": 8.0}, "peak_memory_bytes": 3 * 2**30}
    return made.model_copy(update=done)


def test_a_measured_job_takes_what_it_took_and_needs_what_it_needed(unit, record, tmp_path: Path):
    costs = Costs(tmp_path / "costs.json")
    assert not costs.measured(unit.jobs[0])
    assert costs.needs(unit).memory_bytes == MEMORY_BYTES
    costs.note(record, disk_bytes=1000)
    costs.save()
    again = Costs(tmp_path / "costs.json")
    assert again.seconds(unit.jobs[1]) == 9.0  # the same work with another seed
    assert again.unit_seconds(unit) == 18.0
    assert again.needs(unit).memory_bytes == int(3 * 2**30 * MARGIN)
    assert again.disk_bytes(unit.jobs[1]) == 1000


def test_a_longer_job_of_its_kind_is_expected_by_the_image(unit, record):
    costs = Costs()
    costs.note(record)
    e = unit.jobs[0].experiment
    longer = unit.jobs[0].model_copy(
        update={"experiment": e.model_copy(update={"fraction": 0.5, "recipe": e.recipe.model_copy(update={"max_steps": 40})})}
    )
    assert costs.seconds(longer) == pytest.approx(80.0)


def on_gpu(unit):
    jobs = tuple(j.model_copy(update={"experiment": j.experiment.model_copy(update={"device_type": "cuda"})}) for j in unit.jobs)
    return replace(unit, jobs=jobs)


def test_a_gpu_job_nobody_measured_has_a_device_of_its_own(unit, record):
    gpu, costs = on_gpu(unit), Costs()
    assert (costs.needs(gpu).n_gpus, costs.needs(gpu).gpu_bytes) == (1, None)
    costs.note(record.model_copy(update={"job": gpu.jobs[0]}))
    share = int(3 * 2**30 * MARGIN + CUDA_CONTEXT_BYTES)
    assert costs.needs(gpu).gpu_bytes == share
    assert costs.needs(replace(gpu, growth=1)).gpu_bytes == 2 * share
    assert costs.needs(replace(gpu, workers=4)).n_gpus == 4
    assert costs.needs(unit).n_gpus == 0


def test_out_of_memory_comes_back_with_more_until_it_had_all(unit):
    schedule = Schedule([])
    event = Finished(failed(unit.jobs[0], unit.place, MemoryError("no room")))
    assert schedule.again(unit, event, share=0.5)
    retried = schedule.next()
    assert (retried.jobs, retried.growth) == (unit.jobs[:1], 1)
    assert not schedule.again(retried, Finished(failed(unit.jobs[0], unit.place, LobeError("out of memory, says a person"))), share=0.5)
    other = Finished(failed(unit.jobs[0], unit.place, ValueError("something else")))
    assert not schedule.again(unit, other, share=0.5)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["python", "cuda", "cpu", "driver", "cublas"],
)
def test_with_all_there_is_batches_are_halved_down_to_one_image_and_then_it_ends(unit, error):
    schedule, tried = Schedule([unit]), []
    unit = replace(schedule.next(), growth=1)
    while schedule.again(unit, Finished(failed(unit.jobs[0], unit.place, error)), share=1.0):
        unit = schedule.next()
        tried.append(unit.place.micro_batches)
        assert unit.growth == 1
    assert tried == [2, 4, 8, 12]  # a batch of this limited job has at most 12 images
    assert len(schedule) == 0
    record = failed(unit.jobs[0], unit.place, error)
    assert record.failure.kind == "OutOfMemoryError"
    assert record.failure.sentence.startswith("Memory is too small even for batches in 12 pieces: use a device with more.")


def test_what_pieces_of_a_batch_needed_is_not_taken_for_what_a_batch_needs(unit, record):
    costs = Costs()
    costs.note(record.model_copy(update={"micro_batches": 2}))
    assert costs.measured(unit.jobs[0])
    assert costs.needs(unit).memory_bytes == MEMORY_BYTES


def test_a_damaged_memory_is_no_memory(unit, tmp_path: Path):
    (tmp_path / "costs.json").write_text("{")
    assert not Costs(tmp_path / "costs.json").measured(unit.jobs[0])
