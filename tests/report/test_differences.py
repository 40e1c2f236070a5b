"""Pre-trained against untrained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmark.report import differences
from benchmark.report.differences import gains, leaks
from benchmark.report.resampling import Resampled
from benchmark.report.rows import rows_of

TRAINED = {"backbone": "mine", "digest": "a" * 64}


def test_runs_with_the_same_seeds_are_compared_pairwise(make):
    (gain,) = gains(rows_of(make.runs([0.10, 0.20, 0.30]) + make.runs([0.15, 0.25, 0.35], **TRAINED)))
    assert gain.paired
    assert gain.difference.value == pytest.approx(0.05)
    assert gain.text == "+5.0 ± 0.0"
    assert gain.covers == "runs paired by seed only"


def test_an_interval_over_runs_alone_is_not_tested_even_far_from_zero(make):
    (gain,) = gains(rows_of(make.runs([0.10, 0.20, 0.30]) + make.runs([0.55, 0.65, 0.75], **TRAINED)))
    assert gain.difference.low > 0
    assert (gain.reading, gain.p_text) == ("not tested: no statistics per image, so nothing is known of other test patients", "–")


def drawn(spread: dict[str, float]):
    """Resamples of 60 patients in which a backbone's runs have the standard deviation that `spread` gives it, each on its own."""

    def resampled(record):
        size = spread[record.job.labels.backbone]
        moves = np.random.default_rng(len(record.job.labels.backbone)).standard_normal((1000, 1))
        return Resampled((record.metrics[record.job.experiment.report] + size * moves).astype(np.float32), "test", 60, True)

    return resampled


def test_the_corrected_p_decides_and_not_the_interval(make):
    """Three tasks, each told apart alone and none after Holm's correction: the interval without zero says nothing then."""
    tasks = ("rsna-yolov3-frozen-10", "rsna-yolov3-frozen-100", "rsna-yolov3-finetune-100")
    records = [r for task in tasks for r in make.runs([0.100, 0.101, 0.099, 0.102, 0.100], task=task)]
    records += [r for task in tasks for r in make.runs([0.142, 0.141, 0.139, 0.142, 0.140], task=task, **TRAINED)]
    found = gains(rows_of(records, resampled=drawn({"mine": 0.018, "resnet50 (random)": 0.0})))
    assert [gain.difference.p_value for gain in found] == pytest.approx([0.03] * 3, abs=0.015)
    assert all(gain.difference.low > 0 for gain in found)
    assert [gain.adjusted_p for gain in found] == pytest.approx([3 * gain.difference.p_value for gain in found])
    assert {gain.reading for gain in found} == {"not told apart"}
    (alone,) = gains(
        rows_of([r for r in records if r.job.labels.task == tasks[0]], resampled=drawn({"mine": 0.018, "resnet50 (random)": 0.0}))
    )
    assert alone.reading == "higher"
    assert alone.p_text == f"{alone.adjusted_p:.3f}"


def test_tasks_of_another_backbone_are_a_family_of_their_own(make):
    other = {"backbone": "other", "digest": "b" * 64}
    records = make.runs([0.100, 0.101, 0.099]) + make.runs([0.14, 0.141, 0.139], **TRAINED) + make.runs([0.12, 0.121, 0.119], **other)
    found = gains(rows_of(records, resampled=drawn({"mine": 0.01, "other": 0.01, "resnet50 (random)": 0.0})))
    assert [gain.adjusted_p for gain in found] == [gain.difference.p_value for gain in found]
    assert {gain.trained.backbone for gain in found} == {"mine", "other"}


def test_rows_of_one_split_with_labels_of_another_release_are_compared_over_runs_alone(make):
    """Test images and patients are the same, and so are the resamples; the ground truth is not, or was edited."""
    records = make.runs([0.100, 0.101, 0.099]) + make.runs([0.142, 0.141, 0.139], **TRAINED)
    rows = rows_of(records, resampled=drawn({"mine": 0.001, "resnet50 (random)": 0.001}))
    (gain,) = gains(rows)
    assert (gain.reading, gain.covers) == ("higher", "runs paired by seed, 60 test patients")
    (gain,) = gains([rows[0], replace(rows[1], dataset_digest="f" * 64)])
    assert (gain.difference.value, gain.covers, gain.adjusted_p) == (pytest.approx(0.0407, abs=1e-4), "runs paired by seed only", None)
    assert gain.reading.startswith("not tested: ")


def test_the_leak_of_patients_is_paired_although_two_splits_have_digests_of_their_own(make):
    records = [r for split in ("size-matched", "patient-disjoint") for r in make.runs([0.2, 0.21, 0.22], split=split)]
    rows = rows_of(records, resampled=drawn({"resnet50 (random)": 0.001}))
    (leak,) = leaks([replace(row, dataset_digest=f"{number:064x}") for number, row in enumerate(rows)])
    assert leak.difference.n_clusters == 60


def test_one_run_has_neither_interval_nor_p(make):
    records = [make.record(0.1), make.record(0.4, **TRAINED)]
    (gain,) = gains(rows_of(records, resampled=drawn({"mine": 0.01, "resnet50 (random)": 0.01})))
    assert (gain.text, gain.p_text, gain.covers) == ("+30.0", "–", "no interval")
    assert gain.reading == "not tested: 1 run, a test needs 3"


def test_runs_with_other_seeds_are_compared_as_independent(make):
    trained = [make.record(v, run=run + 10, **TRAINED) for run, v in enumerate([0.5, 0.51, 0.52])]
    (gain,) = gains(rows_of(make.runs([0.1, 0.11, 0.12]) + trained))
    assert not gain.paired
    assert gain.covers == "independent runs only"


def test_rows_of_two_versions_of_a_task_are_never_subtracted(make):
    rows = rows_of(make.runs([0.1, 0.2]) + make.runs([0.3, 0.4], **TRAINED), resampled=drawn({"mine": 0.01, "resnet50 (random)": 0.01}))
    assert differences.tested_alike(rows).all()
    rows[1] = replace(rows[1], task_version=2)
    assert gains(rows) == []
    assert differences.tested_alike(rows).tolist() == [[True, False], [False, True]]
    leaky, disjoint = (replace(rows[0], split=split) for split in ("size-matched", "patient-disjoint"))
    assert len(leaks([leaky, disjoint])) == 1
    assert leaks([leaky, replace(disjoint, task_version=2)]) == []


def test_no_difference_across_architectures_protocols_or_gaps(make):
    random = make.runs([0.1, 0.2])
    assert gains(rows_of(random + make.runs([0.3, 0.4], model="resnet18", **TRAINED))) == []
    assert gains(rows_of(random + make.runs([0.3, 0.4], protocol="corrected", order_seed=1, **TRAINED))) == []
    assert gains(rows_of([*random, make.record(0.3, **TRAINED), make.record(failure="NaN", run=1, **TRAINED)])) == []
