"""A job that was killed between two epochs and goes on from its checkpoint gives the bits of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.cards import VOLATILE_FIELDS, EncoderMode
from benchmark.events import EpochEnded
from benchmark.training import fit as fitting
from benchmark.training.checkpoint import path_of
from benchmark.training.options import RunOptions
from benchmark.training.shared_work import SharedWork

CASES = {
    "frozen head": ("rsna-linear-frozen-100", {}, {}),
    "fine-tuned, unfreezing after the kill": ("rsna-linear-frozen-100", {"encoder": EncoderMode.FINETUNE}, {"warmup_steps": 4}),
    "fine-tuned detection": ("rsna-yolov3-finetune-100", {}, {"warmup_steps": 1}),
}


def run(job, inputs, options: RunOptions | None = None, stop_after: int | None = None):
    """Record and files of a job, or None when it is abandoned after some epochs."""
    epochs = 0
    for event in fitting.fit(job, inputs, options or RunOptions(), 1e-2, SharedWork()):
        if isinstance(event, EpochEnded):
            epochs += 1
            if stop_after is not None and epochs > stop_after:
                return None, epochs
    return (event.record, event.files), epochs


def safe(tmp_path: Path) -> RunOptions:
    """A checkpoint after every epoch."""
    return RunOptions(checkpoints=tmp_path / "checkpoints", checkpoint_every_s=0.0)


@pytest.mark.parametrize("case", CASES)
def test_resumed_is_undisturbed_to_the_byte(small, tiny, tmp_path: Path, case: str):
    task, card, recipe = CASES[case]
    # Dropout draws from the global generator: its state must come back, too.
    budget = {"card": card, "max_steps": None, "max_epochs": 5, "patience": 5, **recipe}
    job, place = small.one(task, tiny(dropout=0.25), **budget)
    (whole, files), n_epochs = run(job, place)
    assert n_epochs == 5
    options = safe(tmp_path)
    lost, _ = run(job, place, options, stop_after=2)
    assert lost is None
    assert path_of(options.checkpoints, job.key).exists()
    (resumed, resumed_files), n_resumed = run(job, place, options)
    assert n_resumed == 3
    assert resumed.model_dump(exclude=VOLATILE_FIELDS) == whole.model_dump(exclude=VOLATILE_FIELDS)
    assert resumed_files == files


def test_a_torn_checkpoint_starts_the_job_again(small, tiny, tmp_path: Path):
    job, place = small.one("rsna-linear-frozen-100", tiny())
    options = safe(tmp_path)
    (whole, _), n_epochs = run(job, place, options)
    path = path_of(options.checkpoints, job.key)
    path.write_bytes(path.read_bytes()[:1000])
    (again, _), n_again = run(job, place, options)
    assert n_again == n_epochs
    assert again.metrics == whole.metrics


def test_between_two_saves_lies_the_interval(small, tiny, tmp_path: Path):
    job, place = small.one("rsna-linear-frozen-100", tiny())
    for every_s, there in ((3600.0, False), (0.0, True)):
        folder = tmp_path / f"every {every_s}"
        lost, _ = run(job, place, RunOptions(checkpoints=folder, checkpoint_every_s=every_s), stop_after=1)
        assert lost is None
        assert path_of(folder, job.key).exists() is there


def test_a_checkpoint_of_another_learning_rate_is_not_used(small, tiny, tmp_path: Path):
    job, place = small.one("rsna-linear-frozen-100", tiny())
    options = safe(tmp_path)
    run(job, place, options, stop_after=2)
    first = next(e for e in fitting.fit(job, place, options, 1e-3, SharedWork()) if isinstance(e, EpochEnded))
    assert first.epoch.epoch == 0


def test_a_disk_that_takes_no_checkpoint_does_not_stop_the_job(small, tiny, tmp_path: Path):
    job, place = small.one("rsna-linear-frozen-100", tiny())
    (tmp_path / "a file").write_text("")
    (record, _), _ = run(job, place, RunOptions(checkpoints=tmp_path / "a file" / "below", checkpoint_every_s=0.0))
    assert record.status == "ok"
