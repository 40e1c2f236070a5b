"""The newcomer's journey, small; the whole one is made from an installed wheel, in tests/verify/test_installing.py."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmark import demo, registry
from benchmark.store import Store
from tests.frames import small_frames

pytestmark = pytest.mark.long(20)

LINEAR = ("rsna-linear-frozen-demo", "covid-rural-linear-frozen-demo")


def run(folder: Path, executor: str, journey: demo.Journey | None = None) -> tuple[int, str]:
    printed = io.StringIO()
    code = demo.run_demo(folder, executor, Console(file=printed, width=200), journey)
    return code, printed.getvalue()


@pytest.fixture
def few_steps_on_small_frames() -> Iterator[None]:
    with small_frames(max_steps=8):
        yield


def test_the_demo_suite_has_every_head_and_a_budget_for_each():
    cards = [registry.task(name) for name in registry.suite("demo").tasks]
    assert {card.head for card in cards} == {"linear", "unet", "yolov3"}
    assert all(card.recipe.max_steps and not card.recipe.grid and card.runs == 1 for card in cards)


@pytest.mark.usefixtures("few_steps_on_small_frames")
def test_the_whole_journey_in_miniature_and_again_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "PROCESSES", 1)  # to start one takes longer than it has to draw
    # Too little to say which backbone is ahead: the whole demo says it, and tests/training/test_text_pretraining.py that words are learnt.
    journey = demo.Journey(
        {"rsna": 16, "covid-rural": 16},
        pretraining_patients=16,
        images_per_patient=(1, 1),
        pretraining_images=32,
        tasks=LINEAR,
    )
    code, printed = run(tmp_path, "inline", journey)
    assert code == 0, printed
    records = Store(tmp_path / "out").all()
    assert {(r.job.labels.task, r.status, r.phantom) for r in records} == {(task, "ok", True) for task in LINEAR}
    assert len(records) == 6
    assert all(f"Row {row!r} is ahead of 'random' on" in printed for row in (demo.TEXT_ROW, demo.IMAGENET_ROW))
    values = demo.values_by_row(records)
    assert set(values) == set(LINEAR)
    assert all(list(found) == [demo.RANDOM_ROW, demo.TEXT_ROW, demo.IMAGENET_ROW] for found in values.values())
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "resnet18 (random)" in page
    assert "text-pretrained" in page
    assert "EfficientNet-Lite0" in page
    assert (tmp_path / "out" / "mlflow.db").exists()
    screen = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=80)
    title, heading, *drawn, legend = demo.picture_lines(records, LINEAR, tmp_path / "out", screen)
    assert title.plain == f"{LINEAR[0]}: opacity box-mask Dice, and one test radiograph"
    assert all(f"{row}: " in heading.plain for row in sorted(values[LINEAR[0]], key=values[LINEAR[0]].get)[::2])
    assert len(drawn) == 20
    assert legend.plain.startswith("T: ")  # what takes text in memory tells no encoding, and gets plain characters
    finished = {r.key: r.finished_at for r in records}
    Store(tmp_path / "out").path(records[0].key).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.training.fit.load", lambda *_: (_ for _ in ()).throw(KeyError("a bug")))
        code, printed = run(tmp_path, "inline", journey)
    assert (code, f"failed: {records[0].job.labels.task}: KeyError: 'a bug'" in printed) == (1, True)
    Store(tmp_path / "out").put(records[0], {Path(n).name: (tmp_path / "out" / n).read_bytes() for n in records[0].predictions})
    assert run(tmp_path, "inline", journey)[0] == 0
    assert {r.key: r.finished_at for r in Store(tmp_path / "out").all()} == finished


def record(task: str, metric: str, title: str, source: str, backbone: tuple[str, str | None], value: float) -> SimpleNamespace:
    model, digest = backbone
    labels = SimpleNamespace(task=task, metric_title=title, mask_source=source)
    experiment = SimpleNamespace(report=metric, backbone=SimpleNamespace(model=model, digest=digest))
    return SimpleNamespace(status="ok", job=SimpleNamespace(labels=labels, experiment=experiment), metrics={metric: value})


RANDOM, TEXT, PHOTOGRAPHS = ("resnet18", None), ("resnet18", "d"), ("tf_efficientnet_lite0", "e")


def test_the_demo_averages_no_two_metrics():
    """Tasks of one metric have a mean; an AP and a Dice have none together, nor have Dice against outlines and against boxes."""
    tasks = [
        ("boxes", "AP40_75_full", "AP 40-75 (full)", "boxes", 0.02, 0.04),
        ("linear", "opacity_dice", "opacity Dice", "masks", 0.2, 0.3),
        ("unet", "opacity_dice", "opacity Dice", "masks", 0.4, 0.3),
        ("filled", "opacity_dice", "opacity Dice", "boxes", 0.1, 0.5),
    ]
    records = [record(*of, backbone, value) for *of, low, high in tasks for backbone, value in ((RANDOM, low), (TEXT, high))]
    assert demo.means_by_metric(records) == {
        "AP 40-75 (full)": ({"random": 0.02, "pre-trained on text": 0.04}, 1),
        "opacity Dice": ({"random": pytest.approx(0.3), "pre-trained on text": pytest.approx(0.3)}, 2),
        "opacity box-mask Dice": ({"random": 0.1, "pre-trained on text": 0.5}, 1),
    }
    assert demo._comparison_lines(records[:1]) == []  # with nothing to compare nothing is compared
    said = demo._comparison_lines(records)
    assert said[0] == "Row 'pre-trained on text' is ahead of 'random' on 3 of 4 tasks; behind on unet."
    assert "  opacity Dice, mean of 2 tasks: random 30.0, pre-trained on text 30.0" in said


def test_a_mean_is_of_tasks_that_every_row_has():
    of = ("opacity_dice", "opacity Dice", "masks")
    records = [record("linear", *of, backbone, value) for backbone, value in ((RANDOM, 0.2), (TEXT, 0.3), (PHOTOGRAPHS, 0.6))]
    records += [record("unet", *of, RANDOM, 0.9), record("unet", *of, TEXT, 0.9)]  # the third failed
    assert demo.means_by_metric(records) == {"opacity Dice": ({"random": 0.2, "pre-trained on text": 0.3, "ImageNet": 0.6}, 1)}
    assert "Row 'ImageNet' is ahead of 'random' on 1 of 1 tasks." in demo._comparison_lines(records)
