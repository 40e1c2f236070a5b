"""Rows of one name: which are of one network and which are not, and that no two labels are alike."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmark.cards import BackboneRef, Job, Record
from benchmark.report.differences import gains, leaks
from benchmark.report.label_curves import label_curves
from benchmark.report.rows import rows_of
from benchmark.report.tables import boards
from benchmark.report.variants import Network

FIRST, SECOND = "rsna-yolov3-frozen-10", "rsna-yolov3-frozen-100"
OLD, NEW = {"backbone": "mine", "digest": "a" * 64}, {"backbone": "mine", "digest": "b" * 64}


def of(job: Job, **experiment: object) -> Job:
    return job.model_copy(update={"experiment": job.experiment.model_copy(update=experiment)})


def on(record: Record, **backbone: object) -> Record:
    """The record with another reference to its backbone."""
    job = of(record.job, backbone=record.job.experiment.backbone.model_copy(update=backbone))
    return record.model_copy(update={"job": job, "key": job.key})


def labels(records: list[Record], planned: Sequence[Job] = ()) -> list[tuple[str, str]]:
    return sorted((row.task, row.label) for row in rows_of(records, planned=planned))


def test_weights_that_changed_between_two_tasks_are_two_rows_of_every_table(make) -> None:
    records = make.runs([0.1, 0.2], task=FIRST, **OLD) + make.runs([0.3, 0.4], task=SECOND, **NEW)
    assert labels(records) == [(FIRST, "mine [backbone.digest=aaaaaaaa…]"), (SECOND, "mine [backbone.digest=bbbbbbbb…]")]
    (board,) = boards(rows_of(records))
    assert len(board.backbones) == 2


def test_a_job_that_was_only_planned_tells_of_other_weights_too(make) -> None:
    planned = [make.job(task=SECOND, **NEW)]
    assert labels([make.record(0.1, task=FIRST, **OLD)], planned) == [
        (FIRST, "mine [backbone.digest=aaaaaaaa…]"),
        (SECOND, "mine [backbone.digest=bbbbbbbb…]"),
    ]


def test_a_network_has_one_label_on_a_task_of_its_own_and_on_one_that_it_shares(make) -> None:
    records = [make.record(0.1, task=FIRST, **OLD), make.record(0.2, task=SECOND, **OLD), make.record(0.3, task=SECOND, **NEW)]
    assert {label for task, label in labels(records) if "aaaa" in label} == {"mine [backbone.digest=aaaaaaaa…]"}


def test_one_network_on_many_tasks_has_its_name_alone(make) -> None:
    drawn_anew = {"backbone": "mine:build (random)", "model": f"build:{'c' * 64}"}
    for options in ({}, OLD, drawn_anew):
        records = [record for task in (FIRST, SECOND) for record in make.runs([0.1, 0.2], task=task, **options)]
        assert {row.variant for row in rows_of(records)} == {""}


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ({"digest": "a" * 64}, {"digest": None}, ("digest=aaaaaaaa…", "digest=none")),
        ({"family": "timm"}, {"family": "torchvision"}, ("family=timm", "family=torchvision")),
        ({"model": "resnet18"}, {"model": "resnet34"}, ("model=resnet18", "model=resnet34")),
        ({"digest": "a" * 64, "container": "raw"}, {"digest": "a" * 64, "container": "averaged"}, ("container=raw", "container=averaged")),
        ({"digest": "a" * 64, "layout": "mgca"}, {"digest": "a" * 64, "layout": "mrm"}, ("layout=mgca", "layout=mrm")),
    ],
    ids=["fixed-and-drawn", "families", "models", "sets-of-one-file", "layouts"],
)
def test_what_makes_another_network_tells_its_rows_apart_on_any_task(make, first: dict, second: dict, told: tuple[str, str]) -> None:
    records = [on(make.record(0.1, task=FIRST), **first), on(make.record(0.2, task=SECOND), **second)]
    assert [row.variant for row in sorted(rows_of(records), key=lambda row: row.task)] == [f"backbone.{one}" for one in told]


@pytest.mark.parametrize("other", [{"layout": "mgca"}, {"init_seed": 7}, {"tokenizer": "d" * 64}, {"minimum_loaded": 0.5}])
def test_what_makes_no_other_network_leaves_a_name_alone(make, other: dict) -> None:
    records = [make.record(0.1, task=FIRST), on(make.record(0.2, task=SECOND), **other)]
    assert {row.variant for row in rows_of(records)} == {""}


def test_names_that_read_alike_are_one_name(make) -> None:
    records = [make.record(0.1, task=FIRST, **OLD), make.record(0.3, task=FIRST, **NEW | {"backbone": "mine\n"})]
    assert labels(records) == [(FIRST, "mine [backbone.digest=aaaaaaaa…]"), (FIRST, "mine [backbone.digest=bbbbbbbb…]")]


def test_rows_that_differ_in_a_fourth_setting_have_a_label_each_and_none_hides_another(make) -> None:
    plain, made = make.job(limit=16, **OLD), []
    recipe = plain.experiment.recipe.model_copy(update={"batch_size": 2})
    for fraction, limit, precision, threads in ((0.2, 32, "float16", 2), (0.2, 32, "float16", 4), (0.1, 48, "float32", 1)):
        made.append(of(plain, fraction=fraction, limit=limit, precision=precision, recipe=recipe, threads=threads))
    rows = rows_of([make.record(0.1, job=job) for job in (plain, *made)])
    assert {row.variant for row in rows} == {
        "fraction=0.1, limit=16, precision=float32, threads=1",
        "fraction=0.2, limit=32, precision=float16, threads=2",
        "fraction=0.2, limit=32, precision=float16, threads=4",
        "fraction=0.1, limit=48, precision=float32, threads=1",
    }
    (board,) = boards(rows)
    assert len(board.cells) == 4


def test_long_values_are_shown_as_far_as_they_tell_two_apart(make) -> None:
    names = ("a_backbone_of_mine:" + "c" * 64, "a_backbone_of_mine:cd" + "c" * 62)
    first, second = rows_of([on(make.record(0.1, backbone="mine", digest="a" * 64), model=name) for name in names])
    assert {first.variant, second.variant} == {f"backbone.model={name[:21]}…" for name in names}


def test_a_second_training_leaves_the_difference_to_the_untrained_network(make) -> None:
    records = make.runs([0.1, 0.11, 0.12], task=FIRST) + make.runs([0.2, 0.21, 0.22], task=FIRST, **OLD)
    records += make.runs([0.1, 0.11, 0.12], task=SECOND) + make.runs([0.3, 0.31, 0.32], task=SECOND, **NEW)
    found = gains(rows_of(records))
    assert [(gain.trained.label, gain.random.label) for gain in found] == [
        ("mine [backbone.digest=aaaaaaaa…]", "resnet50 (random)"),
        ("mine [backbone.digest=bbbbbbbb…]", "resnet50 (random)"),
    ]


def test_no_leak_and_no_curve_over_labels_joins_two_trainings(make) -> None:
    for second, n_found in ((OLD, 1), (NEW, 0)):
        split = make.runs([0.2, 0.21], split="size-matched", **OLD) + make.runs([0.1, 0.11], split="patient-disjoint", **second)
        assert len(leaks(rows_of(split))) == n_found
        shares = make.runs([0.2, 0.21], task=FIRST, **OLD) + make.runs([0.3, 0.31], task=SECOND, **second)
        assert len(label_curves(rows_of(shares))) == n_found


def test_every_field_of_a_reference_makes_another_network_or_has_its_reason() -> None:
    no_other = {
        "init_seed": "drawn anew",
        "minimum_loaded": "a check",
        "normalisation": "of images",
        "tokenizer": "of words",
        "text_code": "of words",
    }
    assert set(BackboneRef.model_fields) == {*Network._fields, *no_other}
