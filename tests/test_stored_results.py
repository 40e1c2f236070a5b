"""Output folders read together: `lobe results` prints, narrows and writes what they hold, each result once."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from benchmark import stored_results
from benchmark.errors import UsageError
from benchmark.integrity import sealed
from benchmark.kinds.kit.stored import read_statistics
from benchmark.report import stored
from benchmark.store import Store
from benchmark.submission import verified

LINEAR, TENTH = "rsna-linear-frozen-100", "rsna-linear-frozen-10"

pytestmark = pytest.mark.long(8)


@pytest.fixture(scope="module")
def place_of_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folders")


@pytest.fixture
def folders(place_of_folders: Path, corpora: Path, lobe, tiny, small_frames) -> list[Path]:
    """Two output folders: both hold one task's run, the second another task's too. The first test that asks runs them."""
    first, second = place_of_folders / "first", place_of_folders / "second"
    if not second.exists():
        quick = ("--limit", 8, "--seeds", 1, "--profile", "smoke", "--executor", "inline", "--no-tracking")
        given = ("run", "-b", f"{tiny()}:build", "--data", corpora, *quick)
        assert lobe(*given, "-t", LINEAR, "--out", first)[0] == 0
        shutil.copytree(first, second)
        assert lobe(*given, "-t", TENTH, "--out", second)[0] == 0
    return [first, second]


def test_several_folders_are_one_table_and_a_result_in_both_counts_once(lobe, folders: list[Path], tmp_path: Path):
    file = tmp_path / "new" / "rows.csv"
    given = [word for folder in folders for word in ("--out", folder)]
    code, text, err = lobe("results", *given, "--csv", file)
    assert (code, err) == (0, "")
    assert "2 rows of 2 records" in " ".join(text.split())
    lines = [line for line in csv.DictReader(file.open()) if line["kind"] == "backbone"]
    assert {line["task"] for line in lines} == {LINEAR, TENTH}
    rows = json.loads(lobe("results", *given, "--json")[1])["rows"]
    assert [json.loads(line["run_values_percent"]) for line in lines] == [row["run_values_percent"] for row in rows]


def test_rows_are_narrowed_by_task_and_backbone_and_none_left_is_said_with_what_there_is(lobe, folders: list[Path]):
    rows = json.loads(lobe("results", "--out", folders[1], "-t", "FROZEN-10", "-t", "nowhere", "-b", "MINE", "--json")[1])["rows"]
    assert len(rows) == 2  # frozen-10 lies in frozen-100
    (row,) = json.loads(lobe("results", "--out", folders[1], "-t", "linear*00", "--json")[1])["rows"]
    assert row["task"] == LINEAR
    code, _, err = lobe("results", "--out", folders[1], "-t", "unet")
    assert (code, LINEAR in err) == (2, True)


def test_folders_that_contradict_each_other_are_refused_by_name(folders: list[Path], tmp_path: Path):
    shutil.copytree(folders[0], tmp_path / "other")
    store = Store(tmp_path / "other")
    (record,) = store.all()
    store.path(record.key).unlink()
    store.put(record.model_copy(update={"metrics": dict.fromkeys(record.metrics, 0.0), "predictions": (), "file_digests": {}}), {})
    with pytest.raises(UsageError, match="hold different results of one job"):
        stored_results.read([folders[0], tmp_path / "other"])


def test_statistics_are_read_once_for_the_check_of_a_result_and_its_resamples(folders: list[Path], tmp_path: Path, monkeypatch):
    out = shutil.copytree(folders[1], tmp_path / "fresh")
    shutil.rmtree(out / "resamples", ignore_errors=True)
    expected = [row.half_width for row in stored_results.read([folders[1]]).rows()]
    read = []
    monkeypatch.setattr(verified, "read_statistics", lambda path: read.append(path.parent.name) or read_statistics(path))
    monkeypatch.setattr(stored, "read_statistics", None)
    results = stored_results.read([out])
    assert sorted(read) == [record.key for record in results.records]
    assert [row.half_width for row in results.rows()] == expected
    assert {path.stem for path in (out / "resamples").iterdir()} == set(read)


def test_a_refused_result_leaves_no_resamples(folders: list[Path], tmp_path: Path):
    out = shutil.copytree(folders[0], tmp_path / "edited")
    shutil.rmtree(out / "resamples", ignore_errors=True)
    (record,) = Store(out).all()
    edited = record.model_copy(update={"metrics": {name: value / 2 + 0.01 for name, value in record.metrics.items()}})
    (out / "records" / f"{record.key}.json").write_text(sealed(edited).model_dump_json())
    results = stored_results.read([out])
    assert ([one.key for one in results.refused], results.records) == ([record.key], ())
    assert not (out / "resamples").exists()


def test_a_folder_without_results_says_how_to_make_some(lobe, tmp_path: Path):
    code, _, err = lobe("results", "--out", tmp_path / "none")
    assert (code, "lobe run --out" in err) == (2, True)


def test_a_damaged_record_is_named_and_the_others_are_shown(lobe, folders: list[Path], tmp_path: Path):
    shutil.copytree(folders[1], tmp_path / "damaged")
    gone = sorted((tmp_path / "damaged" / "records").glob("*.json"))[0]
    gone.write_text("{}")
    code, text, err = lobe("results", "--out", tmp_path / "damaged")
    assert (code, gone.stem in err, "of 1 records" in " ".join(text.split())) == (1, True, True)
