"""From records to rows: what is averaged, what is not, and what is said about it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from benchmark import registry
from benchmark.cards import Contamination, DatasetCard, Role
from benchmark.errors import CardError
from benchmark.report import backbone_pages, contenders, paper_sheets, tracks
from benchmark.report.backbone_facts import facts_of
from benchmark.report.row_warnings import CONTAMINATION_UNKNOWN, CUSTOM, LIMITED, PARTIAL, PHANTOM, sentence_of
from benchmark.report.rows import rows_of
from benchmark.submission.trust import Trust

TRAINED = {"backbone": "mine", "digest": "a" * 64}


@pytest.fixture(autouse=True)
def no_cards(monkeypatch):
    registry.suites(), registry.tasks()  # read once, with their datasets; what is kept of them is not to depend on which test came first
    monkeypatch.setattr(registry, "datasets", dict)


def test_runs_of_one_experiment_become_one_row_with_mean_and_t_interval(make):
    (row,) = rows_of(make.runs([0.10, 0.12, 0.14]))
    assert row.mean == pytest.approx(0.12)
    assert row.half_width == pytest.approx(4.3026527 * 0.02 / math.sqrt(3), rel=1e-6)
    assert (row.n_ok, row.n_failed, row.n_missing, row.missing) == (3, 0, 0, "")


def test_a_single_run_has_no_interval_and_says_so(make):
    (row,) = rows_of([make.record(0.2)])
    assert (row.mean, row.half_width) == (0.2, None)
    assert "one run: no interval" in row.warnings


def test_no_mean_over_a_failed_run(make):
    records = [*make.runs([0.1, 0.2]), make.record(failure="The loss became NaN.", run=2)]
    (row,) = rows_of(records)
    assert row.mean is None
    assert row.text == "–"
    assert row.missing == "2 of 3 runs, 1 failed: run 3: The loss became NaN"


def test_no_mean_over_runs_that_were_planned_but_are_missing(make):
    planned = [make.job(run=run) for run in range(5)]
    (row,) = rows_of(make.runs([0.1, 0.2, 0.3]), planned=planned)
    assert row.mean is None
    assert row.missing == "3 of 5 runs, 2 missing: not run yet"


def test_planned_task_without_any_record_is_a_row_with_a_reason(make):
    rows = rows_of(make.runs([0.1]), planned=[make.job(), make.job(task="siim-unet-frozen-100")])
    assert {row.task: row.n_missing for row in rows} == {"rsna-yolov3-frozen-10": 0, "siim-unet-frozen-100": 1}


def test_a_row_that_the_last_plan_left_out_is_measured_by_the_fullest(make):
    planned = [make.job(run=run) for run in range(2)]
    rows = rows_of(make.runs([0.1, 0.2]) + make.runs([0.3], threads=2), planned=planned)
    assert {row.variant: row.missing for row in rows} == {"threads=1": "", "threads=2": "1 of 2 runs, 1 missing: not run yet"}


def test_without_a_plan_the_fullest_row_of_a_task_sets_the_number_of_runs(make):
    rows = rows_of(make.runs([0.1, 0.2, 0.3]) + make.runs([0.2, 0.3], **TRAINED))
    assert {row.backbone: row.missing for row in rows} == {"resnet50 (random)": "", "mine": "2 of 3 runs, 1 missing: not run yet"}


def test_runs_of_another_version_of_the_task_make_no_row_incomplete(make):
    earlier = make.runs([0.1, 0.2, 0.3])
    today = [of_version(record, 2) for record in make.runs([0.2, 0.3], **TRAINED)]
    rows = rows_of(earlier + today)
    assert {(row.backbone, row.task_version): row.missing for row in rows} == {("resnet50 (random)", 1): "", ("mine", 2): ""}


def of_version(record, version: int):
    job = record.job.model_copy(update={"experiment": record.job.experiment.model_copy(update={"task_version": version})})
    return record.model_copy(update={"job": job, "key": job.key})


def test_absent_or_infinite_metric_is_a_gap_not_a_zero(make):
    for metrics in ({}, {"mAP": math.inf}):
        (row,) = rows_of([make.record(metrics=metrics)])
        assert row.mean is None
        assert "mAP of run 1 is absent or not finite" in row.missing


def test_failed_search_explains_the_runs_that_wait_for_it(make):
    search = make.job(role=Role.SELECTION, learning_rate=0.01)
    final = make.job(grid=(0.01, 0.1), learning_rate=None, depends_on=(search.key,))
    (row,) = rows_of([make.record(job=search, failure="Out of memory.")], planned=[search, final])
    assert row.mean is None
    assert row.missing == "0 of 1 runs, 1 missing: learning-rate search: Out of memory"


def test_search_results_never_count_as_runs(make):
    search = make.job(role=Role.SELECTION, learning_rate=0.01)
    final = make.job(grid=(0.01, 0.1), learning_rate=None, depends_on=(search.key,))
    (row,) = rows_of([make.record(0.9, job=search), make.record(0.2, job=final)])
    assert (row.mean, row.n_expected) == (0.2, 1)
    (only_search,) = rows_of([make.record(0.9, job=search)])
    assert only_search.mean is None
    assert "only the learning-rate search" in only_search.missing


def test_a_row_is_trusted_as_far_as_its_runs_and_no_search_lowers_that(make):
    search = make.job(role=Role.SELECTION, learning_rate=0.01)
    final = make.job(grid=(0.01, 0.1), learning_rate=None, depends_on=(search.key,))
    records = [make.record(0.9, job=search), make.record(0.2, job=final)]
    (row,) = rows_of(records, trust={search.key: Trust.REPORTED, final.key: Trust.RESCORED})
    assert row.trust is Trust.RESCORED
    (only_search,) = rows_of(records[:1], trust={search.key: Trust.REPORTED})
    assert only_search.trust is Trust.REPORTED


def test_experiments_that_differ_beyond_seeds_are_never_averaged(make):
    rows = rows_of([make.record(0.1, threads=1), make.record(0.3, threads=2)])
    assert sorted((row.label, row.mean) for row in rows) == [("resnet50 (random) [threads=1]", 0.1), ("resnet50 (random) [threads=2]", 0.3)]


def test_two_weight_files_under_one_label_stay_apart(make):
    rows = rows_of([make.record(0.1, backbone="mine", digest="a" * 64), make.record(0.3, backbone="mine", digest="b" * 64)])
    assert [row.variant for row in rows] == ["backbone.digest=aaaaaaaa…", "backbone.digest=bbbbbbbb…"]


def test_protocol_scale_and_phantom_split_rows(make):
    records = [
        make.record(0.1),
        make.record(0.2, protocol="corrected", order_seed=1),
        make.record(0.3, limit=16),
        make.record(0.4, phantom=True, threads=3),
    ]
    assert len(rows_of(records)) == 4


def test_identical_results_from_different_seeds_raise_a_warning(make):
    (row,) = rows_of(make.runs([0.1872, 0.1775, 0.1775, 0.1775]))
    assert (
        "identical results from different seeds (runs 2, 3, 4): the interval is too narrow; distinct runs alone give 18 ± 6" in row.warnings
    )
    (same,) = rows_of(make.runs([0.2, 0.2]))
    assert any(warning.endswith("too narrow; it is one run over again") for warning in same.warnings)
    (clean,) = rows_of(make.runs([0.1, 0.2, 0.3]))
    assert not any("identical" in warning for warning in clean.warnings)


def test_limited_and_phantom_rows_say_so(make):
    (row,) = rows_of([make.record(0.1, limit=16, phantom=True)])
    assert {LIMITED, PHANTOM} <= set(row.warnings)


def test_unknown_pretraining_data_is_a_warning_except_for_untrained_networks(make):
    random, mine = rows_of([make.record(0.1), make.record(0.2, **TRAINED)])
    assert CONTAMINATION_UNKNOWN not in random.warnings
    assert CONTAMINATION_UNKNOWN in mine.warnings


def test_a_partial_release_is_limited_without_a_limit_and_says_what_it_is(make):
    whole = make.job()
    dataset = whole.experiment.dataset.model_copy(update={"partial": "images of tuberculosis only"})
    job = whole.model_copy(update={"experiment": whole.experiment.model_copy(update={"dataset": dataset})})
    assert (job.limited, whole.limited) == (True, False)
    assert job.key != whole.key
    (planned,) = rows_of([], planned=[job])
    (row,) = rows_of([make.record(0.2, job=job, scale="limited")])
    assert (row.scale, planned.scale) == ("limited", "limited")
    assert PARTIAL.format("images of tuberculosis only") in row.warnings
    assert LIMITED not in row.warnings


def test_contamination_is_what_the_jobs_say_not_what_a_name_resembles(make):
    def said(*words: Contamination | None) -> list:
        jobs = [make.job(run=run, backbone="LoVT", digest="a" * 64) for run in range(len(words))]
        labels = [job.labels.model_copy(update={"contamination": word}) for job, word in zip(jobs, words, strict=True)]
        return [make.record(0.2, job=job.model_copy(update={"labels": label})) for job, label in zip(jobs, labels, strict=True)]

    (clean,) = rows_of(said(Contamination.NONE, Contamination.NONE))
    assert not any("pretraining" in warning for warning in clean.warnings)
    (mixed,) = rows_of(said(Contamination.NONE, Contamination.IMAGES))
    assert "pretraining overlaps this dataset: images" in mixed.warnings
    (older,) = rows_of(said(None))
    assert CONTAMINATION_UNKNOWN in older.warnings


@pytest.mark.parametrize("family", ["torchvision", "python_file"])
@pytest.mark.parametrize("known", list(Contamination))
def test_what_draws_its_weights_is_the_floor_where_it_is_known_to_have_seen_nothing(make, family, known):
    """An author's code may draw one tensor and load the others; its row is then no untrained partner of anybody's."""
    job = make.job(contamination=known)
    ref = job.experiment.backbone.model_copy(update={"family": family})
    job = job.model_copy(update={"experiment": job.experiment.model_copy(update={"backbone": ref})})
    record = make.record(0.2, job=job)
    (row,) = rows_of([record])
    clean = family == "torchvision" or known is Contamination.NONE
    assert (row.random, row.contamination) == (clean, "none" if clean else known.value)
    assert facts_of([record])[row.backbone].random == clean
    assert row.drawn


def test_sentences_about_datasets_without_redistribution_are_withheld(make):
    secret = "box 2 of patient 0bbb2222 leaves the image"
    records = [
        make.record(failure=secret, redistribution="none"),
        make.record(0.1, run=1, warnings=(secret,), redistribution="none"),
    ]
    (row,) = rows_of(records)
    assert "0bbb2222" not in row.missing + "".join(row.warnings)
    assert "TrainingError" in row.missing
    assert sentence_of(make.record(failure=secret)) == secret


def with_labels(record, **update):
    job = record.job.model_copy(update={"labels": record.job.labels.model_copy(update=update)})
    return record.model_copy(update={"job": job})


@pytest.mark.parametrize(("planned", "today", "title"), [("boxes", "masks", "opacity box-mask Dice"), ("masks", "boxes", "opacity Dice")])
def test_a_record_is_reported_by_the_card_it_was_planned_with(make, monkeypatch, planned, today, title):
    """A card that was changed, renamed or removed since says nothing of an old store."""
    record = with_labels(make.record(0.1, task="rsna-linear-frozen-10"), mask_source=planned)
    for cards in ({"rsna": DatasetCard.model_construct(mask_source=today)}, {}):
        monkeypatch.setattr(registry, "datasets", lambda cards=cards: cards)
        (row,) = rows_of([record])
        assert (row.metric_title, row.box_masks) == (title, planned == "boxes")


def test_a_row_by_a_card_of_ones_own_is_marked_custom(make):
    (row,) = rows_of([with_labels(make.record(0.1), custom=("task", "backbone"))])
    assert row.custom == ("task", "backbone")
    assert CUSTOM.format("task, backbone") in row.warnings
    (row,) = rows_of([make.record(0.1)])
    assert row.custom == ()
    assert not any("custom" in warning for warning in row.warnings)


def test_dice_against_filled_boxes_is_called_box_mask_dice(make, monkeypatch):
    card = DatasetCard.model_construct(mask_source="boxes")
    monkeypatch.setattr(registry, "datasets", lambda: {"rsna": card})
    (row,) = rows_of([make.record(0.1, task="rsna-linear-frozen-10")])
    assert row.metric_title == "opacity box-mask Dice"


def test_what_is_not_there_is_not_shown(monkeypatch: pytest.MonkeyPatch):
    def contradicting() -> dict:
        raise CardError("two cards of one name")

    assert backbone_pages._figure(None, "x", []) == ""
    assert contenders._patients_of(SimpleNamespace(dataset="of nobody")) == ""
    refused = [SimpleNamespace(n_records=n, reason=f"reason {n}", first="f") for n in range(1, paper_sheets.MOST_REFUSALS + 3)]
    *_, last = paper_sheets._refused(SimpleNamespace(refused=refused))
    n_more = sum(one.n_records for one in refused[-2:])
    assert last == f"{n_more} more, for 2 further reasons; --json names them."
    for name in ("suites", "tasks"):
        assert getattr(tracks, name)()
        monkeypatch.setattr(registry, name, contradicting)
        assert getattr(tracks, name)() == {}
