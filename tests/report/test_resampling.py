"""The interval of a row covers runs and test patients, from stored statistics alone, and is computed once."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmark import processes
from benchmark.cards import Words
from benchmark.errors import UsageError
from benchmark.kinds.kit.stored import STATISTICS_FILE, ByImage, write_statistics
from benchmark.metrics.dice import DiceCounts
from benchmark.metrics.lesions import Lesions
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.statistics import pooled_metric
from benchmark.report import resampling, stored
from benchmark.report.differences import gains, leaks
from benchmark.report.row_warnings import BY_IMAGE, NOT_RESAMPLED, ONE_RUN, RUNS_ONLY
from benchmark.report.rows import rows_of
from benchmark.report.site import write_site
from benchmark.statistics.bootstrap import cluster_bootstrap
from benchmark.statistics.levels import resampled_variance
from benchmark.statistics.two_part import two_part_half_width, two_part_p

TASK, METRIC = "rsna-linear-frozen-10", "opacity_dice"
TRAINED = {"backbone": "mine", "digest": "a" * 64}
N_IMAGES = 80
IDS = tuple(f"i{i}" for i in range(N_IMAGES))


def statistics(seed: int, shift: int = 0) -> SegmentationStatistics:
    """Pixel counts of 80 images: the images are the same for every seed, the errors are not."""
    size = np.random.default_rng(7).integers(50, 400, (N_IMAGES, 1))
    missed = np.random.default_rng(seed).integers(0, 50, (N_IMAGES, 1))
    none = np.zeros(0, np.int64)
    return SegmentationStatistics(
        ("opacity",), DiceCounts(size - missed, missed + 30 - shift, missed), Lesions(none, none, none, none), None
    )


@pytest.fixture
def store(make, tmp_path: Path):
    """Writes runs with their statistics and returns the records; `patients` gives each image's patient."""

    def runs(patients=tuple(f"P{i // 2}" for i in range(N_IMAGES)), seeds=(1, 2, 3), shift: int = 0, **options) -> list:
        records = []
        for run, seed in enumerate(seeds):
            made = statistics(seed, shift)
            record = make.record(pooled_metric(made, METRIC)(None), task=TASK, run=run, **options)
            folder = tmp_path / "predictions" / record.key
            folder.mkdir(parents=True, exist_ok=True)
            write_statistics(folder / STATISTICS_FILE, ByImage(IDS, tuple(patients), made), {})
            records.append(record)
        return records

    return runs


@pytest.fixture
def resampled(tmp_path: Path):
    return partial(resampling.of_record, out=tmp_path)


def test_the_interval_is_the_sum_of_both_variances(store, resampled):
    (row,) = rows_of(store(), resampled=resampled)
    clusters = [f"patient P{i // 2}" for i in range(N_IMAGES)]
    draws = np.mean([cluster_bootstrap(pooled_metric(statistics(s), METRIC), clusters) for s in (1, 2, 3)], axis=0)
    v_seed, v_patient = np.var(row.values, ddof=1) / 3, np.var(draws, ddof=1)
    assert row.half_width == pytest.approx(float(two_part_half_width((v_seed, 2), (v_patient, 39))), rel=1e-5)
    assert [(level.name, level.freedom) for level in row.cell.levels] == [("runs", 2), ("patients", 39)]
    assert (row.covers, RUNS_ONLY in row.warnings) == ("runs and 40 test patients", False)


def test_a_paired_difference_leaves_out_what_both_rows_share(store, resampled):
    rows = rows_of(store() + store(shift=20, **TRAINED), resampled=resampled)
    (gain,) = gains(rows)
    assert gain.covers == "runs paired by seed, 40 test patients"
    assert gain.difference.half_width < min(row.half_width for row in rows)
    assert (gain.reading, gain.difference.value > 0) == ("higher", True)


