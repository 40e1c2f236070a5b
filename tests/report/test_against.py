"""A suite's named reference: one family of tests for each backbone and track."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from benchmark import registry
from benchmark.cards import Record, SuiteCard
from benchmark.report.against import against, against_references, to_csv
from benchmark.report.resampling import Resampled
from benchmark.report.rows import Row, rows_of
from benchmark.statistics.families import holm

FROZEN = ("rsna-yolov3-frozen-10", "rsna-yolov3-frozen-100", "siim-unet-frozen-100")
TASKS = (*FROZEN, "rsna-linear-frozen-10")


def drawn(record: Record) -> Resampled:
    rng = np.random.default_rng([record.job.labels.run, len(record.job.labels.backbone)])
    moves = 0.01 * rng.standard_normal((1000, 1))
    return Resampled(
        (record.metrics[record.job.experiment.report] + moves).astype(np.float32), record.job.experiment.dataset.name, 60, True
    )


@pytest.fixture
def found(make):
    records = []
    for i, task in enumerate(TASKS):
        records += make.runs([0.200, 0.202, 0.204], task=task, backbone="imagenet", digest="0" * 64)
        records += make.runs([0.215 + 0.005 * i, 0.218 + 0.005 * i, 0.219 + 0.005 * i], task=task, backbone="mine", digest="1" * 64)
        records += make.runs([0.203, 0.201, 0.200], task=task, backbone="other", digest="2" * 64)
    return against(rows_of(records, resampled=drawn), "imagenet")


def test_every_task_of_every_other_backbone_is_compared_with_the_reference(found) -> None:
    assert {(one.row.label, one.row.task) for one in found} == {(name, task) for name in ("mine", "other") for task in TASKS}
    assert all(one.reference.label == "imagenet" and one.reference.task == one.row.task for one in found)
    assert all(one.difference.value == pytest.approx(one.row.mean - one.reference.mean) for one in found)
    assert all(one.covers == "runs paired by seed, 60 test patients" for one in found)


def test_holm_corrects_over_the_tasks_of_one_backbone_in_one_track(found) -> None:
    mine = [one for one in found if one.row.label == "mine" and one.row.track == "head-frozen"]
    assert [one.adjusted_p for one in mine] == pytest.approx(holm([one.difference.p_value for one in mine]))
    (linear,) = [one for one in found if one.row.label == "mine" and one.row.track == "linear-frozen"]
    assert linear.adjusted_p == linear.difference.p_value


@pytest.mark.parametrize("called", ["ResNet-50 ImageNet", "resnet50 (IMAGENET1K_V1)"])
def test_the_file_holds_every_difference_of_suites_that_name_a_reference(make, monkeypatch: pytest.MonkeyPatch, called: str) -> None:
    """However the reference was named when it ran: by its card, or as the library's own weights."""
    card = SuiteCard(name="mine", title="T", description="D", tasks=FROZEN, reference="imagenet-resnet50")
    silent = SuiteCard(name="silent", title="T", description="D", tasks=TASKS)
    monkeypatch.setattr(registry, "suites", lambda: {"mine": card, "silent": silent})
    records = []
    for task in TASKS:
        records += make.runs([0.200, 0.202, 0.204], task=task, backbone=called, model="resnet50", digest="0" * 64)
        records += make.runs([0.215, 0.218, 0.219], task=task, backbone="mine", digest="1" * 64)
        records += make.runs([0.215, 0.218, 0.219], task=task, backbone="mine", digest="1" * 64, limit=8)
    lines = list(csv.DictReader(io.StringIO(to_csv(against_references(rows_of(records, resampled=drawn))))))
    assert [(line["suite"], line["backbone"], line["reference"], line["scale"]) for line in lines] == [
        ("mine", "mine", called, "full")
    ] * len(FROZEN)
    for line in lines:
        assert float(line["difference_points"]) == pytest.approx(100 * (0.652 - 0.606) / 3)
        assert float(line["p"]) <= float(line["p_holm"])
        assert float(line["half_width_95_points"]) > 0
        assert float(line["counted_twice_points_squared"]) >= 0
        assert line["reading"] in ("higher", "not told apart")


def test_another_network_of_the_references_name_is_not_the_reference(make, monkeypatch: pytest.MonkeyPatch) -> None:
    card = SuiteCard(name="mine", title="T", description="D", tasks=FROZEN, reference="imagenet-resnet50")
    monkeypatch.setattr(registry, "suites", lambda: {"mine": card})
    named = {"backbone": "ResNet-50 ImageNet", "model": "resnet18"}
    records = [one for task in FROZEN for of in (named, {"backbone": "mine"}) for one in make.runs([0.20, 0.21, 0.22], task=task, **of)]
    assert against_references(rows_of(records, resampled=drawn)) == []


def test_ones_own_card_of_the_references_title_is_not_the_reference(make, monkeypatch: pytest.MonkeyPatch) -> None:
    card = SuiteCard(name="mine", title="T", description="D", tasks=FROZEN, reference="imagenet-resnet50")
    monkeypatch.setattr(registry, "suites", lambda: {"mine": card})

    def rows(custom: tuple[str, ...]) -> list[Row]:
        """As the reference and another ran; the reference by a card that is custom or shipped."""
        records = []
        for task in FROZEN:
            for one in make.runs([0.200, 0.202, 0.204], task=task, backbone="ResNet-50 ImageNet", model="resnet50", digest="0" * 64):
                job = one.job.model_copy(update={"labels": one.job.labels.model_copy(update={"custom": custom})})
                records.append(one.model_copy(update={"job": job}))
            records += make.runs([0.215, 0.218, 0.219], task=task, backbone="mine", digest="1" * 64)
        return rows_of(records, resampled=drawn)

    assert against_references(rows(())) != []
    assert against_references(rows(("backbone",))) == []


def test_another_version_of_the_task_is_not_compared_with_the_reference(make) -> None:
    records = make.runs([0.20, 0.21], backbone="imagenet", digest="0" * 64) + make.runs([0.22, 0.23], backbone="mine", digest="1" * 64)
    rows = rows_of(records, resampled=drawn)
    assert len(against(rows, "imagenet")) == 1
    assert against([replace(row, task_version=2) if row.label == "mine" else row for row in rows], "imagenet") == []


def test_without_the_reference_nothing_is_compared(make) -> None:
    assert against(rows_of(make.runs([0.1, 0.2, 0.3])), "imagenet") == []
