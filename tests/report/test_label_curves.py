"""Scores by share of labels: what belongs to one curve, and what does not."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from benchmark.report.label_curves import label_curves, to_csv
from benchmark.report.rows import rows_of

TRAINED = {"backbone": "mine", "digest": "a" * 64}


@pytest.fixture
def rows(make):
    records = []
    for task, value in (("rsna-yolov3-frozen-100", 0.3), ("rsna-yolov3-frozen-10", 0.2), ("rsna-yolov3-finetune-100", 0.4)):
        for options in ({}, TRAINED):
            records += make.runs([value, value + 0.01, value + 0.02], task=task, **options)
    return rows_of(records)


def test_a_curve_rises_through_the_shares_of_one_recipe_and_backbone(rows) -> None:
    found = label_curves(rows)
    assert [(curve.name, curve.label) for curve in found] == [
        ("rsna-yolov3-frozen-*", "resnet50 (random)"),
        ("rsna-yolov3-frozen-*", "mine"),
    ]
    for curve in found:
        assert [(row.fraction, row.mean) for row in curve.points] == [(0.1, pytest.approx(0.21)), (1.0, pytest.approx(0.31))]


def test_tasks_of_other_recipes_protocols_and_splits_are_other_curves(rows) -> None:
    other = [replace(row, task=f"{row.task}-mgca") for row in rows] + [replace(row, split="patient-disjoint") for row in rows]
    names = {curve.name for curve in label_curves(rows + other)}
    assert names == {"rsna-yolov3-frozen-*", "rsna-yolov3-frozen-*-mgca"}
    assert len(label_curves(rows + other)) == 6
    assert all(len({row.split for row in curve.points}) == 1 for curve in label_curves(rows + other))


def test_a_gap_is_no_point_and_one_point_no_curve(rows) -> None:
    gap = [replace(row, cell=None) if row.fraction == 0.1 and row.backbone == "mine" else row for row in rows]
    assert [curve.label for curve in label_curves(gap)] == ["resnet50 (random)"]


def test_the_file_says_how_many_images_a_share_is(rows) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(label_curves(rows)))))
    assert [(line["label_fraction"], line["train_images"]) for line in lines[:2]] == [("0.1", "160"), ("1.0", "160")]
    assert float(lines[0]["mean_percent"]) == pytest.approx(21)
    assert float(lines[0]["half_width_95_percent"]) > 0
    assert lines[0]["validation_images"] == ""
