"""What the demo says of its rows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmark.demo import rows


def record(task: str, metric: str, title: str, source: str, backbone: tuple[str, str | None], value: float) -> SimpleNamespace:
    model, digest = backbone
    labels = SimpleNamespace(task=task, metric_title=title, mask_source=source)
    experiment = SimpleNamespace(report=metric, backbone=SimpleNamespace(model=model, digest=digest))
    return SimpleNamespace(status="ok", job=SimpleNamespace(labels=labels, experiment=experiment), metrics={metric: value})


RANDOM, TEXT, PHOTOGRAPHS = ("resnet18", None), ("text_pretrained:1", "d"), ("tf_efficientnet_lite0", "e")


def test_the_demo_averages_no_two_metrics():
    """Tasks of one metric have a mean; an AP and a Dice have none together, nor have Dice against outlines and against boxes."""
    tasks = [
        ("boxes", "AP40_75_full", "AP 40-75 (full)", "boxes", 0.02, 0.04),
        ("linear", "opacity_dice", "opacity Dice", "masks", 0.2, 0.3),
        ("unet", "opacity_dice", "opacity Dice", "masks", 0.4, 0.3),
        ("filled", "opacity_dice", "opacity Dice", "boxes", 0.1, 0.5),
    ]
    records = [record(*of, backbone, value) for *of, low, high in tasks for backbone, value in ((RANDOM, low), (TEXT, high))]
    assert rows.means_by_metric(records) == {
        "AP 40-75 (full)": ({"random": 0.02, "pre-trained on text": 0.04}, 1),
        "opacity Dice": ({"random": pytest.approx(0.3), "pre-trained on text": pytest.approx(0.3)}, 2),
        "opacity box-mask Dice": ({"random": 0.1, "pre-trained on text": 0.5}, 1),
    }
    assert rows.comparison_lines(records[:1]) == []  # with nothing to compare nothing is compared
    said = rows.comparison_lines(records)
    assert said[0] == "Row 'pre-trained on text' is ahead of 'random' on 3 of 4 tasks; behind on unet."
    assert "  opacity Dice, mean of 2 tasks: random 30.0, pre-trained on text 30.0" in said


def test_a_mean_is_of_tasks_that_every_row_has():
    of = ("opacity_dice", "opacity Dice", "masks")
    records = [record("linear", *of, backbone, value) for backbone, value in ((RANDOM, 0.2), (TEXT, 0.3), (PHOTOGRAPHS, 0.6))]
    records += [record("unet", *of, RANDOM, 0.9), record("unet", *of, TEXT, 0.9)]  # the third failed
    assert rows.means_by_metric(records) == {"opacity Dice": ({"random": 0.2, "pre-trained on text": 0.3, "ImageNet": 0.6}, 1)}
    assert "Row 'ImageNet' is ahead of 'random' on 1 of 1 tasks." in rows.comparison_lines(records)


def test_runs_of_one_row_are_averaged():
    of = ("opacity_dice", "opacity Dice", "masks")
    records = [record("linear", *of, TEXT, value) for value in (0.2, 0.4)]
    assert rows.values_by_row(records) == {"linear": {"pre-trained on text": pytest.approx(0.3)}}