def test_a_difference_is_tested_against_other_runs_and_other_patients(store, resampled):
    rows = rows_of(store() + store(shift=20, **TRAINED), resampled=resampled)
    (gain,) = gains(rows)
    random, trained = rows
    seed = (np.var(np.subtract(trained.values, random.values), ddof=1) / 3, 2)
    expected = two_part_p(trained.mean - random.mean, seed, (np.var(trained.resampled.mean - random.resampled.mean, ddof=1), 39))
    assert gain.adjusted_p == pytest.approx(float(expected), rel=1e-6)  # one task: nothing to correct for
    assert gain.p_text == "< 0.001 (low power)"
    (unknown,) = gains(rows_of(store() + store(shift=20, **TRAINED)))
    assert (unknown.adjusted_p, unknown.p_text) == (None, "–")


def test_a_difference_over_few_images_with_the_finding_is_not_tested(store, resampled):
    few = {"counts": {"test": {"images": 80, "positives": 14}}}
    (gain,) = gains(rows_of(store(**few) + store(shift=20, **TRAINED, **few), resampled=resampled))
    assert (gain.adjusted_p, gain.difference.low > 0) == (None, True)
    assert gain.reading == "not tested: 14 test patients with the finding, a test needs 15"


def test_rows_over_other_patients_are_not_paired_by_patient(store, resampled):
    others = tuple(f"Q{i}" for i in range(N_IMAGES))
    (gain,) = gains(rows_of(store() + store(patients=others, shift=20, **TRAINED), resampled=resampled))
    assert gain.covers == "runs paired by seed only"


def test_the_leak_is_the_size_matched_minus_the_patient_disjoint_row(store, resampled):
    records = store(split="size-matched", shift=20) + store(split="patient-disjoint") + store(split="lovt")
    (leak,) = leaks(rows_of(records, resampled=resampled))
    assert (leak.leaky.split, leak.disjoint.split) == ("size-matched", "patient-disjoint")
    assert leak.difference.value == pytest.approx(leak.leaky.mean - leak.disjoint.mean)
    assert leak.covers.endswith("40 test patients")


def test_unknown_patients_are_resampled_by_image_and_few_are_descriptive(store, resampled):
    (row,) = rows_of(store(patients=[None] * N_IMAGES), resampled=resampled)
    assert (row.covers, BY_IMAGE in row.warnings) == ("runs and 80 test images", True)
    few = store(patients=[f"P{i % 12}" for i in range(N_IMAGES)], **TRAINED)
    (row,) = rows_of(few, resampled=resampled)
    assert "12 test patients, fewer than 30: the interval is descriptive" in row.warnings
    (gain,) = gains(rows_of(few + store(patients=[f"P{i % 12}" for i in range(N_IMAGES)], shift=9, split="lovt"), resampled=resampled))
    assert gain.reading == "not tested: 12 test patients, a test needs 30"


def test_without_statistics_the_interval_covers_runs_and_says_so(make, resampled):
    (row,) = rows_of(make.runs([0.1, 0.2, 0.3], task=TASK), resampled=resampled)
    assert (row.covers, RUNS_ONLY in row.warnings) == ("runs", True)


def test_a_metric_undefined_in_many_resamples_gives_no_patient_part(make):
    def drawn(undefined: int):
        values = np.random.default_rng(0).normal(0.2, 0.01, (40, 1)).astype(np.float32)
        values[:undefined] = np.nan
        return lambda record: resampling.Resampled(values, "t", 40, True)

    assert resampled_variance(drawn(2)(None).mean) > 0
    for undefined, covers in ((2, "runs and 40 test patients"), (3, "runs")):
        (row,) = rows_of(make.runs([0.1, 0.2, 0.3], task=TASK), resampled=drawn(undefined))
        assert (row.covers, RUNS_ONLY in row.warnings) == (covers, covers == "runs")


