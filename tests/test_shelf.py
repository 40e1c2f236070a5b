"""Promises of listings and their index: nothing read twice, nothing believed that the files do not say, and no need of the index."""

from __future__ import annotations

import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from benchmark import contents, extras, private, record_index
from benchmark.cards import Failure, Record
from benchmark.errors import StoreError
from benchmark.integrity import sealed
from benchmark.record_index import INDEX
from benchmark.shelf import Shelf, read_record
from benchmark.store import Store
from tests.full_disk import full_disk
from tests.opens import below, listings, opened
from tests.perf.many_records import make_store

N_MANY, N_FEW = 500, 12


@pytest.fixture(autouse=True)
def nothing_is_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "RECENT_NS", 0)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("many") / "out", N_MANY, n_epochs=2)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return make_store(tmp_path / "out", N_FEW, n_epochs=2)


def of_files(out: Path) -> list[Record]:
    return [read_record(path) for path in sorted((out / "records").glob("*.json"))]


def seen_by(shelf: Shelf) -> list[Record]:
    """Whole records of those a listing believes."""
    return [shelf.whole(record.key) for record in shelf.believable()[0]]


def test_the_second_listing_opens_no_record_and_says_the_same(many: Path):
    with opened() as seen:
        first = seen_by(Shelf(many))
    assert len(below(many / "records", seen)) == N_MANY
    with opened() as seen:
        shelf = Shelf(many)
        again = seen_by(shelf)
        statuses = [shelf.facts(key).status for key in shelf.stamps]
    assert (below(many / "records", seen), listings(many / "records", seen)) == ([], 1)
    assert again == first == of_files(many)
    assert statuses == ["ok"] * N_MANY


def test_records_of_one_listing_share_what_their_jobs_share(many: Path):
    Shelf(many).believable()  # fills the index
    records, _ = Shelf(many).believable()
    assert len({id(record.job.experiment.dataset) for record in records}) < 20
    assert len({id(record.job.experiment.recipe) for record in records}) < 40
    assert {record.curve for record in records} == {()}


def test_without_its_index_a_folder_says_the_same(out: Path):
    whole = of_files(out)
    assert seen_by(Shelf(out)) == seen_by(Shelf(out)) == whole
    (out / INDEX).unlink()
    assert seen_by(Shelf(out)) == whole
    assert (out / INDEX).exists()


