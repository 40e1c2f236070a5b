"""What was measured is remembered, and comes before what was guessed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark import registry
from benchmark.cards import BackboneRef, DatasetRef, EncoderMode, Epoch, Words
from benchmark.contents import drained
from benchmark.errors import LobeError
from benchmark.events import Finished
from benchmark.execute.costs import CUDA_CONTEXT_BYTES, MARGIN, START_S, Costs, batch_of, sizes_of
from benchmark.execute.equipment import Equipment
from benchmark.execute.forecast import forecast
from benchmark.execute.placing import Node
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import WorkUnit, units
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.readers.base import SPLITS, open_reader
from benchmark.training import data
from benchmark.training.inputs import Inputs
from benchmark.training.record import failed, not_needed
from benchmark.training.sizes import SplitSizes, chosen

LINEAR = "rsna-linear-frozen-100"


@pytest.fixture
def unit(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    return units(jobs, places)[0]


@pytest.fixture
def record(unit):
    made = failed(unit.jobs[0], unit.inputs, unit.options, RuntimeError("x"))
    done = {"status": "ok", "failure": None, "steps": 4, "timings_s": {"data": 1.0, "training": 8.0}, "peak_memory_bytes": 3 * 2**30}
    line = {"step": 2, "train_loss": 1.0, "validation_loss": 1.0, "learning_rate": 0.1, "metrics": {}}
    used = {"train": 12, "validation": 8, "test": 12}  # a tenth of the validation list is filled up to 8
    seen = {"counts": {name: {"images": n} for name, n in used.items()}, "curve": tuple(Epoch(epoch=i, **line) for i in range(2))}
    return made.model_copy(update=done | seen)


def on(node: Node) -> Equipment:
    return Equipment("cpu", (node,), "this machine")


def test_a_search_that_was_not_needed_is_no_measurement(unit, tmp_path: Path):
    costs = Costs(tmp_path / "costs.json")
    costs.note(not_needed(unit.jobs[0], unit.inputs, unit.options, "the winner lies inside"))
    assert not costs.measured(unit.jobs[0])


def test_a_search_beyond_the_grid_is_taken_to_be_not_needed(small, tiny):
    jobs, _ = small.plan(LINEAR, [tiny()], card={"protocols": ("lobe",)}, data={"normalised_by": "dataset"})
    (beyond, *_) = [job for job in jobs if job.experiment.extends_grid]
    assert Costs().seconds(beyond) < Costs().seconds(jobs[0])


def test_a_measured_job_takes_what_it_took_and_needs_what_it_needed(unit, record, tmp_path: Path):
    costs = Costs(tmp_path / "costs.json")
    assert not costs.measured(unit.jobs[0])
    assert costs.needs(unit).memory_bytes == registry.head("linear").memory_bytes
    costs.note(record, disk_bytes=1000)
    costs.save()
    again = Costs(tmp_path / "costs.json")
    assert again.seconds(unit.jobs[1]) == 9.0  # the same work with another seed
    assert again.unit_seconds(unit) == 18.0
    assert again.needs(unit).memory_bytes == int(3 * 2**30 * MARGIN)
    assert again.disk_bytes(unit.jobs[1]) == 1000


def test_a_longer_job_of_its_kind_is_expected_by_the_image(unit, record):
    """Ten times the steps in batches of 6, and ten times the epochs; decoding and the like once."""
    costs = Costs()
    costs.note(record)
    e = unit.jobs[0].experiment
    recipe = e.recipe.model_copy(update={"max_steps": 40, "max_epochs": 100})
    longer = unit.jobs[0].model_copy(update={"experiment": e.model_copy(update={"fraction": 0.5, "recipe": recipe})})
    assert costs.seconds(longer, unit.inputs) == pytest.approx(80.0 + 1.0)


def unet_units(sizes: SplitSizes, n_jobs: int = 2) -> list[WorkUnit]:
    """Fine-tuning jobs of a U-Net in batches of 16, over at most 30 epochs with a patience of 5; no file is read."""
    card, about = registry.task("covid-rural-unet-finetune-100"), registry.dataset("covid-rural")
    update = {"batch_size": 16, "max_epochs": 30, "patience": 5, "max_steps": None, "drop_last": True, "validation_subset": 1.0, "grid": ()}
    card = card.model_copy(update={"recipe": card.recipe.model_copy(update=update)})
    ref = DatasetRef(
        name=about.name,
        digest="d",
        split="lovt",
        split_rule=about.splits["lovt"],
        classes=about.classes,
        target="masks",
        intensity="as-stored",
        statistics=about.statistics,
    )
    backbone = NamedBackbone("b", BackboneRef(family="torchvision", model="resnet18", digest="0" * 64))
    jobs = plan([card], [backbone], {about.name: ref}, registry.protocol("published"), Settings(runs=n_jobs))
    inputs = Inputs(about, Path("/nowhere"), Path("/nowhere"), "resnet18", None, "none", False, True, sizes=sizes)
    return units(jobs, {job.key: inputs for job in jobs})


def test_a_forecast_counts_the_images_that_are_there():
    """Two jobs on 247 images, side by side on two cores.

    Nine batches of 16 an epoch, ten epochs: 1,440 images in steps and 490 in validations, then 50 in the test. A step is 0.21 s an image
    and a forward 0.35 of it: 0.21 · (1,440 + 0.35 · 540) = 342.09 s; half a second to build, half a second to score 50 images. Decoding
    247 images takes 7.41 s, the process 10.
    """
    made = unet_units(SplitSizes(148, 49, 50))
    told = forecast(made, Costs(), on(Node("a", cpus=2, memory_bytes=2**34)))
    assert Costs().unit_seconds(made[0]) == pytest.approx(343.09)
    assert told.seconds == pytest.approx(343.09 + 7.41 + 10)
    assert told.measured_jobs == 0


def test_ten_times_the_images_take_ten_times_as_long():
    sizes = [SplitSizes(160 * n, 50 * n, 50 * n) for n in (1, 10)]
    few, many = (forecast(unet_units(of), Costs(), on(Node("a", cpus=2))).seconds - START_S for of in sizes)
    assert many == pytest.approx(10 * few, rel=0.02)


def test_a_planned_job_is_priced_by_the_splits_of_its_folder(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], limit=None, batch_size=4, max_steps=None)
    (unit,) = units(jobs, places)
    reader = open_reader(unit.inputs.card, unit.inputs.dataset_root)
    counted = {name: len(ids) for name, ids in reader.split(jobs[0].experiment.dataset.split_rule).items()}
    assert sizes_of(jobs[0], unit.inputs) == SplitSizes(**counted)


def test_a_dataset_nobody_opened_has_the_images_of_its_card(unit):
    expected = unit.inputs.card.splits["lovt"].expected
    assert sizes_of(unit.jobs[0], replace(unit.inputs, sizes=None)).train == expected["train"].n_images


@pytest.mark.parametrize(("card", "limit"), [({}, 12), ({}, None), ({"fraction": 0.3}, 40), ({"fraction": 0.01}, 12)])
def test_what_is_priced_is_what_the_job_loads(small, tiny, card, limit):
    job, place = small.one(LINEAR, tiny(), limit=limit, card=card, batch_size=8)
    loaded, used = drained(data.load(job.experiment, place)), chosen(job.experiment, sizes_of(job, place))
    for name in SPLITS:  # positives may be added to a short list of a limited run
        assert 0 <= len(getattr(loaded, name)) - getattr(used, name) <= (data.MINIMUM_POSITIVES if limit else 0)
    assert batch_of(job, place) == loaded.batch_size


def test_a_guess_knows_head_mode_encoder_and_device(unit):
    """Of one job: more for fine-tuning, more through a deeper encoder, less on a GPU, and by the head."""
    job, place = unit.jobs[0], unit.inputs

    def guess(backbone: str = "resnet18", **update) -> float:
        e = job.experiment.model_copy(
            update={"backbone": job.experiment.backbone.model_copy(update={"model": backbone}), "limit": None, **update}
        )
        return Costs().seconds(job.model_copy(update={"experiment": e}), place)

    tuned = {"encoder": EncoderMode.FINETUNE}
    assert guess() < guess(**tuned) < guess("torchvision/resnet50", **tuned) < guess("vit_base_patch16_224", **tuned)
    assert guess(device_type="cuda", **tuned) < guess(**tuned)
    assert guess(head="linear") < guess(head="yolov3") < guess(head="unet") < guess(head="faster_rcnn")


def test_a_job_that_only_looks_is_priced_by_the_images_it_looks_at(unit, record):
    """Its time per image is that of all it saw, not of steps it never took."""
    e = unit.jobs[0].experiment
    asking = e.model_copy(update={"words": Words.model_construct(), "head": "zero_shot"})
    job = unit.jobs[0].model_copy(update={"experiment": asking})
    update = {"job": job, "steps": 0, "curve": (), "counts": {"test": {"images": 12}}, "timings_s": {"test": 6.0}}
    costs = Costs()
    costs.note(record.model_copy(update=update))
    other = job.model_copy(update={"experiment": asking.model_copy(update={"fraction": 0.5})})  # of its kind, not the very same
    fewer = replace(unit.inputs, sizes=SplitSizes(0, 0, 4))
    assert costs.seconds(other, fewer) == pytest.approx(6.0 / 12 * 4)


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
    event = Finished(failed(unit.jobs[0], unit.inputs, unit.options, MemoryError("no room")))
    assert schedule.retry(unit, event, share=0.5)
    retried = schedule.next()
    assert (retried.jobs, retried.growth) == (unit.jobs[:1], 1)
    said = Finished(failed(unit.jobs[0], unit.inputs, unit.options, LobeError("out of memory, says a person")))
    assert not schedule.retry(retried, said, share=0.5)
    other = Finished(failed(unit.jobs[0], unit.inputs, unit.options, ValueError("something else")))
    assert not schedule.retry(unit, other, share=0.5)


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
    while schedule.retry(unit, Finished(failed(unit.jobs[0], unit.inputs, unit.options, error)), share=1.0):
        unit = schedule.next()
        tried.append(unit.options.micro_batches)
        assert unit.growth == 1
    assert tried == [2, 4, 6]  # 12 training images of a limited job make batches of 6
    assert len(schedule) == 0
    record = failed(unit.jobs[0], unit.inputs, unit.options, error)
    assert record.failure.kind == "OutOfMemoryError"
    assert record.failure.sentence.startswith("Memory is too small even for batches in 6 pieces: use a device with more.")


def test_what_pieces_of_a_batch_needed_is_not_taken_for_what_a_batch_needs(unit, record):
    costs = Costs()
    costs.note(record.model_copy(update={"micro_batches": 2}))
    assert costs.measured(unit.jobs[0])
    assert costs.needs(unit).memory_bytes == registry.head("linear").memory_bytes


def test_without_a_cache_nothing_is_remembered(unit, record, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    costs = Costs()
    costs.note(record, disk_bytes=1000)
    costs.save()
    assert costs.seconds(unit.jobs[1]) == 9.0
    assert list(tmp_path.glob("**/*.json")) == []


def test_a_damaged_memory_is_no_memory(unit, tmp_path: Path):
    (tmp_path / "costs.json").write_text("{")
    assert not Costs(tmp_path / "costs.json").measured(unit.jobs[0])
