"""A study from card to records: every member is made and judged, one that fails stops no other, and the same call finds what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark import registry
from benchmark.cli import app
from benchmark.store import Store
from benchmark.study import reading, running
from benchmark.study.costs import Cost
from tests.study import miniature
from tests.study.miniature import IN_WORDS, TASK

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
    fixed = (
        "--data",
        str(folder / "data"),
        "--out",
        str(folder / "out"),
        "--cache",
        str(folder / "cache"),
        "--executor",
        "inline",
        "--no-tracking",
    )
    return CliRunner().invoke(app, ["--include", str(folder / "own"), "study", str(folder / "study.yaml"), *fixed, *words])


@pytest.fixture(scope="module")
def first(folder):
    return run(folder)


def test_one_that_fails_stops_no_other(first, folder):
    assert first.exit_code == 1, first.output
    assert "failed: lovt-plain-mini-0: Recipe lovt-plain-mini: objective `words`: no such option" in first.output.replace("\n", " ")
    assert "5 of 5: convirt-mini-on-50-0 is made; held-out images find their own report before" in first.output
    assert len(list((folder / "out" / "backbones").glob("*/*/backbone.yaml"))) == 4


def test_every_backbone_that_is_made_is_judged(first, folder):
    records = Store(folder / "out" / "results").all()
    assert all(record.status == "ok" for record in records)
    methods = [f"{name}, seed 0{after}" for name in ("convirt-mini", "lovt-mini") for after in (", after 6 pairs", "")]
    controls = ["convirt-mini-shuffled, seed 0", "convirt-mini-on-50, seed 0"]
    judged = {task: sorted(r.job.labels.backbone for r in records if r.job.labels.task == task) for task in (TASK, IN_WORDS)}
    assert judged[TASK] == sorted([*methods, *controls, "resnet18-layer3 (random)"])
    assert judged[IN_WORDS] == sorted(f"{title}, with text" for title in (*methods, *controls))


def test_report_shows_scores_and_names_what_failed(first, folder):
    assert f"Report: {folder / 'out' / 'study' / 'index.html'}" in first.output.replace("\n", "")
    text = (folder / "out" / "study" / "study.md").read_text().replace("\\", "")
    assert "1 pretraining seed: nothing is tested" in text
    assert "MS-CXR, grounding, mini" in text
    (seen,) = [line for line in text.splitlines() if "pretraining saw" in line]
    assert seen.startswith("**MS-CXR, grounding, mini")
    assert "pretraining saw images of this dataset" in seen
    assert "## What rows warn of" in text
    assert "| lovt-plain-mini-0 | pretraining | Recipe lovt-plain-mini: objective `words`: no such option." in text
    (line,) = [line for line in text.splitlines() if "places help (Retrieval" in line]
    (held,) = (folder / "out" / "backbones").glob("*/lovt-mini-0/held_out.json")
    shares = json.loads(held.read_text())["each"]["2"]
    assert len(json.loads(held.read_text())["ids"]) == 64
    assert f"| {100 * sum(shares) / len(shares):.1f} |" in line
    figures = [folder / "out" / "study" / name for name in re.findall(r"]\((\S+\.svg)\)", text)]
    assert {figure.stem for figure in figures} == {f"{of}-{on}" for of in (TASK, IN_WORDS, "retrieval") for on in ("compute", "ladder")}
    assert all(figure.read_text().startswith("<svg ") for figure in figures)
    assert (folder / "out" / "study" / "study.csv").read_text().count("\nclaim,lovt-mini,convirt-mini") == 3


def test_a_dry_run_lists_the_pretrainings_and_what_is_left(first, folder):
    found = run(folder, "--dry-run")
    assert found.exit_code == 0, found.output
    assert "5 pretrainings, 4 made; 8 backbones known so far" in found.output
    assert "Pretraining what is missing takes about" in found.output


def test_the_same_call_makes_what_is_missing_and_leaves_the_rest(first, folder):
    (held,) = (folder / "out" / "backbones").glob("*/lovt-mini-0/held_out.json")
    weights = held.with_name("encoder.safetensors")
    trained = weights.read_bytes()
    held.write_text(json.dumps(json.loads(held.read_text()) | {"ended": False}))  # as a kill before its end leaves it
    files = [*(folder / "out" / "backbones").rglob("*.safetensors"), *(folder / "out" / "results" / "records").rglob("*.json")]
    before = {path: path.stat().st_mtime_ns for path in files if held.parent not in path.parents}
    earlier = folder / "out" / "study" / "gone-compute.svg"  # as a study with one more measure leaves it
    earlier.write_text("<svg/>")
    again = run(folder)
    assert not earlier.exists()
    assert "5 pretrainings, 3 lie there" in again.output
    assert "1 of 5: convirt-mini-0 lay there; held-out images" in again.output
    assert "2 of 5: lovt-mini-0 is made" in again.output
    assert weights.read_bytes() == trained
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_method_whose_cost_cannot_be_measured_stops_no_other_and_its_fault_quotes_no_data(tmp_path, monkeypatch):
    card = reading.read(Path("phantom"))
    asked = running.Asked(data=[], out=tmp_path / "out", cache=tmp_path / "cache")
    broken = "gloria-phantom"

    def measured(recipe, *loaded, **how):
        if recipe.name == broken:
            raise KeyError("p10000032")
        return Cost((float(len(recipe.name)),), (1.0,))

    monkeypatch.setattr(running, "loaded_pairs", lambda *asked: None)
    monkeypatch.setattr(running.costing, "measured", measured)
    costs, unmeasured = running._costs(card, asked, {"mimic-cxr": tmp_path}, running.Unseen())
    assert unmeasured == {broken: "KeyError: message withheld, it may quote data that must not be passed on."}
    assert set(costs) == set(card.recipes) - {broken}
    assert running._equal(card, costs) == {}  # as long as it may still be measured
    assert set(running._equal(card, costs, unmeasured)) == set(costs)
    monkeypatch.setattr(running.costing, "measured", lambda *given, **how: Cost((1.0,), (1.0,)))
    assert running._costs(card, asked, {"mimic-cxr": tmp_path}, running.Unseen())[1] == {}  # the same call tries it again
