"""Memory that is too small for a batch costs time, never another number; where it would, one job fails and says why."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.cards import EncoderMode, Role
from benchmark.events import Finished
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import run_unit, units
from benchmark.heads.networks.linear_stack import LinearStack

LINEAR = "rsna-linear-frozen-100"
FINETUNE = {"encoder": EncoderMode.FINETUNE}
# The device of these tests holds so many images; a backbone's contract is checked with two.
DEVICE = "if len(images) > int(os.environ.get('TINY_DEVICE', 99)): raise torch.OutOfMemoryError('CUDA out of memory.')"
GROUPS = "torch.manual_seed(5); made = Tiny()\n    for s, w in WIDTHS.items(): made.stages[str(s)][1] = nn.GroupNorm(2, w)\n    return made"


def run(jobs, places) -> dict:
    finished = [e.record for e in InlineExecutor().run(Schedule(units(jobs, places))) if isinstance(e, Finished)]
    assert len(finished) == len({record.key for record in finished})  # nobody hears of an attempt that is repeated
    return {record.key: record for record in finished}


def assert_same(found: dict, undisturbed: dict) -> None:
    assert found.keys() == undisturbed.keys()
    for key, record in found.items():
        assert (record.status, record.steps) == ("ok", undisturbed[key].steps)
        assert record.learning_rate == undisturbed[key].learning_rate
        assert record.metrics == pytest.approx(undisturbed[key].metrics, abs=1e-3)


def test_a_fine_tuning_job_ends_in_micro_batches_with_its_own_numbers(small, tiny, monkeypatch):
    jobs, places = small.plan(LINEAR, [tiny(at_build=GROUPS, at_pyramid=DEVICE)], card=FINETUNE, batch_size=5, drop_last=False)
    undisturbed = run(jobs, places)
    monkeypatch.setenv("TINY_DEVICE", "2")
    found = run(jobs, places)
    assert_same(found, undisturbed)
    assert [record.micro_batches for record in found.values()] == [4]
    assert [record.micro_batches for record in undisturbed.values()] == [1]


def test_frozen_features_and_linear_heads_need_no_whole_batch_either(small, tiny, monkeypatch):
    """Selection and final runs share a unit and train side by side; afterwards each comes back alone, the final ones last."""
    jobs, places = small.plan(LINEAR, [tiny(at_pyramid=DEVICE)], grid=(0.01, 0.1), runs=2, batch_size=6)
    assert {job.experiment.role for job in jobs} == {Role.SELECTION, Role.FINAL}
    undisturbed = run(jobs, places)
    gradients = LinearStack.gradients

    def on_the_device(self, members, pyramid, masks):
        if len(masks) > 2:
            raise MemoryError
        return gradients(self, members, pyramid, masks)

    monkeypatch.setattr(LinearStack, "gradients", on_the_device)
    monkeypatch.setenv("TINY_DEVICE", "2")
    assert_same(run(jobs, places), undisturbed)


def test_a_job_with_batchnorm_fails_with_a_sentence_and_the_others_finish(small, tiny, monkeypatch):
    monkeypatch.setenv("TINY_DEVICE", "2")
    norms = small.plan(LINEAR, [tiny("norms", at_pyramid=DEVICE)], card=FINETUNE, batch_size=4)
    groups = small.plan(LINEAR, [tiny("groups", at_build=GROUPS, at_pyramid=DEVICE)], card=FINETUNE, batch_size=4)
    found = run([*norms[0], *groups[0]], norms[1] | groups[1])
    assert [found[job.key].status for job in groups[0]] == ["ok"]
    (failure,) = (found[job.key].failure for job in norms[0])
    assert (failure.kind, failure.environment) == ("TooLittleMemory", True)
    assert failure.sentence == (
        "A batch of 4 images does not fit into memory, and micro-batches would train another model: encoder.backbone.stages.2.1 is a "
        "BatchNorm, whose statistics are taken over the whole batch. Use a device with more memory, or --workers-per-job N: N GPUs share "
        "each batch, and its statistics stay the whole batch's."
    )


def test_what_never_fits_is_tried_with_ever_smaller_pieces_and_then_fails(small, tiny, monkeypatch):
    jobs, places = small.plan(LINEAR, [tiny(at_build=GROUPS)], card=FINETUNE, batch_size=6)
    attempts = []

    def train(*arguments):
        attempts.append(arguments[0].most)
        raise torch.OutOfMemoryError("CUDA out of memory.")
        yield

    monkeypatch.setattr("benchmark.training.fit.train", train)
    (record,) = run(jobs, places).values()
    assert attempts == [None, 3, 2, 1]
    assert (record.status, record.failure.kind) == ("failed", "OutOfMemoryError")
    assert record.failure.sentence.startswith("Memory is too small even for batches in 6 pieces: use a device with more.")


def test_a_process_that_may_have_all_of_a_device_is_told_so(small, tiny, monkeypatch):
    """It may have run a unit with a smaller share before."""
    (unit,) = units(*small.plan(LINEAR, [tiny()]))
    given = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", given.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for share in (0.0, 0.25, 1.0):
        next(run_unit(replace(unit, gpu_share=share)))
    assert given == [0.25, 1.0]
