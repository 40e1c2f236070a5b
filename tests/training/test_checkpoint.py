"""A job that was killed between two epochs and goes on from its checkpoint gives the bits of one that was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cards import VOLATILE_FIELDS, EncoderMode, Epoch
from benchmark.training import fit as fitting
from benchmark.training.checkpoint import path_of

CASES = {
    "frozen head": ("rsna-linear-frozen-100", {}, {}),
    "fine-tuned, unfreezing after the kill": ("rsna-linear-frozen-100", {"encoder": EncoderMode.FINETUNE}, {"warmup_steps": 4}),
    "fine-tuned detection": ("rsna-yolov3-finetune-100", {}, {"warmup_steps": 1}),
}


def run(job, place, folder: Path, stop_after: int | None = None):
    """Record and files of a job, or None when it is abandoned after some epochs."""
    folder.mkdir()
    epochs = 0
    for event in fitting.fit(job, place, folder, 1e-2, fitting.Bench()):
        if isinstance(event, Epoch):
            epochs += 1
            if stop_after is not None and epochs > stop_after:
                return None, epochs
    return (event, {p.name: p.read_bytes() for p in folder.iterdir()}), epochs


@pytest.mark.parametrize("case", CASES)
def test_resumed_is_undisturbed_to_the_byte(small, tiny, tmp_path: Path, case: str):
    task, card, recipe = CASES[case]
    # Dropout draws from the global generator: its state must come back, too.
    options = {"card": card, "max_steps": None, "max_epochs": 5, "patience": 5, **recipe}
    job, place = small.one(task, tiny(dropout=0.25), **options)
    (whole, files), n_epochs = run(job, place, tmp_path / "whole")
    assert n_epochs == 5
    safe = replace(place, checkpoints=tmp_path / "checkpoints", checkpoint_every_s=0.0)
    lost, _ = run(job, safe, tmp_path / "lost", stop_after=2)
    assert lost is None
    assert path_of(safe.checkpoints, job.key).exists()
    (resumed, resumed_files), n_resumed = run(job, safe, tmp_path / "resumed")
    assert n_resumed == 3
    assert resumed.model_dump(exclude=VOLATILE_FIELDS) == whole.model_dump(exclude=VOLATILE_FIELDS)
    assert resumed_files == files


def test_a_torn_checkpoint_starts_the_job_again(small, tiny, tmp_path: Path):
    job, place = small.one("rsna-linear-frozen-100", tiny())
    safe = replace(place, checkpoints=tmp_path / "checkpoints", checkpoint_every_s=0.0)
    (whole, _), n_epochs = run(job, safe, tmp_path / "whole")
    path = path_of(safe.checkpoints, job.key)
    path.write_bytes(path.read_bytes()[:1000])
    (again, _), n_again = run(job, safe, tmp_path / "again")
    assert n_again == n_epochs
    assert again.metrics == whole.metrics


def test_a_checkpoint_of_another_learning_rate_is_not_used(small, tiny, tmp_path: Path):
    job, place = small.one("rsna-linear-frozen-100", tiny())
    safe = replace(place, checkpoints=tmp_path / "checkpoints", checkpoint_every_s=0.0)
    run(job, safe, tmp_path / "first", stop_after=2)
    (tmp_path / "second").mkdir()
    epochs = [e for e in fitting.fit(job, safe, tmp_path / "second", 1e-3, fitting.Bench()) if isinstance(e, Epoch)]
    assert epochs[0].epoch == 0


def test_a_disk_that_takes_no_checkpoint_does_not_stop_the_job(small, tiny, tmp_path: Path):
    job, place = small.one("rsna-linear-frozen-100", tiny())
    (tmp_path / "a file").write_text("")
    (record, _), _ = run(job, replace(place, checkpoints=tmp_path / "a file" / "below", checkpoint_every_s=0.0), tmp_path / "x")
    assert record.status == "ok"
