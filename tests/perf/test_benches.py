"""Every bench in its miniature: it runs, both sides give the same numbers, and its JSON says what was measured. Never a time."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.cli import machine
from docsite import performance
from tests import perf as bench
from tests.perf import alternatives, page
from tests.perf.measure import BenchResult, Measurement, Timed, alternate

pytestmark = pytest.mark.long(10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all benches find their corpora, as those of one `lobe bench all` do."""
    return tmp_path_factory.mktemp("benches")


@pytest.fixture(autouse=True)
def threads_stay():
    """Benches use every core; the tests after them expect what they set."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def row(**more) -> Measurement:
    given = {"what": "x", "plain": Timed(seconds=(2.0, 4.0, 9.0)), "fast": Timed(seconds=(1.0, 1.0, 1.0)), "compared": "y"}
    return Measurement(**{**given, "difference": 0.0, "tolerance": 0.0, "target": 3.0, **more})


def test_a_ratio_is_the_median_of_pairs():
    assert (row().ratio, row().reached) == (4.0, True)
    near = row(goal="near", plain=Timed(seconds=(1.0, 1.0)), fast=Timed(seconds=(1.1, 1.3)), target=1.2)
    assert near.ratio == pytest.approx(1.2)
    assert row(target=5.0).reached is False
    assert row(target=None).reached is None


def test_a_ratio_of_different_numbers_reaches_nothing():
    wrong = row(difference=1e-3, tolerance=1e-5)
    assert not wrong.equal
    assert wrong.reached is False
    assert "no: 0.001 > 1e-05" in page.cells(wrong)
    incomparable = row(difference=None)
    assert incomparable.reached is False
    assert Measurement.model_validate_json(incomparable.model_dump_json()) == incomparable


def test_sides_take_turns():
    order = []
    plain, fast, one, other = alternate(lambda: order.append("plain") or 1, lambda: order.append("fast") or 2, 3)
    assert order == ["plain", "fast"] * 3
    assert (len(plain.seconds), len(fast.seconds), one, other) == (3, 3, 1, 2)


QUICKEST = ("metrics", "pipeline")  # the others are run where long checks are


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICKEST else pytest.mark.slow) for name in bench.NAMES])
def test_a_bench_runs_and_its_two_sides_agree(name: str, folder: Path, tmp_path: Path):
    report = bench.run(name, tmp_path, quick=True, folder=folder)
    assert report.equal, [(r.what, r.difference) for r in report.rows]
    assert report.rows
    assert all(min(r.plain.seconds) > 0 and min(r.fast.seconds) > 0 for r in report.rows)
    assert (report.bench, report.quick) == (name, True)
    stored = json.loads((tmp_path / f"{name}.json").read_text())
    assert {"schema_version", "bench", "sides", "quick", "sizes", "rows", "seconds", "machine", "finished_at"} <= stored.keys()
    assert BenchResult.model_validate(stored) == report
    assert bench.table(report).row_count == len(report.rows)


@pytest.mark.slow
def test_a_step_that_is_compiled_gives_the_losses_of_the_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The miniature traces the network and does not compile it."""
    monkeypatch.setattr(alternatives, "tracing", contextlib.nullcontext)
    report = bench.run("step", tmp_path, quick=True)
    assert report.equal, [(r.what, r.difference) for r in report.rows]
    assert sum("compiled against plain" in row.what for row in report.rows) == 2


def test_the_command_prints_one_json_document(lobe, tmp_path: Path):
    code, printed, _ = lobe("bench", "metrics", "--quick", "--json", "--out", tmp_path)
    assert code == 0
    (report,) = json.loads(printed)
    assert report["bench"] == "metrics"


@pytest.mark.parametrize(("difference", "code"), [(0.0, 0), (1.0, 1)], ids=["equal", "apart"])
def test_the_command_says_what_it_measured_and_fails_where_the_sides_differ(
    lobe, tmp_path: Path, monkeypatch, difference: float, code: int
):
    def run(name: str, out: Path, **_) -> BenchResult:
        about = {"sides": "", "quick": True, "sizes": {}, "seconds": 1, "machine": {}, "finished_at": ""}
        found = BenchResult(bench=name, rows=(row(what="one row", difference=difference),), **about)
        out.mkdir(exist_ok=True)
        (out / f"{name}.json").write_text(found.model_dump_json())
        return found

    monkeypatch.setattr(bench, "run", run)
    ended, printed, told = lobe("bench", "all", "--quick", "--out", tmp_path / "out", "--page", tmp_path / "page.md")
    assert ended == code
    assert [line for line in told.splitlines() if line.startswith("bench ")] == [f"bench {name} …" for name in bench.NAMES]
    assert printed.count("one row") == len(bench.NAMES)
    assert f"Written to {tmp_path / 'out'}." in printed.replace("\n", "")
    assert ("The two sides differ" in told) is (code == 1)
    assert (tmp_path / "page.md").is_file()


def test_growth_of_two_sides_that_failed_or_differ_is_a_failure(lobe, tmp_path: Path, monkeypatch):
    def grow(equal: bool, failures: dict[str, str]):
        side = SimpleNamespace(name="before", failures=failures)
        found = SimpleNamespace(sides=(side,), equal=equal, model_dump=lambda mode: {"equal": equal})
        monkeypatch.setattr(bench, "grow", lambda *_, **__: found)
        return lobe("bench", "growth", "--quick", "--json", "--out", tmp_path)

    code, printed, told = grow(True, {})
    assert (code, json.loads(printed), told) == (0, {"equal": True}, "")
    code, printed, told = grow(True, {"a plan of [many]": "killed"})
    assert (code, json.loads(printed)) == (1, {"equal": True})
    assert "failed: before: a plan of [many]: killed" in told
    code, _, told = grow(False, {})
    assert (code, "their numbers are not the same" in told) == (1, True)


