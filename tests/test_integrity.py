"""What is stored is believed only as it was stored: no field of a record and no byte of its files can change unseen."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import BackboneRef, DatasetRef, Epoch, Failure, Normalisation, Record, SplitRule
from benchmark.errors import DamagedResult, StoreError
from benchmark.integrity import file_of, require_believable, sealed
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.shelf import Shelf, read_record
from benchmark.store import Store

FILES = {"statistics.json": b'{"kind": "none"}', "masks.json": b"{}"}
# Every top-level field of a record -> another value that a reader of records would take.
EDITS = {
    "schema_version": 0,
    "key": "0" * 32,
    "job": lambda job: job | {"labels": job["labels"] | {"backbone": "a better one"}},
    "status": "failed",
    "scale": "full",
    "phantom": False,
    "redistribution": "open",
    "path": "fused",
    "micro_batches": 2,
    "metrics": {"opacity_dice": 0.99},
    "validation": {"opacity_dice": 0.99},
    "counts": {"test": {"images": 1000}},
    "sample_digests": {"test": "1" * 64},
    "leakage": {"shared_images_train_test": 0},
    "anchors": {"all positive": {"opacity_dice": 0.01}},
    "learning_rate": 0.5,
    "selected_epoch": 7,
    "steps": 9,
    "curve": [],
    "parameters": {"trained": 1},
    "account": {"loaded": 1},
    "predictions": [],
    "file_digests": {},
    "timings_s": {"training": 0.1},
    "peak_memory_bytes": 1,
    "environment": {"torch": "0"},
    "warnings": [],
    "failure": {"kind": "x", "sentence": "y", "traceback": ""},
    "finished_at": "1999",
    "adopted_from": "3" * 32,
    "choice": {"rates": [0.1], "values": [[0.9]]},
    "not_needed": "the winner lies inside",
    "input_size": 512,
    "grids": [28],
    "macs": {"encoder": 1},
    "checksum": "2" * 64,
}


@pytest.fixture
def record() -> Record:
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
    job = plan([card], [backbone], {"rsna": data}, registry.protocol("published"), Settings(runs=1, profile="smoke"))[0]
    line = Epoch(epoch=0, step=1, train_loss=1 / 3, validation_loss=2 / 3, learning_rate=1e-3, metrics={"opacity_dice": 1e-17})
    return Record(
        key=job.key,
        job=job,
        status="ok",
        scale="limited",
        phantom=True,
        redistribution="ids",
        metrics={"opacity_dice": 0.1 + 0.2},
        counts={"test": {"images": 12}},
        curve=(line,),
        warnings=("one warning",),
        timings_s={"training": 1.5},
    )


def edited(file: Path, /, **changes) -> None:
    raw = json.loads(file.read_text())
    file.write_text(json.dumps(raw | {name: new(raw[name]) if callable(new) else new for name, new in changes.items()}))


def of_an_older_release(store: Store, record: Record) -> Path:
    """The record as it was written without checksums, with its files."""
    store.put(record, FILES)
    path = store.path(record.key)
    raw = json.loads(path.read_text())
    del raw["checksum"], raw["file_digests"]
    path.write_text(json.dumps(raw))
    return path


def test_every_field_of_a_record_is_tried():
    assert set(EDITS) == set(Record.model_fields)


@pytest.mark.parametrize("field", sorted(Record.model_fields))
def test_an_edit_of_any_field_is_no_result_and_the_file_is_named(tmp_path: Path, record: Record, field: str):
    store = Store(tmp_path)
    store.put(record, FILES)
    path = store.path(record.key)
    edited(path, **{field: EDITS[field]})
    with pytest.raises(StoreError, match=r"Move it away to have the job computed again\.") as found:
        store.get(record.key)
    assert str(path) in str(found.value)


def test_a_record_nested_just_short_of_too_deep_is_no_traceback(tmp_path: Path, record: Record):
    """What the parser still takes may be too deep for who writes it again from a deeper call, to count the checksum."""
    path = Store(tmp_path).path(record.key)
    whole = sealed(record).model_dump_json().encode()
    for depth in range(sys.getrecursionlimit() - 250, sys.getrecursionlimit(), 3):
        path.write_bytes(whole[:-1] + b', "later": ' + b"[" * depth + b"]" * depth + b"}")
        with pytest.raises(DamagedResult, match="damaged"):
            read_record(path)


def test_a_checksum_that_was_taken_out_does_not_make_a_record_an_older_one(tmp_path: Path, record: Record):
    store = Store(tmp_path)
    store.put(record, FILES)
    edited(store.path(record.key), checksum="", metrics={"opacity_dice": 0.99})
    with pytest.raises(StoreError, match="its checksum was taken out"):
        store.get(record.key)


@pytest.mark.parametrize("value", [0.99, 17, -3])
def test_an_edited_metric_is_no_result(tmp_path: Path, record: Record, value: float):
    store = Store(tmp_path)
    store.put(record, FILES)
    edited(store.path(record.key), metrics={"opacity_dice": value})
    with pytest.raises(StoreError, match="not what its checksum says"):
        store.get(record.key)


@pytest.mark.parametrize("name", sorted(FILES))
def test_another_byte_in_a_file_of_predictions_or_statistics_is_seen(tmp_path: Path, record: Record, name: str):
    store = Store(tmp_path)
    stored = store.put(record, FILES)
    path = tmp_path / "predictions" / record.key / name
    assert file_of(stored, name, tmp_path) == path
    path.write_bytes(FILES[name][:-1] + b"]")
    with pytest.raises(DamagedResult, match="is not the file that was stored") as found:
        file_of(stored, name, tmp_path)
    assert str(path) in str(found.value)
    records, refused = Shelf(store.out).believable([name])
    assert (records, [one.key for one in refused]) == ([], [record.key])


def test_files_that_were_put_beside_a_record_or_taken_away_are_not_its_files(tmp_path: Path, record: Record):
    stored = Store(tmp_path).put(record, FILES)
    folder = tmp_path / "predictions" / record.key
    (folder / "examples.npz").write_bytes(b"whatever")
    (folder / "masks.json").unlink()
    assert file_of(stored, "examples.npz", tmp_path) is None
    assert file_of(stored, "masks.json", tmp_path) is None


def test_a_record_of_an_older_release_is_read_without_a_checksum(tmp_path: Path, record: Record):
    store = Store(tmp_path)
    of_an_older_release(store, record)
    found = store.get(record.key)
    assert (found.checksum, found.file_digests, found.metrics) == ("", {}, record.metrics)
    assert file_of(found, "masks.json", tmp_path).read_bytes() == FILES["masks.json"]
    again = store.put(found)  # what is there already is not written again
    assert (again.predictions, set(again.file_digests)) == (found.predictions, set(found.predictions))
    assert store.get(record.key) == again


IMPOSSIBLE = [
    {"metrics": {"opacity_dice": 17}},
    {"metrics": {"opacity_dice": -3}},
    {"metrics": {"opacity_dice": float("nan")}},
    {"metrics": {"opacity_dice": float("inf")}},
    {"validation": {"opacity_dice": 1.2}},
    {"anchors": {"all positive": {"opacity_dice": -0.1}}},
    {"curve": [{"epoch": 0, "step": 1, "train_loss": 1, "validation_loss": 1, "learning_rate": 1, "metrics": {"opacity_dice": 3}}]},
]
ELSEWHERE = [
    "../../secret.txt",
    "/etc/passwd",
    "predictions/other/masks.json",
    "predictions/KEY/../other/masks.json",
    "predictions/KEY/./masks.json",
    "predictions/KEY",
    "predictions/KEY/..",
    "records/KEY.json",
    "",
]


@pytest.mark.parametrize("checksum", ["none", "counted anew"])
@pytest.mark.parametrize("change", [*IMPOSSIBLE, *({"predictions": [name]} for name in ELSEWHERE)], ids=repr)
def test_an_impossible_record_is_refused_with_any_checksum(tmp_path: Path, record: Record, change: dict, checksum: str):
    store = Store(tmp_path)
    path = of_an_older_release(store, record)
    if "predictions" in change:
        change = {"predictions": [change["predictions"][0].replace("KEY", record.key)]}
    edited(path, **change)
    if checksum == "counted anew":
        digests = dict.fromkeys(change.get("predictions", []), "0" * 64)
        again = Record.model_validate(json.loads(path.read_text()) | {"file_digests": digests})
        path.write_text(json.dumps(json.loads(sealed(again).model_dump_json()) | change))
    with pytest.raises(StoreError, match=r"damaged.*Move it away"):
        store.get(record.key)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_that_leaves_the_output_folder_is_refused(tmp_path: Path, record: Record, what: str):
    store = Store(tmp_path / "out")
    of_an_older_release(store, record)
    found = store.get(record.key)
    folder = tmp_path / "out" / "predictions" / record.key
    linked, away = (folder / "masks.json" if what == "file" else folder), tmp_path / "elsewhere"
    os.rename(linked, away)
    linked.symlink_to(away)
    with pytest.raises(DamagedResult, match="leads out of"):
        file_of(found, "masks.json", tmp_path / "out")


def test_an_output_folder_that_is_a_link_itself_is_read(tmp_path: Path, record: Record):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    stored = Store(tmp_path / "out").put(record, FILES)
    assert file_of(stored, "masks.json", tmp_path / "out") is not None


def test_one_damaged_record_costs_no_other(tmp_path: Path, record: Record):
    store = Store(tmp_path)
    store.put(record)
    experiment = record.job.experiment.model_copy(update={"head_seed": 7})
    job = record.job.model_copy(update={"experiment": experiment})
    other = store.put(record.model_copy(update={"job": job, "key": job.key}))
    for damage in ("[]", "{", "nonsense", '{"schema_version": "x"}', "[" * 100_000, '{"schema_version": 99}'):
        store.path(record.key).write_text(damage)
        records, refused = Shelf(store.out).believable()
        assert ([r.key for r in records], [r.key for r in refused]) == ([other.key], [record.key])
        assert str(store.path(record.key)) in refused[0].sentence


def test_a_failure_is_sealed_as_well(tmp_path: Path, record: Record):
    store = Store(tmp_path)
    failure = Failure(kind="ImageError", sentence="image 3 cannot be read", traceback="")
    store.put(record.model_copy(update={"status": "failed", "metrics": {}, "failure": failure}))
    edited(store.path(record.key), failure=failure.model_dump() | {"sentence": "image 4 cannot be read"})
    with pytest.raises(StoreError, match="checksum"):
        store.get(record.key)


def test_a_record_whose_job_was_exchanged_is_refused_wherever_it_came_from(record: Record) -> None:
    other = record.job.model_copy(update={"experiment": record.job.experiment.model_copy(update={"threads": 7})})
    exchanged = sealed(record.model_copy(update={"job": other}))
    with pytest.raises(DamagedResult, match="a stranger's file is damaged or was edited: its job has another key"):
        require_believable(exchanged, json.loads(exchanged.model_dump_json()), "a stranger's file")
