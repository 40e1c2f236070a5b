"""Every record is built in one place: it says the same of job and inputs for every outcome of the job."""

from __future__ import annotations

import pytest
import torch

from benchmark.training import record
from benchmark.training.data import load_part
from benchmark.training.options import RunOptions
from benchmark.training.record import Clock, failed

LINEAR, ZERO_SHOT = "rsna-linear-frozen-100", "rsna-labels-zero-shot-lobe"


def test_a_failed_record_says_of_job_and_inputs_what_a_finished_one_says(small, tiny):
    job, inputs = small.one(LINEAR, tiny())
    options = RunOptions(micro_batches=2)
    done, lost = small.fit(job, inputs, options), failed(job, inputs, options, RuntimeError("x"), 1.25)
    for field in ("key", "job", "scale", "phantom", "redistribution", "micro_batches"):
        assert getattr(done, field) == getattr(lost, field), field
    assert (done.status, lost.status) == ("ok", "failed")
    assert done.micro_batches == 2
    assert lost.timings_s == {"total": 1.25}


def test_memory_that_is_too_small_for_pieces_is_said_with_their_number(small, tiny):
    job, inputs = small.one(LINEAR, tiny())
    whole, pieces = (failed(job, inputs, RunOptions(micro_batches=n), MemoryError("no room")) for n in (1, 4))
    assert whole.failure.sentence == "MemoryError: no room"
    assert pieces.failure.sentence.startswith("Memory is too small even for batches in 4 pieces")


def test_a_job_that_trains_nothing_tells_of_its_splits_as_one_that_trains(small, tiny_words):
    job, inputs = small.one(ZERO_SHOT, tiny_words(), limit=10)
    record = small.fit(job, inputs)
    assert set(record.counts) == {"validation", "test"}
    assert all(set(counts) >= {"images", "positives", "boxes"} for counts in record.counts.values())
    assert record.leakage["train_images"] == 0
    assert record.leakage["test_images"] == record.counts["test"]["images"]
    validation, test = ({*load_part(job.experiment, inputs, name).patients} for name in ("validation", "test"))
    assert record.leakage["shared_patients_validation_test"] == len(validation & test) > 0  # thresholds see patients of the test
    assert set(record.timings_s) == {"data", "encoder", "features", "test", "storing"}
    assert record.parameters == {"trained": 0, "frozen": record.parameters["encoder"], "head": 0, "encoder": record.parameters["encoder"]}


def test_a_job_that_trains_nothing_says_that_its_images_passed_in_pieces(small, tiny_words):
    job, inputs = small.one(ZERO_SHOT, tiny_words(), limit=10)
    whole, pieces = small.fit(job, inputs), small.fit(job, inputs, RunOptions(micro_batches=8))
    most = RunOptions(micro_batches=8).most_at_once(job.experiment.recipe.batch_size)
    assert f"embedded at most {most} images at once: equal to whole batches up to rounding" in pieces.warnings
    assert not any("at once" in warning for warning in whole.warnings)
    assert pieces.metrics == pytest.approx(whole.metrics, abs=1e-4)


def test_a_package_that_is_not_installed_is_absent_in_the_environment(monkeypatch):
    def only_torch(package: str) -> str:
        if package != "torch":
            raise record.metadata.PackageNotFoundError(package)
        return "2.99"

    monkeypatch.setattr(record.metadata, "version", only_torch)
    found = record.environment(torch.device("cpu"))
    assert {found[package] for package in record.RECORDED_PACKAGES if package != "torch"} == {"absent"}
    assert found["torch"] == "2.99"
    assert found["python"]


def test_a_clock_goes_on_from_phases_that_ended_before():
    clock = Clock({"data": 2.0})
    clock.lap("training")
    assert list(clock.seconds) == ["data", "training"]
    assert clock.seconds["data"] == 2.0
    assert clock.seconds["training"] >= 0
