"""A study from card to records: every member is made and judged, one that fails stops no other, and the same call finds what is there."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from benchmark import registry
from benchmark.cli import app
from benchmark.store import Store
from tests.study import miniature

pytestmark = pytest.mark.long(15)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    miniature.write(folder)
    yield folder
    registry._included.clear()
    registry.forget()


def run(folder, *words: str):
    registry._included.clear()  # as in a process of its own
    fixed = ("--data", str(folder / "data"), "--out", str(folder / "out"), "--cache", str(folder / "cache"), "--executor", "inline")
    return CliRunner().invoke(app, ["--include", str(folder / "own"), "study", str(folder / "study.yaml"), *fixed, *words])


@pytest.fixture(scope="module")
def first(folder):
    return run(folder)


def test_one_that_fails_stops_no_other(first, folder):
    assert first.exit_code == 1, first.output
    assert "failed: lovt-plain-mini-0: Recipe lovt-plain-mini: objective `words`: no such option" in first.output.replace("\n", " ")
    assert "10 of 10: convirt-mini-on-50-1 is made; held-out images find their own report before" in first.output
    assert len(list((folder / "out" / "backbones").glob("*/*/backbone.yaml"))) == 8


def test_every_backbone_that_is_made_is_judged(first, folder):
    records = Store(folder / "out" / "results").all()
    assert all(record.status == "ok" for record in records)
    names = [record.job.labels.backbone for record in records]
    convirt = ("convirt-mini, seed {}, after 6 pairs", "convirt-mini, seed {}")
    lovt = ("lovt-mini, seed {}, after 6 pairs", "lovt-mini, seed {}")
    alone = ("convirt-mini-shuffled, seed {}", "convirt-mini-on-50, seed {}")
    every = ["resnet18-layer3 (random)", *(one.format(seed) for one in (*convirt, *lovt, *alone) for seed in (0, 1))]
    assert sorted(names) == sorted(every * 2)


def test_report_shows_scores_and_names_what_failed(first, folder):
    assert f"Report: {folder / 'out' / 'study' / 'index.html'}" in first.output.replace("\n", "")
    text = (folder / "out" / "study" / "study.md").read_text().replace("\\", "")
    assert "2 pretraining seeds: nothing is tested" in text
    assert "| lovt-plain-mini-1 | pretraining | Recipe lovt-plain-mini: objective `words`: no such option." in text
    (line,) = [line for line in text.splitlines() if "places help (Retrieval" in line]
    shares = [
        json.loads(path.read_text())["each"]["2"] for path in sorted((folder / "out" / "backbones").glob("*/lovt-mini-?/held_out.json"))
    ]
    assert f"| {100 * sum(sum(one) / len(one) for one in shares) / 2:.1f} |" in line
    assert (folder / "out" / "study" / "study.csv").read_text().count("\nclaim,lovt-mini,convirt-mini") == 2


def test_the_same_call_finds_what_is_there(first, folder):
    files = [*(folder / "out" / "backbones").rglob("*.safetensors"), *(folder / "out" / "results" / "records").rglob("*.json")]
    before = {path: path.stat().st_mtime_ns for path in files}
    again = run(folder)
    assert "8 lie there" in again.output
    assert "convirt-mini-0 lay there; held-out images" in again.output
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_dry_run_lists_the_pretrainings_and_what_is_left(first, folder):
    found = run(folder, "--dry-run")
    assert found.exit_code == 0, found.output
    assert "10 pretrainings, 8 made" in found.output
    assert "Pretraining what is missing takes about" in found.output


def test_a_killed_study_goes_on_from_where_its_member_stood(first, folder, tmp_path):
    """A member whose end is missing is made again to the same weights, and the rest is left alone."""
    (held,) = (folder / "out" / "backbones").glob("*/lovt-mini-1/held_out.json")
    weights = held.with_name("encoder.safetensors")
    before = weights.read_bytes()
    held.write_text(json.dumps(json.loads(held.read_text()) | {"ended": False}))
    again = run(folder)
    assert "7 lie there" in again.output
    assert weights.read_bytes() == before
