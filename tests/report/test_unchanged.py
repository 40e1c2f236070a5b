"""A report with nothing new opens no record and writes no page; whatever may change a page has it written again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark import contents, registry
from benchmark.api import write_report
from benchmark.record_index import INDEX
from benchmark.report import unchanged
from benchmark.shelf import read_record
from benchmark.store import Store
from tests.opens import below, listings, opened
from tests.perf.many_records import make_store, many_jobs, record_of

N = 40


@pytest.fixture(autouse=True)
def nothing_is_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "RECENT_NS", 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("made") / "out", N, n_epochs=2)


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "out")
    write_report(tmp_path / "out")
    return tmp_path / "out"


def pages(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each page: both change when it is written again."""
    report = out / "report"
    files = [path for path in report.rglob("*") if path.is_file()]
    return {path.relative_to(report).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_a_report_with_nothing_new_opens_no_record_and_writes_no_page(out: Path):
    before = pages(out)
    with opened() as seen:
        written = write_report(out)
    assert below(out / "records", seen) == below(out / "report", seen) == []
    assert listings(out / "records", seen) == 1
    assert (pages(out), written.page, written.refused) == (before, out / "report" / "index.html", ())


def test_a_report_with_something_new_opens_what_is_new_and_lists_the_folder_once(out: Path):
    known = {path.stem for path in (out / "records").iterdir()}
    job = next(job for job in many_jobs() if job.key not in known)
    Store(out).put(record_of(job, 2))
    with opened() as seen:
        page = write_report(out).page
    assert [Path(path).stem for path in below(out / "records", seen)] == [job.key]
    assert listings(out / "records", seen) == 1
    assert any(job.key in path.read_text() for path in (page.parent / "data" / "jobs").iterdir())


def test_what_is_asked_for_besides_is_written_and_taken_away_again(out: Path):
    asked = out / "report" / "groups.csv"
    assert not asked.exists()
    write_report(out, groups=True)
    before = pages(out)
    assert asked.read_text().startswith("backbone,task,")
    write_report(out, groups=True)
    assert pages(out) == before
    write_report(out)
    assert not asked.exists()


def edit_a_page(out: Path) -> None:
    path = out / "report" / "leaderboard.csv"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def take_a_page_away(out: Path) -> None:
    (out / "report" / "curves.csv").unlink()


def take_a_record_away(out: Path) -> None:
    next((out / "records").iterdir()).unlink()


def touch_a_record(out: Path) -> None:
    next((out / "records").iterdir()).touch()


def put_a_file_beside_a_record(out: Path) -> None:
    key = next((out / "records").iterdir()).stem
    (out / "predictions" / key).mkdir()
    (out / "predictions" / key / "notes.txt").write_text("{}")


def plan_less(out: Path) -> None:
    record = read_record(next((out / "records").iterdir()))
    Store(out).plan([record.job])


def include_cards(out: Path) -> None:
    (out.parent / "own" / "tasks").mkdir(parents=True)
    (out.parent / "own" / "tasks" / "mine.yaml").write_text("tasks: []\n")
    registry._included.append(out.parent / "own")


def forget_the_index(out: Path) -> None:
    (out / INDEX).unlink()


@pytest.mark.parametrize(
    "change",
    [
        edit_a_page,
        take_a_page_away,
        take_a_record_away,
        touch_a_record,
        put_a_file_beside_a_record,
        plan_less,
        include_cards,
        forget_the_index,
    ],
)
def test_each_change_that_may_show_on_a_page_has_all_written_again(
    out: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(registry, "_included", list(registry._included))
    before = pages(out)
    change(out)
    write_report(out)
    after = pages(out)
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before if name != "assets/plotly.min.js")
    write_report(out)
    assert pages(out) == after


def test_another_title_and_another_folder_beside_it_are_another_page(out: Path, made: Path):
    first = (out / "report" / "index.html").read_text()
    assert write_report(out, title="Another").page.read_text() != first
    assert write_report(out).page.read_text() == first
    before = pages(out)
    write_report([out, made])
    assert pages(out) != before


def test_pages_are_the_same_with_and_without_the_index(out: Path, made: Path, tmp_path: Path):
    plain = tmp_path / "plain"
    shutil.copytree(made, plain)
    (plain / INDEX).unlink(missing_ok=True)
    write_report(plain)
    os.unlink(out / "report" / "index.html")
    write_report(out)  # from the index alone
    assert pages(plain).keys() == pages(out).keys()
    for name in pages(plain):
        assert (plain / "report" / name).read_bytes() == (out / "report" / name).read_bytes(), name


def test_a_report_with_a_refused_record_names_it_every_time(out: Path):
    path = next((out / "records").iterdir())
    path.write_text(path.read_text().replace('"ok"', '"failed"'))
    for _ in range(2):
        assert [one.key for one in write_report(out).refused] == [path.stem]


def test_a_folder_that_cannot_be_listed_has_no_files_and_a_link_to_nowhere_has_no_stamp(tmp_path: Path):
    assert list(unchanged._files_below(tmp_path / "gone")) == []
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert list(unchanged._files_below(tmp_path)) == [(str(tmp_path / "link"), b"")]