def test_fixed_weights_on_a_task_that_trains_nothing_have_the_interval_of_their_patients(make, store, resampled):
    """Nothing is drawn but patients, and one evaluation is all there is, however many an untrained network has."""
    asked = {"words": Words()}
    untrained, (fixed, *_) = store(**asked), store(shift=20, **TRAINED, **asked)
    random, trained = rows_of([*untrained, fixed], resampled=resampled)
    assert (trained.drawn, trained.n_expected, trained.covers, trained.missing) == (False, 1, "40 test patients", "")
    assert (random.drawn, random.covers) == (True, "runs and 40 test patients")
    assert trained.half_width == pytest.approx(float(two_part_half_width((0, 1), (np.var(trained.resampled.mean, ddof=1), 39))))
    (gain,) = gains([random, trained])
    assert (gain.covers, gain.reading) == ("independent runs, 40 test patients", "higher")
    (unknown,) = rows_of([fixed])
    assert (unknown.half_width, NOT_RESAMPLED in unknown.warnings, ONE_RUN in unknown.warnings) == (None, True, False)


def test_resamples_are_computed_once_and_again_when_the_statistics_change(store, resampled, tmp_path: Path, monkeypatch):
    (record, *_) = store()
    first = resampled(record)
    with monkeypatch.context() as patch:
        patch.setattr(stored, "read", None)
        assert_same(resampled(record), first)
    path = tmp_path / "predictions" / record.key / STATISTICS_FILE
    write_statistics(path, ByImage(IDS, (None,) * N_IMAGES, statistics(1)), {})
    again = resampled(record)
    assert (again.n_clusters, again.by_patient) == (N_IMAGES, False)
    assert_same(resampled(record), again)


def test_several_processes_leave_the_resamples_that_one_would(store, resampled, tmp_path: Path, monkeypatch):
    records = store()
    alone = [resampled(record) for record in records]
    shutil.rmtree(tmp_path / stored.FOLDER)
    (tmp_path / "predictions" / records[0].key / STATISTICS_FILE).write_bytes(b"no parquet")  # one that nobody can read stops no other
    monkeypatch.setattr(processes, "LEAST", 1)
    monkeypatch.setattr(processes, "usable_cores", lambda: 2)
    of = resampling.of_records(records, tmp_path)
    assert {path.stem for path in (tmp_path / stored.FOLDER).iterdir()} == {record.key for record in records[1:]}
    for record, expected in list(zip(records, alone, strict=True))[1:]:
        assert_same(of(record), expected)
    with pytest.raises(UsageError):
        of(records[0])


def test_a_damaged_cache_is_computed_again(store, resampled, tmp_path: Path):
    (record, *_) = store()
    first = resampled(record)
    (tmp_path / stored.FOLDER / f"{record.key}.json").write_text("{")
    assert_same(resampled(record), first)


def assert_same(first: resampling.Resampled, second: resampling.Resampled) -> None:
    np.testing.assert_array_equal(first.values, second.values)
    assert (first.test, first.n_clusters, first.by_patient) == (second.test, second.n_clusters, second.by_patient)


def test_the_page_shows_the_leak_and_what_intervals_cover(store, resampled, tmp_path: Path):
    records = store(split="size-matched", shift=20) + store(split="patient-disjoint")
    write_site(records, tmp_path, title="T", resampled=resampled)
    task = tmp_path / "report" / "tasks" / f"{records[0].job.labels.task}.html"
    page = task.read_text(encoding="utf-8")
    assert "What the leak of patients is worth" in page
    assert "runs paired by seed, 40 test patients, n = 3" in page
    assert "runs and 40 test patients" in (tmp_path / "report" / "leaderboard.csv").read_text()
    write_site(records[:3], tmp_path, title="T", resampled=resampled)
    assert "What the leak" not in task.read_text(encoding="utf-8")


def test_a_kept_value_that_is_none_is_computed_again_and_a_metric_that_is_not_there_never(store, resampled, tmp_path: Path):
    (record, *_) = store()
    first = resampled(record)
    path = tmp_path / stored.FOLDER / f"{record.key}.json"
    content = json.loads(path.read_text())
    stored.keep(record.key, content["given"], {**content["found"], "values": "no base64"}, tmp_path)
    assert_same(resampled(record), first)
    assert resampling._computed(stored.read(record.key, METRIC, tmp_path), "froc") is None
    for file in (tmp_path / "predictions" / record.key).iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match="statistics"):
        stored.read(record.key, METRIC, tmp_path)
