"""The newcomer's journey, small; the whole one is made from an installed wheel, in tests/verify/test_installing.py."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmark import registry, resolve
from benchmark.cards import Contamination
from benchmark.demo import banks, journey, rank, rows
from benchmark.store import Store
from tests.frames import small_frames

pytestmark = pytest.mark.long(25)

GROUNDING = "rsna-grounding-demo"
LINEAR = ("rsna-linear-frozen-demo", "covid-rural-linear-frozen-demo")


# Too little to say which backbone is ahead, or to rank: the whole demo says it, and tests/training/test_text_pretraining.py that words are
# learnt.
SMALL = journey.Journey(
    {"rsna": 16, "covid-rural": 16},
    pretraining_patients=16,
    images_per_patient=(1, 1),
    pretraining_images=32,
    tasks=LINEAR,
    words=(GROUNDING,),
)


def run(folder: Path) -> tuple[int, str]:
    printed = io.StringIO()
    code = journey.run_demo(folder, "inline", Console(file=printed, width=200), SMALL)
    return code, printed.getvalue()


@pytest.fixture
def in_miniature(monkeypatch: pytest.MonkeyPatch, described_quickly: None) -> Iterator[None]:
    """A few steps on small frames among two encoders made by hand; cards that were included are forgotten."""
    monkeypatch.setattr(journey, "PROCESSES", 1)  # to start one takes longer than it has to draw
    monkeypatch.setattr(banks, "PANEL", banks.PANEL[:2])
    monkeypatch.setattr(rank, "RUNS", 1)
    monkeypatch.setattr(resolve, "describe", functools.cache(resolve.describe))  # nothing is changed between journeys
    before = list(registry.included())
    with small_frames(max_steps=8):
        yield
    registry._included[:] = before
    registry.forget()


def test_the_demo_suite_has_every_head_and_a_budget_for_each():
    cards = [registry.task(name) for name in registry.suite("demo").tasks]
    assert {card.head for card in cards} == {"linear", "unet", "yolov3"}
    assert all(card.recipe.max_steps and not card.recipe.grid and card.runs == 1 for card in cards)


@pytest.mark.usefixtures("in_miniature")
def test_the_whole_journey_in_miniature_and_again_for_nothing(tmp_path: Path):
    code, printed = run(tmp_path)
    assert code == 0, printed
    records = Store(tmp_path / "out").all()
    assert {(r.job.labels.task, r.status, r.phantom) for r in records} == {(task, "ok", True) for task in (*LINEAR, GROUNDING)}
    assert len(records) == 2 * 3 + 1  # two tasks, three rows; one task in words
    assert len(Store(tmp_path / "panel" / "out").all()) == 2
    assert all(f"Row {row!r} is ahead of 'random' on" in printed for row in (rows.TEXT_ROW, rows.IMAGENET_ROW))
    assert f"Asked in words, {GROUNDING}: CNR × 100" in printed
    assert "No rank: " in printed  # of two rows nothing is a scale, and the journey goes on
    values = rows.values_by_row(records)
    assert set(values) == {*LINEAR, GROUNDING}
    assert all(list(values[task]) == [rows.RANDOM_ROW, rows.TEXT_ROW, rows.IMAGENET_ROW] for task in LINEAR)
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert all(name in page for name in ("resnet18 (random)", "resnet18:text_pretrained", "EfficientNet-Lite0"))
    assert {r.job.labels.contamination for r in records} == {Contamination.NONE}
    assert (tmp_path / "out" / "mlflow.db").exists()
    screen = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=80)
    title, heading, *drawn, legend = rows.picture_lines(records, LINEAR, tmp_path / "out", screen)
    assert title.plain == f"{LINEAR[0]}: opacity box-mask Dice, and one test radiograph"
    assert all(f"{row}: " in heading.plain for row in sorted(values[LINEAR[0]], key=values[LINEAR[0]].get)[::2])
    assert len(drawn) == 20
    assert legend.plain.startswith("T: ")  # what takes text in memory tells no encoding, and gets plain characters
    finished = {r.key: r.finished_at for r in records}
    lost = next(r for r in records if r.job.labels.task == LINEAR[1])
    Store(tmp_path / "out").path(lost.key).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.training.fit.load", lambda *_: (_ for _ in ()).throw(KeyError("a bug")))
        code, printed = run(tmp_path)
    assert (code, f"failed: {LINEAR[1]}: KeyError: 'a bug'" in printed) == (1, True)
    Store(tmp_path / "out").put(lost, {Path(n).name: (tmp_path / "out" / n).read_bytes() for n in lost.predictions})
    assert run(tmp_path)[0] == 0
    assert {r.key: r.finished_at for r in Store(tmp_path / "out").all()} == finished
