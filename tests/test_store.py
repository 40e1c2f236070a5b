"""What the store promises: a record is there whole or not at all, nothing damaged passes for a result, one driver at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import BackboneRef, DatasetRef, Epoch, Job, Normalisation, Record, SplitRule
from benchmark.errors import StoreError
from benchmark.files import write_atomically
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.store import Store


@pytest.fixture
def job() -> Job:
    data = DatasetRef(
        name="rsna",
        digest="d",
        split="lovt",
        split_rule=SplitRule(rule="permutation", seed=123),
        classes=("opacity",),
        target="masks",
        intensity="as-stored",
        statistics=Normalisation(mean=(0.5,), std=(0.25,)),
    )
    backbone = NamedBackbone("resnet18 (random)", BackboneRef(family="torchvision", model="resnet18", digest=None))
    card = registry.task("rsna-linear-frozen-100")
    return plan([card], [backbone], {"rsna": data}, registry.protocol("published"), Settings(runs=1, profile="smoke"))[0]


def again(job: Job, run: int = 0, experiment: dict | None = None, labels: dict | None = None) -> Job:
    """The same job as another run, with changes."""
    changed = job.experiment.model_copy(update={"head_seed": 100 + run, **(experiment or {})})
    return job.model_copy(update={"experiment": changed, "labels": job.labels.model_copy(update={"run": run, **(labels or {})})})


def test_a_plan_with_fewer_runs_forgets_the_others_and_nothing_else(tmp_path: Path, job):
    store = Store(tmp_path)
    assert store.planned() == []
    elsewhere = [
        again(job, labels={"backbone": "another"}, experiment={"threads": 2}),
        again(job, labels={"task": "rsna-linear-frozen-10"}, experiment={"fraction": 0.1}),
        again(job, labels={"protocol": "corrected"}, experiment={"order_seed": 5}),
        again(job, experiment={"dataset": job.experiment.dataset.model_copy(update={"split": "size-matched"})}),
        again(job, experiment={"limit": 16}),
        again(job, experiment={"profile": "full"}),
    ]
    store.plan([again(job, run) for run in range(5)] + elsewhere)
    assert len(store.planned()) == 11
    kept = [again(job, run) for run in range(2)]
    store.plan(kept)
    assert {j.key for j in store.planned()} == {j.key for j in kept + elsewhere}


@pytest.mark.parametrize("name", ["planned.json", "planned.jsonl"])
def test_a_damaged_plan_is_named(tmp_path: Path, name: str):
    (tmp_path / name).write_text("[{}\n")
    for work in (Store(tmp_path).planned, lambda: Store(tmp_path).plan([])):
        with pytest.raises(StoreError, match=rf"{name} is damaged"):
            work()


def record(job, **changes) -> Record:
    given = {
        "key": job.key,
        "job": job,
        "status": "ok",
        "scale": "limited",
        "phantom": True,
        "redistribution": "open",
        "metrics": {"opacity_dice": 0.1 + 0.2},
    }
    return Record(**{**given, **changes})


def test_a_record_comes_back_to_the_last_digit(tmp_path: Path, job):
    line = Epoch(epoch=0, step=1, train_loss=1 / 3, validation_loss=2 / 3, learning_rate=1e-3, metrics={"opacity_dice": 1e-17})
    stored = Store(tmp_path).put(record(job, curve=(line,)), {"masks.json": b"{}"})
    assert Store(tmp_path).get(job.key) == stored
    assert (tmp_path / stored.predictions[0]).read_bytes() == b"{}"


def test_no_record_is_none_and_all_lists_what_is_there(tmp_path: Path, job):
    store = Store(tmp_path)
    assert store.get(job.key) is None
    store.put(record(job))
    assert [r.key for r in store.all()] == [job.key]


def test_a_truncated_record_is_an_error_and_not_a_result(tmp_path: Path, job):
    store = Store(tmp_path)
    store.put(record(job))
    path = store.path(job.key)
    path.write_text(path.read_text()[:200])
    with pytest.raises(StoreError, match="damaged"):
        store.get(job.key)


def test_an_edited_experiment_no_longer_belongs_to_its_key(tmp_path: Path, job):
    store = Store(tmp_path)
    store.put(record(job))
    path = store.path(job.key)
    raw = json.loads(path.read_text())
    raw["job"]["experiment"]["head_seed"] += 1
    path.write_text(json.dumps(raw))
    with pytest.raises(StoreError, match="does not belong to its key"):
        store.get(job.key)


def test_a_limited_run_edited_to_look_full_is_refused(tmp_path: Path, job):
    store = Store(tmp_path)
    store.put(record(job))
    path = store.path(job.key)
    path.write_text(path.read_text().replace('"scale": "limited"', '"scale": "full"'))
    with pytest.raises(StoreError, match="says that its run was full, but its job is limited"):
        store.get(job.key)
    with pytest.raises(StoreError, match="was edited"):
        store.all()


def test_a_record_of_a_newer_schema_asks_for_an_update(tmp_path: Path, job):
    store = Store(tmp_path)
    store.put(record(job))
    path = store.path(job.key)
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 99', 1))
    with pytest.raises(StoreError, match="newer LOBE"):
        store.get(job.key)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_says_that_stored_results_are_safe(tmp_path: Path, job, monkeypatch):
    store = Store(tmp_path)

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StoreError, match=r"No space left.*safe"):
        store.put(record(job))


def test_an_output_folder_that_is_a_file_is_named(tmp_path: Path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match="Cannot write to the output folder"):
        Store(tmp_path / "out")


def test_a_second_driver_is_told_who_holds_the_folder(tmp_path: Path):
    first, second = Store(tmp_path), Store(tmp_path)
    with first.lock(), pytest.raises(StoreError, match=f"process {os.getpid()} on"), second.lock():
        pass
    with second.lock():
        pass


@pytest.mark.parametrize("redistribution", ["none", "ids", "open"])
def test_files_of_data_that_may_not_leave_are_for_their_owner_alone(tmp_path: Path, job, redistribution: str):
    before = os.umask(0o002)
    try:
        stored = Store(tmp_path).put(record(job, redistribution=redistribution), {"statistics.json": b"{}", "masks.json": b"{}"})
    finally:
        os.umask(before)
    folder = tmp_path / "predictions" / job.key
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert (folder.stat().st_mode & 0o777, modes) == ((0o700, {0o600}) if redistribution == "none" else (0o775, {0o664}))
    assert len(stored.predictions) == 2