def test_benches_are_those_of_the_checkout_that_the_package_lies_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    root = str(Path(machine.__file__).resolve().parents[2])
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != root])
    assert machine._benches() is bench
    assert sys.path[0] == root


def result(bench: str, *rows: Measurement, **more) -> BenchResult:
    about = {"sides": "", "quick": False, "sizes": {}, "seconds": 1, "machine": {"commit": "abc1234"}, "finished_at": "2026-12-01T00:00:00"}
    return BenchResult(bench=bench, rows=rows, **(about | more))


def test_a_quick_run_never_reaches_the_page(tmp_path: Path):
    report = bench.run("metrics", tmp_path, quick=True)
    bench.write_page(tmp_path, tmp_path / "page.md")
    standing = "| metrics | LoVT's mAP and COCO AP of 5,000 images, against the packages that define them | "
    assert f"{standing}not measured | – |" in (tmp_path / "page.md").read_text()
    assert performance.read(tmp_path / "data") == performance.Data()
    (tmp_path / "metrics.json").write_text(report.model_copy(update={"quick": False}).model_dump_json())
    bench.write_page(tmp_path, tmp_path / "page.md")
    measured = (tmp_path / "page.md").read_text()
    n = len(report.rows)
    assert f"| {n} of {n} | `{report.machine['commit']}` | {report.finished_at[:10]} |" in measured
    assert len(performance.read(tmp_path / "data").rows) == n
    (tmp_path / "metrics.json").write_text(report.model_dump_json())  # a later miniature takes nothing away either
    bench.write_page(tmp_path, tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == measured


def test_a_bench_measured_again_takes_the_place_of_its_rows_and_of_no_others(tmp_path: Path):
    of_row = {"where": "x | y", "it goes": 0.25}
    page.write([result("startup", row(what="old")), result("suite", row(what="kept", details=of_row))], tmp_path / "page.md")
    page.write([result("startup", row(what="new"))], tmp_path / "page.md")
    data = performance.read(tmp_path / "data")
    assert [(one.bench, one.what) for one in data.rows] == [("startup", "new"), ("suite", "kept")]
    assert data.detail(data.rows[1]) == {"where": "x | y", "it goes": "0.25"}
    assert data.benches() == ["startup", "suite"]


def test_a_row_of_data_says_what_its_measurement_says():
    near = row(goal="near", plain=Timed(seconds=(1.0, 1.0)), fast=Timed(seconds=(1.1, 1.3)), target=1.25, difference=2e-8, tolerance=1e-5)
    once = row(plain=Timed(seconds=(7200.0,)), fast=Timed(seconds=(0.5,)), target=None)
    apart = row(difference=None)
    found = page.data_of([result("step", near, once, apart)]).rows
    assert [performance.cells(one) for one in found] == [page.cells(one) for one in (near, once, apart)]
    assert page.cells(near)[1:] == ("1 s", "1.2 s", "1.2 (1.1 to 1.3)", "≤ 1.25", "reached", "yes (largest difference 2e-08)")
    assert page.cells(once)[1:] == ("2.0 h", "500 ms", "1.44e+04", "–", "–", "yes (largest difference 0)")
    assert page.cells(apart)[4:] == ("≥ 3", "not reached", "no: a side failed or chose another epoch")
    assert [(one.commit, one.date, one.tolerance) for one in found] == [("abc1234", "2026-12-01", text) for text in ("1e-05", "0", "0")]


def test_a_target_that_is_not_reached_stands_on_the_page():
    text = page.markdown(page.data_of([result("suite", row(what="slow", target=9.0), row(what="good"), row(what="free", target=None))]))
    assert "| 3 | 1 of 2 | 3 of 3 | `abc1234` | 2026-12-01 |" in text
    missed = text.partition("## Targets that are not reached")[2].partition("\n## ")[0]
    assert "| `suite` | slow | " in missed
    assert "good" not in missed
    assert "free" not in missed


def test_rows_that_are_none_are_refused_with_a_sentence(lobe, tmp_path: Path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / performance.ROWS).write_text("a,b\n")
    monkeypatch.setattr(bench, "run", lambda name, *_, **__: result(name))
    code, _, told = lobe("bench", "metrics", "--out", tmp_path / "out", "--page", tmp_path / "page.md")
    assert code == 2
    assert "has the columns a, b; expected bench, what" in " ".join(told.split())


def test_the_page_says_of_every_bench_what_it_measures():
    assert tuple(page.MEASURES) == bench.NAMES
    assert page.markdown(performance.Data()).count(page.NOT_MEASURED) == len(bench.NAMES) + 3  # the misses, and the two floors


def test_the_page_computes_floor_and_distance_from_a_report():
    counted = row(what="a step", details={page.FLOPS: 6.0, page.PER_IMAGE: 90.0})
    text = page.markdown(page.data_of([result("step", counted, row(what="uncounted"), sizes={page.PRODUCT: 100.0})]))
    assert "| a step | 6 | 60 | 90 | 1.5 |" in text  # 6 GFLOP at 100 GFLOP/s are 60 ms
    assert "| uncounted | " not in text.split("## The arithmetic floor of a step")[1]


def test_an_unknown_bench_is_named(lobe, tmp_path: Path):
    code, _, printed = lobe("bench", "nothing", "--out", tmp_path)
    assert code == 2
    assert "startup" in printed


def test_without_a_gpu_its_rows_are_left_out_with_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import torch

    from tests.perf import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows, sentence = gpu.rows(True, tmp_path)
    assert rows == []
    assert "were not measured" in sentence
