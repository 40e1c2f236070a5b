"""The site of a community's leaderboard: 200 backbones on 60 tasks with five runs each is written in the time of some passes over its
records (about a minute), and opens in two seconds.

Records are made by code. Where they were verified before they lie in memory, as the index of an output folder hands them over, and their
resamples are given, as those that a report kept. Where nothing was, they lie in a folder with the statistics of 200 test images each, and
a process of its own computes every metric and every resample: at most twice what reading, computing and resampling take alone (in a
quarter of an hour, where a core is quick). That is done for a twentieth and a tenth of the backbones; the memory of all follows from the
two, and `make studies` does all of it.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmark.cards import Record, Role
from benchmark.plan import no_garbage
from benchmark.report.resampling import Resampled
from benchmark.report.site import write_site
from benchmark.statistics.bootstrap import N_RESAMPLES
from tests.perf import many_records

pytestmark = [pytest.mark.slow, pytest.mark.alone]

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
N_BACKBONES, N_TASKS, N_EPOCHS = 200, 60, 30
MOST_PASSES, MOST_BYTES, MOST_OPENING_S = 10, 1_000_000, 2.0
MOST_TIMES_ALONE, MOST_MIB = 2, 4096
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many_records, "SUITE", "grid")
        found: dict[str, list[Record]] = {}
        for job in many_records.many_jobs():
            if job.labels.backbone not in found and len(found) == N_BACKBONES:
                break
            mine = found.setdefault(job.labels.backbone, [])
            if job.experiment.role is Role.FINAL and len({r.job.labels.task for r in mine} | {job.labels.task}) <= N_TASKS:
                mine.append(many_records.record_of(job, 1))
        return list(itertools.chain.from_iterable(found.values()))


@pytest.fixture(scope="module")
def written(records, tmp_path_factory) -> tuple[Path, float]:
    """The site, and the seconds that it took."""
    curve = many_records.record_of(records[0].job, N_EPOCHS).curve
    rng = np.random.default_rng(0)
    draws = rng.normal(0, 0.02, (16, N_RESAMPLES)).astype(np.float32)

    def resampled(record: Record) -> Resampled:
        value = record.metrics[record.job.experiment.report]
        return Resampled((value + draws[int(record.key[0], 16)])[:, None], record.job.experiment.dataset.name, 200, True)

    out = tmp_path_factory.mktemp("large")
    start = time.perf_counter()
    with no_garbage():
        page = write_site(records, out, title="Large", resampled=resampled, curve_of=lambda record: curve)
    return page, time.perf_counter() - start


def seconds_of_a_pass(records: list[Record]) -> float:
    """Seconds in which this machine writes every record as JSON and reads it again, of a tenth of them."""
    some = records[::10]
    start = time.perf_counter()
    with no_garbage():
        assert [Record.model_validate_json(text).key for text in [record.model_dump_json() for record in some]]
    return (time.perf_counter() - start) * len(records) / len(some)


def test_it_is_written_in_the_time_of_few_passes_over_its_records(records, written, record_property):
    page, seconds = written
    one = seconds_of_a_pass(records)
    record_property("saw", f"{seconds:.0f} s; writing and reading its records as JSON {one:.0f} s")
    assert len(records) == N_BACKBONES * N_TASKS * 5
    assert len(list((page.parent / "backbones").iterdir())) == N_BACKBONES
    assert len(list((page.parent / "tasks").iterdir())) == N_TASKS
    assert seconds < MOST_PASSES * one


def test_the_first_page_weighs_under_a_megabyte_with_all_that_it_loads(written):
    page, _ = written
    assets = page.parent / "assets"
    loaded = [page, *(assets / name for name in ("lobe.css", "datatables.js", "core.js", "tables.js", "figures.js"))]
    assert sum(path.stat().st_size for path in loaded) < MOST_BYTES
    assert page.stat().st_size < MOST_BYTES / 2


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: `apt-get install chromium`")
def test_it_can_be_used_within_two_seconds(written):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `make install` brings it")
    page_file, _ = written
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        took = []
        for _ in range(3):
            page = browser.new_page()
            begin = time.perf_counter()
            page.goto(page_file.as_uri())
            page.locator("[data-tools-for=ranking] input").fill("method 17")
            page.locator("[data-tools-for=ranking] .count", has_text="of 200").wait_for()
            took.append(time.perf_counter() - begin)
            page.close()
        browser.close()
    assert min(took) < MOST_OPENING_S


def unverified(folder: Path, n_backbones: int) -> dict[str, float]:
    """Seconds of this machine and most memory of the processes that report on a folder which no report has read."""

    def child(*given: object) -> str:
        command = [sys.executable, "-m", "tests.perf.unverified_store", folder, *given]
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    child("fill", n_backbones)
    alone_s: float = json.loads(child("alone").splitlines()[-1])["cpu_s"]
    found: dict[str, float] = json.loads(child("report").splitlines()[-1])
    found["times_alone"] = found["cpu_s"] / alone_s
    assert found["refused"] == 0
    assert len(list((folder / "report" / "backbones").iterdir())) == n_backbones
    assert len(list((folder / "resamples").iterdir())) == n_backbones * N_TASKS * 5
    shutil.rmtree(folder)
    return found


def said(found: dict[str, float]) -> str:
    times = f"{found['times_alone']:.2f} times those of the arithmetic alone"
    return f"{found['wall_s']:.0f} s, {found['cpu_s']:.0f} s of a core, {times}, {found['peak_mib']:,.0f} MiB"


def test_one_that_nobody_verified_takes_few_times_its_arithmetic_and_no_more_memory_than_it_may(tmp_path, record_property):
    few, more = N_BACKBONES // 20, N_BACKBONES // 10
    first, second = unverified(tmp_path / "few", few), unverified(tmp_path / "more", more)
    whole = {name: first[name] + (second[name] - first[name]) * (N_BACKBONES - few) / (more - few) for name in ("wall_s", "peak_mib")}
    record_property("of a tenth", said(second))
    record_property("of all by extrapolation", f"{whole['wall_s']:.0f} s, {whole['peak_mib']:,.0f} MiB")
    assert second["times_alone"] < MOST_TIMES_ALONE
    assert whole["peak_mib"] < MOST_MIB


@pytest.mark.study
def test_all_of_one_that_nobody_verified_takes_no_more_either(tmp_path, record_property):
    found = unverified(tmp_path / "all", N_BACKBONES)
    record_property("saw", said(found))
    assert found["times_alone"] < MOST_TIMES_ALONE
    assert found["peak_mib"] < MOST_MIB
