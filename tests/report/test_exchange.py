"""What chance alone would do: p-values from exchanges within patients, corrected over a backbone's tasks, computed once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmark.kinds.kit.stored import STATISTICS_FILE, ByImage, write_statistics
from benchmark.metrics.dice import DiceCounts
from benchmark.metrics.lesions import Lesions
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.statistics import pooled_metric, stack_statistics
from benchmark.report import exchange, stored
from benchmark.report.differences import gains
from benchmark.report.rows import rows_of
from benchmark.report.site import write_site
from benchmark.statistics.uncertainty import paired_permutation

TASK, METRIC = "rsna-linear-frozen-10", "opacity_dice"
TRAINED = {"backbone": "mine", "digest": "a" * 64}
N_IMAGES = 80
IDS = tuple(f"i{i}" for i in range(N_IMAGES))
PAIRS = tuple(f"P{i // 2}" for i in range(N_IMAGES))


def statistics(seed: int, shift: int = 0) -> SegmentationStatistics:
    """Pixel counts of 80 images with errors of their own for every seed; `shift` takes false positives away."""
    size = np.random.default_rng(7).integers(50, 400, (N_IMAGES, 1))
    missed = np.random.default_rng(seed).integers(0, 50, (N_IMAGES, 1))
    none = np.zeros(0, np.int64)
    return SegmentationStatistics(
        ("opacity",), DiceCounts(size - missed, missed + 30 - shift, missed), Lesions(none, none, none, none), None
    )


@pytest.fixture
def store(make, tmp_path: Path):
    """Writes three runs with their statistics and returns the records."""

    def runs(patients=PAIRS, seeds=(1, 2, 3), shift: int = 0, **options) -> list:
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
def tested(tmp_path: Path):
    return partial(exchange.p_value, out=tmp_path)


def test_what_helps_every_patient_is_told_from_chance_and_what_helps_none_is_not(store, tested):
    (gain,) = gains(rows_of(store() + store(shift=25, **TRAINED)), tested)
    assert gain.p_value == pytest.approx(1 / 1001)  # no exchange of a thousand gives as much
    stacked = [pooled_metric(stack_statistics(statistics(s, 25), statistics(s)), METRIC) for s in (1, 2, 3)]
    assert gain.p_value == paired_permutation(stacked, [f"patient {p}" for p in PAIRS])
    (nothing,) = gains(rows_of(store() + store(seeds=(4, 5, 6), **TRAINED)), tested)
    assert nothing.p_value > 0.05


def test_p_values_are_corrected_over_the_tasks_of_one_backbone(make):
    records = []
    for task in ("rsna-yolov3-frozen-10", "rsna-yolov3-frozen-100", "siim-unet-frozen-100"):
        records += make.runs([0.1, 0.2], task=task) + make.runs([0.3, 0.4], task=task, **TRAINED)
        records += make.runs([0.3, 0.4], task=task, backbone="other", digest="b" * 64)
    raw = {"rsna-yolov3-frozen-10": 0.01, "rsna-yolov3-frozen-100": 0.03, "siim-unet-frozen-100": None}
    found = gains(rows_of(records), lambda first, second: raw[first.task] if first.backbone == "mine" else 0.04)
    by_row = {(gain.trained.backbone, gain.trained.task): gain.p_value for gain in found}
    assert by_row["mine", "rsna-yolov3-frozen-10"] == pytest.approx(0.02)
    assert by_row["mine", "rsna-yolov3-frozen-100"] == pytest.approx(0.03)
    assert by_row["mine", "siim-unet-frozen-100"] is None
    assert by_row["other", "siim-unet-frozen-100"] == pytest.approx(0.12)


def test_under_thirty_patients_or_without_statistics_nothing_is_tested(store, make, tested):
    few = tuple(f"P{i % 29}" for i in range(N_IMAGES))
    (gain,) = gains(rows_of(store(patients=few) + store(patients=few, shift=25, **TRAINED)), tested)
    assert (gain.p_value, gain.p_text) == (None, "–")
    records = make.runs([0.1, 0.2, 0.3], task=TASK, threads=2) + make.runs([0.1, 0.2, 0.3], task=TASK, threads=2, **TRAINED)
    assert [g.p_value for g in gains(rows_of(records), tested)] == [None]


def test_rows_over_other_patients_are_not_tested(store, tested):
    others = tuple(f"Q{i}" for i in range(N_IMAGES))
    (gain,) = gains(rows_of(store() + store(patients=others, shift=25, **TRAINED)), tested)
    assert gain.p_value is None


def test_p_values_are_computed_once_and_the_page_says_what_was_tested(store, tested, tmp_path: Path, monkeypatch):
    records = store() + store(shift=25, **TRAINED)
    (gain,) = gains(rows_of(records), tested)
    monkeypatch.setattr(stored, "read", None)
    text = write_site(records, tmp_path, title="T", p_value_of=tested).read_text(encoding="utf-8")
    assert f'<td class="number">{gain.p_text}</td>' in text
    assert "correction over all tasks of that backbone" in text
    assert "correction over all tasks" not in write_site(records, tmp_path, title="T").read_text(encoding="utf-8")
