"""Accepted submissions: kept as they came, shown beside one's own results, withdrawn and replaced without anything being lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark import api, data, registry
from benchmark.contents import sha256_of
from benchmark.errors import StoreError, UsageError
from benchmark.report.contenders import UNRANKED
from benchmark.report.rows import rows_of
from benchmark.submission import shown as showing
from benchmark.submission.accept import accept, withdraw
from benchmark.submission.history import HISTORY, gone, read, standing
from benchmark.submission.pack import pack
from benchmark.submission.shown import default_folder, shown
from benchmark.submission.trust import Trust
from tests.submission.forging import contents, edit_statistics, packed, put, records_of, statistics_in

MINE, RANDOM = "resnet18 (mine.pt)", "resnet18 (random)"


@pytest.fixture
def sent(out: Path, tmp_path: Path) -> Callable[..., Path]:
    """Packs the results of some backbones."""

    def call(*backbones: str, name: str = "sent.zip") -> Path:
        return pack(out, tmp_path / name, backbones=backbones, allow_phantom=True).file

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "submissions"


def test_an_accepted_archive_is_kept_as_it_came_with_a_line_of_history(sent, folder: Path) -> None:
    file = sent(MINE)
    done = accept(file, folder, why="sent in by mail", allow_phantom=True)
    assert done.file.read_bytes() == file.read_bytes()
    (entry,) = read(folder)
    assert (entry.what, entry.why, entry.trust, entry.phantom) == ("accepted", "sent in by mail", "recomputed", True)
    assert (entry.id, entry.backbones, entry.suite, set(entry.levels)) == (
        done.file.stem,
        (MINE,),
        "demo",
        set(registry.suite("demo").tasks),
    )
    assert entry.checked == "4 of 4 recomputed, 0 of 4 re-scored, 0 of 4 re-run"


def test_nothing_is_accepted_twice_and_nothing_without_a_reason_is_withdrawn(sent, folder: Path) -> None:
    name = accept(sent(MINE, RANDOM), folder, why="x", allow_phantom=True).validated.id
    for again in (sent(MINE, RANDOM), sent(MINE, name="part.zip")):
        with pytest.raises(UsageError, match=f"holds nothing that submission {name} does not hold"):
            accept(again, folder, why="x", allow_phantom=True)
    with pytest.raises(UsageError, match="Say why"):
        withdraw(name, folder, why=" ")
    with pytest.raises(UsageError, match=r"no accepted submission '\.\./x'"):
        withdraw("../x", folder, why="x")
    assert [path.name for path in folder.glob("*.zip")] == [f"{name}.zip"]


def test_generated_data_does_not_reach_the_leaderboards_own_folder(sent) -> None:
    with pytest.raises(UsageError, match="Rehearse in a folder of its own"):
        accept(sent(MINE), default_folder(), why="x", allow_phantom=True)
    with pytest.raises(UsageError, match="is not accepted: It is of generated data"):
        accept(sent(MINE), default_folder(), why="x")


def test_a_tampered_copy_is_not_accepted_and_leaves_no_trace(sent, folder: Path, tmp_path: Path) -> None:
    files, manifest = contents(sent(MINE))
    raw = records_of(files)[0]
    raw["metrics"][raw["job"]["experiment"]["report"]] = 0.99
    put(files, raw)
    with pytest.raises(UsageError, match=r"is not accepted: .* is 0\.99, and its statistics give"):
        accept(packed(files, manifest, tmp_path / "forged.zip"), folder, why="x", allow_phantom=True)
    assert not folder.exists()


def test_an_incomplete_submission_names_what_is_missing_and_needs_a_word(sent, folder: Path, tmp_path: Path) -> None:
    files, manifest = contents(sent(MINE))
    raw = records_of(files, "rsna-yolov3-frozen-demo")[0]
    kept = {name: content for name, content in files.items() if raw["key"] not in name}
    manifest = manifest.model_copy(update={"tasks": tuple(task for task in manifest.tasks if task != "rsna-yolov3-frozen-demo")})
    part = packed(kept, manifest, tmp_path / "part.zip")
    with pytest.raises(UsageError, match="1 of 4 tasks of demo are missing: rsna-yolov3-frozen-demo"):
        accept(part, folder, why="x", allow_phantom=True)
    done = accept(part, folder, why="x", allow_phantom=True, allow_incomplete=True)
    assert (bool(done.validated.missing), done.entries[0].incomplete, done.entries[0].trust) == (True, (), "recomputed")


def test_a_task_without_its_search_has_no_rank_although_all_its_runs_are_there(sent, folder: Path, tmp_path: Path) -> None:
    task = "rsna-yolov3-frozen-demo"
    files, manifest = contents(sent(MINE))
    for raw in records_of(files, task):
        raw["job"]["depends_on"] = ["0" * 32]
        put(files, raw)
    part = packed(files, manifest, tmp_path / "part.zip")
    with pytest.raises(UsageError, match=r"1 of 1 runs of its learning-rate search are missing\. --incomplete accepts it"):
        accept(part, folder, why="x", allow_phantom=True)
    done = accept(part, folder, why="x", allow_phantom=True, allow_incomplete=True)
    assert (set(done.validated.levels.values()), done.validated.incomplete) == ({Trust.RECOMPUTED}, (task,))
    (entry,) = read(folder)
    assert (entry.incomplete, entry.trust) == ((task,), Trust.REPORTED)
    assert {name for name, level in entry.levels.items() if level is Trust.REPORTED} == {task}
    ((one,), _) = shown(folder, tmp_path / "cache")
    levels = {record.job.labels.task: one.trust_of(record) for record in one.believable()[0]}
    assert {name for name, level in levels.items() if level in UNRANKED - {Trust.RECOMPUTED}} == {task}


@pytest.mark.parametrize("what", ["corrected", "superseded"])
def test_another_takes_the_place_of_one_and_both_stay_on_record(sent, folder: Path, what) -> None:
    first = accept(sent(MINE), folder, why="x", allow_phantom=True).validated.id
    second = accept(sent(MINE, RANDOM, name="more.zip"), folder, why="more", replaces=(what, first[:6]), allow_phantom=True).validated.id
    assert [(one.what, one.id, one.by) for one in read(folder)] == [
        ("accepted", first, None),
        ("accepted", second, None),
        (what, first, second),
    ]
    assert list(standing(read(folder))) == [second]
    assert [(one.what, one.id, one.backbones) for one in gone(read(folder))] == [("accepted", first, (MINE,))]
    assert len(list(folder.glob("*.zip"))) == 2


def test_a_report_shows_submissions_beside_ones_own_rows_until_they_are_withdrawn(sent, folder: Path, out: Path, tmp_path: Path) -> None:
    name = accept(sent(MINE), folder, why="x", allow_phantom=True).validated.id
    own = tmp_path / "own"
    for part in ("records", "predictions"):
        (own / part).mkdir(parents=True)
    for path in (out / "records").glob("*.json"):
        raw = json.loads(path.read_text())
        if raw["job"]["labels"]["backbone"] == RANDOM:
            shutil.copy(path, own / "records")
            shutil.copytree(out / "predictions" / path.stem, own / "predictions" / path.stem)

    def backbones(**given) -> set[str]:
        written = api.write_report(own, submissions=folder, **given)
        assert written.refused == ()
        return {row["backbone"] for row in json.loads((own / "report" / "leaderboard.json").read_text())["rows"]}

    assert backbones() == {RANDOM, MINE}
    assert backbones(least=Trust.RESCORED) == {RANDOM}
    assert backbones() == {RANDOM, MINE}
    withdraw(name, folder, why="the weights had seen the test images")
    assert backbones() == {RANDOM}
    assert (folder / f"{name}.zip").is_file()


def test_what_was_unpacked_is_listed_among_the_caches_and_made_anew(sent, folder: Path, tmp_path: Path) -> None:
    accept(sent(MINE), folder, why="x", allow_phantom=True)
    shown(folder, tmp_path / "cache")
    (row,) = data.caches(tmp_path / "cache")
    assert (row["dataset"], row["bytes"] > 1000) == (f"submission {next(folder.glob('*.zip')).stem}", True)
    data.remove_caches([row])
    ((one,), refused) = shown(folder, tmp_path / "cache")
    assert (len(one.believable()[0]), refused) == (4, [])


def test_a_row_has_the_lowest_level_of_its_records(sent, folder: Path, tmp_path: Path) -> None:
    accept(sent(MINE), folder, why="x", allow_phantom=True)
    ((one,), refused) = shown(folder, tmp_path / "cache")
    records, damaged = one.believable()
    assert (refused, damaged, {one.trust_of(record) for record in records}) == ([], [], {Trust.RECOMPUTED})
    levels = {record.key: Trust.RERUN for record in records} | {records[0].key: Trust.REPORTED}
    rows = {row.task: row.trust for row in rows_of(records, trust=levels)}
    assert rows.pop(records[0].job.labels.task) is Trust.REPORTED
    assert set(rows.values()) == {Trust.RERUN}
    assert {row.trust for row in rows_of(records)} == {Trust.LOCAL}


def test_an_archive_that_is_not_the_accepted_one_is_left_out_with_a_sentence(sent, folder: Path, tmp_path: Path) -> None:
    done = accept(sent(MINE), folder, why="x", allow_phantom=True)
    other = sent(MINE, RANDOM, name="other.zip")
    shutil.copy(other, done.file)
    found, (refused,) = shown(folder, tmp_path / "cache")
    assert (found, "is not the archive that was accepted" in refused.sentence) == ([], True)
    with pytest.raises(StoreError, match="another lies there"):
        accept(sent(MINE, name="again.zip"), folder, why="x", allow_phantom=True, replaces=("corrected", done.validated.id))


def test_a_history_that_says_too_much_makes_no_edited_record_believed(sent, folder: Path, tmp_path: Path) -> None:
    """A folder of submissions from anywhere: its history may claim what it likes, numbers are computed again."""
    from benchmark.submission import history

    files, manifest = contents(sent(MINE))
    raw = records_of(files)[0]
    raw["metrics"][raw["job"]["experiment"]["report"]] = 0.99
    put(files, raw)
    forged = packed(files, manifest, tmp_path / "forged.zip")
    folder.mkdir()
    sha256 = showing.archive.opened(forged).__enter__().sha256
    shutil.copy(forged, folder / f"{sha256[:12]}.zip")
    history.append(folder, [history.entry("accepted", sha256, "believe me", trust=Trust.RERUN, phantom=True)])
    ((one,), _) = shown(folder, tmp_path / "cache")
    records, (refused,) = one.believable()
    assert (len(records), refused.key) == (3, raw["key"])


@pytest.mark.parametrize("digest", [None, "f" * 64])
def test_two_submissions_with_different_ground_truth_do_not_stand_together(sent, folder: Path, tmp_path: Path, digest: str | None) -> None:
    """Also where the second one claims another release: it was tested on images of the same names."""
    from dataclasses import replace

    from benchmark.metrics.statistics import pooled_metrics

    accept(sent(RANDOM), folder, why="x", allow_phantom=True)
    files, manifest = contents(sent(MINE))
    for raw in records_of(files, "covid-rural-linear-frozen-demo"):

        def milder(found):
            counts = found.statistics.counts
            return replace(found, statistics=replace(found.statistics, counts=replace(counts, fn=counts.fn // 2)))

        edit_statistics(files, raw, milder)
        pooled = pooled_metrics(statistics_in(files, raw).statistics)
        raw["metrics"] = {name: pooled[name](None) for name in raw["metrics"]}
        raw["job"]["experiment"]["dataset"]["digest"] = digest or raw["job"]["experiment"]["dataset"]["digest"]
        put(files, raw)
    kept = {name: content for name, content in files.items() if not unet_of(files, name)}
    manifest = manifest.model_copy(update={"tasks": tuple(task for task in manifest.tasks if "unet" not in task)})
    with pytest.raises(UsageError, match="its ground truth of covid-rural is not that of submission"):
        accept(packed(kept, manifest, tmp_path / "f.zip"), folder, why="x", allow_phantom=True, allow_incomplete=True)


def unet_of(files, name: str) -> bool:
    """Whether a file is of the other task on the same images."""
    return any(raw["key"] in name for raw in records_of(files, "covid-rural-unet-frozen-demo"))


def test_versions_of_a_task_stand_in_rows_of_their_own(sent, folder: Path, tmp_path: Path) -> None:
    task = "rsna-yolov3-frozen-demo"
    version = registry.task(task).version
    files, manifest = contents(sent(MINE))
    for raw in records_of(files, task):
        raw["job"]["experiment"]["task_version"] = version - 1
        put(files, raw)
    done = accept(packed(files, manifest, tmp_path / "older.zip"), folder, why="x", allow_phantom=True)
    assert any(f"{task}: of version {version - 1}, whose card this LOBE does not have" in note for note in done.validated.notes)
    assert {name: level for name, level in done.validated.levels.items() if level != "recomputed"} == {task: "reported"}
    accept(sent(MINE), folder, why="x", allow_phantom=True)
    found, _ = shown(folder, tmp_path / "cache")
    records = {record.key: record for one in found for record in one.believable()[0]}
    rows = [row for row in rows_of(records.values()) if row.task == task]
    assert sorted(row.variant for row in rows) == [f"task_version={version - 1}", f"task_version={version}"]


def test_history_is_all_that_a_folder_needs_beside_archives(sent, folder: Path) -> None:
    accept(sent(MINE), folder, why="x", allow_phantom=True)
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {HISTORY, next(folder.glob("*.zip")).name}


def test_what_the_history_does_not_take_is_not_kept(sent, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmark.submission.history.append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        accept(sent(MINE), folder, why="x", allow_phantom=True)
    assert list(folder.glob("*.zip")) == []


def test_a_damaged_archive_beside_it_and_a_folder_that_takes_no_file_are_named(sent, folder: Path) -> None:
    done = accept(sent(MINE), folder, why="x", allow_phantom=True)
    done.file.write_bytes(b"PK")
    more = sent(MINE, RANDOM, name="more.zip")
    with pytest.raises(StoreError, match="An accepted archive is damaged"):
        accept(more, folder, why="x", allow_phantom=True)
    (folder / f".{sha256_of(more)[:12]}.zip.part").mkdir()
    with pytest.raises(StoreError, match="Cannot write"):
        accept(more, folder, why="x", allow_phantom=True, replaces=("corrected", done.validated.id))


def test_a_submission_is_of_the_kind_of_data_that_the_history_says(sent, folder: Path, tmp_path: Path) -> None:
    accept(sent(MINE), folder, why="x", allow_phantom=True)
    ((one,), _) = shown(folder, tmp_path / "cache")
    cards = one.shelf.out / "cards" / "backbones"
    cards.mkdir(parents=True, exist_ok=True)
    (cards / "mine.json").write_text(next(iter(registry.backbones().values())).model_dump_json())
    (cards / "other.json").write_text("{}")  # of a folder that was never validated
    assert len(one.believable()[0]) == 4
    real = showing.Submission(one.entry.model_copy(update={"phantom": False}), one.shelf)
    believed, refused = real.believable()
    assert (believed, len(refused)) == ([], 4)
    assert "it is not of the kind of data that the history says" in refused[0].sentence


def test_a_cache_that_takes_no_file_leaves_the_submission_out_with_a_sentence(sent, folder: Path, tmp_path: Path) -> None:
    accept(sent(MINE), folder, why="x", allow_phantom=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / showing.FOLDER).write_text("no folder")
    found, (refused,) = shown(folder, tmp_path / "cache")
    assert (found, "cannot be unpacked" in refused.sentence) == ([], True)