def edited_in_place(path: Path) -> None:
    before = os.stat(path)
    path.write_bytes(path.read_bytes().replace(b'"phantom": true', b'"phantom":false'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    before = os.stat(path)
    other = path.with_suffix(".other")
    record = read_record(path)
    micro = 2 if record.micro_batches == 1 else 1
    other.write_text(sealed(record.model_copy(update={"micro_batches": micro})).model_dump_json(indent=1))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)


@pytest.mark.parametrize("change", [edited_in_place, replaced])
def test_a_record_that_changed_under_the_same_size_and_time_is_seen(out: Path, change: Callable[[Path], None]):
    assert len(seen_by(Shelf(out))) == N_FEW
    path = sorted((out / "records").glob("*.json"))[3]
    before = os.stat(path)
    change(path)
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    shelf = Shelf(out)
    records, refused = shelf.believable()
    if change is replaced:
        assert (len(records), refused) == (N_FEW, [])
        assert shelf.get(path.stem).micro_batches == 2
    else:
        assert (len(records), [one.key for one in refused]) == (N_FEW - 1, [path.stem])
        with pytest.raises(StoreError, match="damaged or was edited"):
            Shelf(out).facts(path.stem)


def test_a_record_that_went_away_is_gone_and_one_under_another_name_is_refused(out: Path):
    Shelf(out).believable()
    first, second, *_ = sorted((out / "records").glob("*.json"))
    first.unlink()
    os.replace(second, out / "records" / f"{'0' * 32}.json")
    records, refused = Shelf(out).believable()
    assert (len(records), [one.key for one in refused]) == (N_FEW - 2, ["0" * 32])
    assert Shelf(out).get(first.stem) is None


def test_a_damaged_index_is_made_anew_and_believed_nowhere(out: Path):
    whole = of_files(out)
    Shelf(out).believable()
    good = (out / INDEX).read_bytes()
    damages = [b"", b"nonsense" * 512, good[: len(good) // 2], good[:100]]
    damages += [good[:k] + bytes([good[k] ^ 0x10]) + good[k + 1 :] for k in range(50, len(good), len(good) // 60)]
    for damaged in damages:
        (out / INDEX).write_bytes(damaged)
        assert seen_by(Shelf(out)) == whole
        assert all(Shelf(out).facts(record.key).status == "ok" for record in whole)


def test_an_index_of_another_release_is_made_anew(out: Path):
    Shelf(out).believable()
    with sqlite3.connect(out / INDEX) as database:
        database.execute("UPDATE about SET version = 'another'")
        database.execute("UPDATE facts SET stamp = x'00'")
    database.close()
    assert len(seen_by(Shelf(out))) == N_FEW
    with opened() as seen:
        Shelf(out).believable()
    assert below(out / "records", seen) == []


def test_a_folder_that_may_not_be_written_is_read_all_the_same(out: Path, monkeypatch: pytest.MonkeyPatch):
    def forbidden(path: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(path))

    whole = of_files(out)
    listed = sorted(out.rglob("*"))
    monkeypatch.setattr(private, "file", forbidden)
    assert seen_by(Shelf(out)) == whole
    assert sorted(out.rglob("*")) == listed
    monkeypatch.undo()
    (out / INDEX).mkdir()  # nor where something else lies in its place
    assert seen_by(Shelf(out)) == whole


def test_a_folder_without_records_is_an_empty_shelf(tmp_path: Path):
    shelf = Shelf(tmp_path / "nowhere")
    assert (len(shelf), shelf.believable(), shelf.get("0" * 32)) == (0, ([], []), None)
    assert not (tmp_path / "nowhere").exists()


def test_an_entry_with_a_foreign_card_or_curve_is_not_believed(out: Path):
    whole = of_files(out)
    Shelf(out).believable()
    with closing(sqlite3.connect(out / INDEX)) as database, database:
        (largest,) = database.execute("SELECT content FROM cards ORDER BY length(content) DESC LIMIT 1").fetchone()
        database.execute("UPDATE cards SET content = ?", (largest,))
    assert seen_by(Shelf(out)) == whole
    with opened() as seen:
        assert seen_by(Shelf(out)) == whole
    assert below(out / "records", seen) == []  # the index was mended
    with closing(sqlite3.connect(out / INDEX)) as database, database:
        for key, stamp in database.execute("SELECT key, stamp FROM curves").fetchall():
            packed = zlib.compress(b'[{"epoch": "first"}]')
            row = (packed, record_index._checksum(key, stamp, packed), key)
            database.execute("UPDATE curves SET content = ?, checksum = ? WHERE key = ?", row)
    assert seen_by(Shelf(out)) == whole


def test_an_index_that_turns_out_damaged_while_it_is_written_is_made_anew(out: Path):
    Shelf(out).believable()
    with closing(sqlite3.connect(out / INDEX)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'pages'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    content = bytearray((out / INDEX).read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    (out / INDEX).write_bytes(content)
    record_index.RecordIndex(out).keep_page("front", {"a": 1})
    assert not (out / INDEX).exists()
    index = record_index.RecordIndex(out)
    index.keep_page("front", {"a": 1})
    assert index.page("front") == {"a": 1}


def test_a_damaged_index_that_cannot_be_removed_costs_time_only(out: Path):
    whole = of_files(out)
    (out / INDEX).write_bytes(b"nonsense" * 512)
    (out / f"{INDEX}-journal").mkdir()
    assert seen_by(Shelf(out)) == whole
    assert (out / f"{INDEX}-journal").is_dir()


def test_a_full_disk_costs_the_index_and_no_record(out: Path):
    whole = of_files(out)
    with full_disk():
        assert seen_by(Shelf(out)) == whole
    assert seen_by(Shelf(out)) == whole


def test_a_package_that_runs_from_its_folder_has_an_index_too(out: Path, monkeypatch: pytest.MonkeyPatch):
    Shelf(out).believable()

    monkeypatch.setattr(extras, "release", lambda: "from its folder")
    with opened() as seen:
        assert len(seen_by(Shelf(out))) == N_FEW
    assert len(below(out / "records", seen)) == N_FEW  # what an installed release indexed is another's
    with opened() as seen:
        assert len(seen_by(Shelf(out))) == N_FEW
    assert below(out / "records", seen) == []


def test_a_link_to_nowhere_among_the_records_is_refused_and_hides_no_other(out: Path):
    (out / "records" / f"{'f' * 32}.json").symlink_to("nowhere")
    records, refused = Shelf(out).believable()
    assert (len(records), [one.key for one in refused]) == (N_FEW, ["f" * 32])


def test_a_folder_of_records_that_cannot_be_listed_is_named(out: Path):
    shutil.rmtree(out / "records")
    (out / "records").symlink_to("records")
    with pytest.raises(StoreError, match=r"records cannot be listed: Too many levels of symbolic links\. May you read it"):
        Shelf(out).believable()


def test_several_readers_at_once_agree(out: Path):
    whole = of_files(out)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: seen_by(Shelf(out)), range(8))) == [whole] * 8
    with opened() as seen:
        assert seen_by(Shelf(out)) == whole
    assert below(out / "records", seen) == []


def test_the_index_is_private(out: Path):
    Shelf(out).believable()
    assert os.stat(out / INDEX).st_mode & 0o777 == 0o600


def test_what_changed_just_now_is_not_indexed_yet(out: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contents, "RECENT_NS", 3_600 * 10**9)
    Shelf(out).believable()
    with opened() as seen:
        Shelf(out).believable()
    assert len(below(out / "records", seen)) == N_FEW


def test_a_fault_of_the_environment_and_a_record_taken_over_are_told_from_the_index_as_from_the_file(out: Path):
    store = Store(out)
    first, second, *_ = of_files(out)
    failure = Failure(kind="OutOfMemoryError", sentence="no room", traceback="", environment=True)
    gone = first.model_copy(update={"status": "failed", "failure": failure, "metrics": {}})
    store.path(first.key).write_text(sealed(gone).model_dump_json())
    job = second.job.model_copy(update={"experiment": second.job.experiment.model_copy(update={"threads": 7})})
    store.put(second.model_copy(update={"key": job.key, "job": job, "adopted_from": second.key}))
    for _ in range(2):
        shelf = Shelf(out)
        assert (shelf.get(first.key), shelf.facts(first.key).environment) == (None, True)
        assert {record.key for record in shelf.believable()[0]} == {record.key for record in store.all()}
        assert second.key not in {record.key for record in shelf.believable()[0]}


def test_files_of_a_record_are_hashed_once(out: Path):
    store = Store(out)
    record = of_files(out)[0]
    store.put(record, {"statistics.json": b"{}", "masks.json": b"[]"})
    statistics = out / "predictions" / record.key / "statistics.json"
    assert Shelf(out).believable(["statistics.json"])[1] == []
    with opened() as seen:
        assert Shelf(out).believable(["statistics.json"])[1] == []
    assert below(statistics.parent, seen) == []
    before = os.stat(statistics)
    statistics.write_bytes(b"[]")
    os.utime(statistics, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [one.key for one in Shelf(out).believable(["statistics.json"])[1]] == [record.key]
    shutil.rmtree(statistics.parent)
    assert Shelf(out).believable(["statistics.json"])[1] == []  # taken away, as everybody may
