"""`lobe submit`: all that others need to check a result, nothing that a dataset's agreement keeps at home, the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import contents
from benchmark.cards import Record
from benchmark.errors import StoreError, UsageError
from benchmark.integrity import file_digest, sealed
from benchmark.shelf import Shelf, read_record
from benchmark.submission import archive
from benchmark.submission.pack import pack
from benchmark.submission.validate import validate


def test_a_packed_store_is_complete_and_valid(out: Path, tmp_path: Path) -> None:
    packed = pack(out, tmp_path / "sent.zip", allow_phantom=True)
    assert (packed.n_records, packed.missing, packed.left_out, packed.manifest.suite) == (8, (), (), "demo")
    found = validate(packed.file, allow_phantom=True)
    assert (found.faults, found.missing, found.trust, found.id) == ((), (), "recomputed", packed.id)
    assert (found.n_records, found.n_recomputed, found.n_rescored) == (8, 8, 0)


def test_the_same_store_gives_the_same_bytes_from_files_and_from_its_index(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "RECENT_NS", 0)  # so that records are indexed at once
    first, second = (pack(out, tmp_path / name, allow_phantom=True) for name in ("a.zip", "b.zip"))
    assert first.file.read_bytes() == second.file.read_bytes()


def test_generated_data_is_packed_for_a_rehearsal_alone(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="generated data, which no leaderboard takes"):
        pack(out, tmp_path / "sent.zip")
    packed = pack(out, tmp_path / "sent.zip", allow_phantom=True)
    assert packed.manifest.phantom
    assert "a rehearsal" in validate(packed.file).faults[0]


def test_predictions_may_stay_at_home(out: Path, tmp_path: Path) -> None:
    whole, less = (pack(out, tmp_path / f"{given}.zip", allow_phantom=True, with_predictions=given) for given in (True, False))
    with archive.opened(less.file) as given:
        assert {name.rpartition("/")[2] for name in given.names if name.startswith("predictions/")} == {"statistics.parquet"}
    assert less.n_bytes < whole.n_bytes
    assert (found := validate(less.file, allow_phantom=True)).faults == ()
    assert found.trust == "recomputed"


def test_no_picture_is_packed(out: Path, tmp_path: Path) -> None:
    for folder in (out / "predictions").iterdir():
        (folder / "examples.npz").write_bytes(b"pixels")
    with archive.opened(pack(out, tmp_path / "sent.zip", allow_phantom=True).file) as given:
        kept = {name.rpartition("/")[2] for name in given.names if name.startswith("predictions/")}
    assert kept == {"statistics.parquet", "masks.parquet", "detections.parquet"}


def changed(out: Path, key: str, /, **values) -> Record:
    """Stores a record again, edited."""
    record = sealed(read_record(out / "records" / f"{key}.json").model_copy(update=values))
    (out / "records" / f"{key}.json").write_text(record.model_dump_json())
    return record


def keys(out: Path, task: str = "") -> list[str]:
    return [record.key for record in Shelf(out).believable()[0] if task in record.job.labels.task]


def test_a_folder_without_results_and_one_with_a_damaged_record_are_not_packed(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no folder records"):
        pack(tmp_path, tmp_path / "sent.zip")
    (out / "records" / f"{keys(out)[0]}.json").write_text("{")
    with pytest.raises(StoreError, match=r"1 records of .* may not be believed; the first: "):
        pack(out, tmp_path / "sent.zip", allow_phantom=True)


def test_a_backbone_that_has_no_record_is_named_with_those_that_have(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No record is of nobody; there are: resnet18 \(random\)\."):
        pack(out, tmp_path / "sent.zip", backbones=["nobody", "resnet18 (random)"], allow_phantom=True)


def test_a_file_that_is_missing_or_of_an_earlier_form_is_named(out: Path, tmp_path: Path) -> None:
    key = keys(out, "linear")[0]
    (out / "predictions" / key / "masks.parquet").unlink()
    with pytest.raises(UsageError, match=r"masks\.parquet is missing\. Bring it back from a copy"):
        pack(out, tmp_path / "sent.zip", allow_phantom=True)
    name = f"predictions/{key}/masks.json"
    (out / name).write_text("{}")
    changed(out, key, predictions=(name,), file_digests={name: file_digest(out / name)})
    with pytest.raises(UsageError, match=r"masks\.json has an earlier release's form\. Give it today's with `lobe convert"):
        pack(out, tmp_path / "sent.zip", allow_phantom=True)


def test_an_archive_that_cannot_be_written_leaves_nothing_behind(out: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"Cannot write .*folder: .*Choose another file with --to"):
        pack(out, tmp_path / "folder", allow_phantom=True, backbones=["resnet18 (random)"])
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Cannot write .*sent\.zip: .*Choose another file with --to"):
        pack(out, tmp_path / "file" / "sent.zip", allow_phantom=True, backbones=["resnet18 (random)"])
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
