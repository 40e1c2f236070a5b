"""`lobe submit`: all that others need to check a result, nothing that a dataset's agreement keeps at home, the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import contents
from benchmark.errors import UsageError
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
