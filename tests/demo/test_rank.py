"""The demo's rank: on the scale of encoders made by hand, with its uncertainty; none where they give no scale."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark import registry
from benchmark.api import Request, write_report
from benchmark.cards import Contamination, Record
from benchmark.demo import banks, rank
from benchmark.errors import UsageError
from benchmark.metrics.statistics import pooled_metric
from benchmark.store import Store
from tests.report.conftest import make_record
from tests.skilled_rows import COUNTS, put, statistics

(TASK,) = registry.suite(rank.SUITE).tasks


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    before = list(registry.included())
    yield
    registry._included[:] = before
    registry.forget()


def labels(factories=banks.PANEL) -> list[str]:
    return [f"banks:{factory.__name__}" for factory in factories]


def store_of(out: Path, skills: dict[str, float]) -> Store:
    """Runs of backbones of some skill on the demo's ranked task; an untrained one has random in its name."""
    store = Store(out)
    for backbone, skill in skills.items():
        seed = zlib.crc32(backbone.encode())
        for run in range(rank.RUNS):
            made = statistics("opacity", skill, (seed, run))
            digest = None if "random" in backbone else f"{seed:064}"
            value = pooled_metric(made, "opacity_dice")(None)
            about = {"task": "rsna-linear-frozen-10", "backbone": backbone, "digest": digest, "counts": COUNTS, "sample_digests": {}}
            put(store, as_of_the_demo(make_record(value, run=run, phantom=True, **about)), made)
    return store


def measured(out: Path, n: int = len(banks.PANEL)) -> SimpleNamespace:
    """As `evaluate` gives it: encoders made by hand, each more skilled than the one before it."""
    store = store_of(out, {label: 0.05 * number for number, label in enumerate(labels(banks.PANEL[:n]))})
    jobs = SimpleNamespace(keys=[record.key for record in store.all()])
    return SimpleNamespace(planned=SimpleNamespace(jobs=jobs, request=SimpleNamespace(out=out)))


def as_of_the_demo(record: Record) -> Record:
    labels = record.job.labels.model_copy(update={"task": TASK, "protocol": "corrected", "contamination": Contamination.NONE})
    return record.model_copy(update={"job": record.job.model_copy(update={"labels": labels})})


def test_rows_are_ranked_with_their_uncertainty_and_an_untrained_one_is_an_anchor(tmp_path: Path):
    found = measured(tmp_path / "panel" / "out")
    rank.include_panel(found, tmp_path / "panel")
    (file,) = (tmp_path / "panel" / "results" / "panels").iterdir()
    card = registry.panel(file.stem)
    assert (card.suite, card.phantom, {row.backbone for row in card.rows}) == (rank.SUITE, True, {*labels()})
    store_of(tmp_path / "out", {"mine": 0.15, "EfficientNet-Lite0": 0.4, "alike": 0.15, "resnet18 (random)": -0.3})
    write_report(tmp_path / "out", title="demo")
    best, second, third, anchor = rank.rank_lines(tmp_path / "out")
    assert best.startswith("  EfficientNet-Lite0: rank 1, +")
    assert (second.partition(",")[0], third.partition(",")[0]) == ("  alike: rank 2 to 3", "  mine: rank 2 to 3")
    assert all(" ± " in line for line in (best, second, third))
    assert "an anchor: untrained" in anchor
    rank.include_panel(found, tmp_path / "panel")  # the journey again: nothing is frozen anew
    assert [file] == list((tmp_path / "panel" / "results" / "panels").iterdir())


def test_a_row_without_a_headline_says_why_once():
    row = {"backbone": "b", "headline": "", "half_width_95": "", "best_rank": "", "worst_rank": "", "why_none": "one run: t"}
    assert rank._line(row) == "  b: no headline: one run: t"
    assert rank._line(row | {"why_none": "no headline; one run: t"}) == "  b: no headline; one run: t"
    assert rank._line(row | {"headline": "1.5", "why_none": "an anchor"}) == "  b: +1.50; an anchor"


def test_a_panel_of_other_images_makes_room(tmp_path: Path):
    panels = tmp_path / "panel" / "results" / "panels"
    found = measured(tmp_path / "out")
    rank.include_panel(found, tmp_path / "panel")
    (before,) = panels.iterdir()
    found.planned.jobs.keys.append("one more")  # as after a change of the cards
    rank.include_panel(found, tmp_path / "panel")
    (after,) = panels.iterdir()
    assert before.name != after.name


def test_too_few_rows_are_no_scale(tmp_path: Path):
    with pytest.raises(UsageError, match="8"):
        rank.include_panel(measured(tmp_path / "out", 3), tmp_path / "panel")
    assert not (tmp_path / "panel").exists()


def test_a_rank_asks_for_all_trained_backbones_as_often_as_it_needs_and_for_its_scale(tmp_path: Path):
    whole = Request(backbones=["torchvision:resnet18", "mine.py:build"], tasks=["x"], out=tmp_path / "out")
    trained, scale = rank.requests_of(whole, tmp_path / "panel")
    assert [(one.suite, one.runs, one.tasks, one.executor) for one in (trained, scale)] == [(rank.SUITE, 3, (), "inline")] * 2
    assert (trained.backbones, trained.out) == (["mine.py:build"], tmp_path / "out")
    assert (scale.backbones, scale.out) == (banks.names(), tmp_path / "panel" / "out")
