"""`lobe pretrain` as one types it: a recipe of one's own, told on the way, found again, and listed."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from benchmark import registry
from benchmark.cli import app
from benchmark.phantom.corpus import CorpusPlan
from tests.corpora import write_corpus
from tests.pretraining.small import corpus, recipe


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of one's own with a small recipe, and phantom data beside it."""
    monkeypatch.setenv("LOBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    corpus(tmp_path / "data" / "mimic-cxr")
    (tmp_path / "own" / "tasks").mkdir(parents=True)
    card = recipe("convirt").model_copy(update={"name": "mine", "title": "Mine"})
    text = yaml.safe_dump({"pretraining": [card.model_dump(mode="json")]})
    (tmp_path / "own" / "tasks" / "pretraining.yaml").write_text(text)
    yield tmp_path
    registry._included.clear()
    registry.forget()


def run(folder, *words: str):
    registry._included.clear()  # as in a process of its own
    return CliRunner().invoke(app, ["--include", str(folder / "own"), *words])


def test_a_recipe_of_ones_own_leaves_a_backbone_and_says_what_is_next(folder):
    words = ("pretrain", "mine", "--data", str(folder / "data"), "--out", str(folder / "out"), "--pairs", "12", "--no-tracking")
    found = run(folder, *words)
    assert found.exit_code == 0, found.output
    assert "Mine, seed 0, is made: held-out images find their own report before" in found.output
    assert f"lobe run --backbone {folder / 'out' / 'mine-0' / 'backbone.yaml'}" in found.output.replace("\n", "")
    assert "lay there already" in run(folder, *words).output


def test_mlflow_holds_the_losses_of_every_step_and_how_it_ended(folder):
    from mlflow import MlflowClient

    out = folder / "out"
    assert run(folder, "pretrain", "mine", "--data", str(folder / "data"), "--out", str(out), "--pairs", "12").exit_code == 0
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("lobe").experiment_id])
    assert (found.info.run_name, found.info.status) == ("Mine, seed 0", "FINISHED")
    assert (found.data.params["recipe"], found.data.params["pairs"]) == ("mine", "12")
    assert [point.step for point in client.get_metric_history(found.info.run_id, "loss")] == [0, 1]
    assert 0 <= found.data.metrics["percentile"] <= 1
    assert found.data.metrics["pairs_per_s"] > 0


def test_an_address_without_several_processes_is_refused(folder):
    found = run(folder, "pretrain", "mine", "--data", str(folder / "data"), "--address", "head:6379")
    assert found.exit_code != 0
    assert "add --workers" in str(found.exception)


def test_a_dry_run_says_what_a_recipe_asks_for_and_makes_nothing(folder):
    found = run(folder, "pretrain", "mine", "--dry-run", "--data", str(folder / "nowhere"), "--out", str(folder / "out"))
    assert found.exit_code == 0, found.exception
    assert "24 pairs, 6 a step, 6 together" in found.output
    assert not (folder / "out").exists()
    refused = run(folder, "pretrain", "gloria-published", "--dry-run")
    assert "not verified: no run ends early" in refused.output
    assert "torchvision:resnet50@IMAGENET1K_V1 are not on this machine" in str(refused.exception)


def test_another_dataset_takes_the_place_of_the_recipes(folder):
    write_corpus(CorpusPlan(dataset="open-i", n_patients=12, seed=3), folder / "data" / "open-i")
    words = ("pretrain", "mine", "--dataset", "open-i", "--data", str(folder / "data"), "--out", str(folder / "out"), "--pairs", "6")
    found = run(folder, *words, "--no-tracking", "--cache", str(folder / "cache"))
    assert found.exit_code == 0, found.exception
    card = yaml.safe_load((folder / "out" / "mine-open-i-0" / "backbone.yaml").read_text())
    assert (card["pretraining"], card["contamination"]) == (["open-i"], {"open-i": "images"})
    assert list((folder / "cache" / "images").iterdir())


def test_recipes_are_listed(folder):
    found = run(folder, "list", "recipes", "--json")
    assert found.exit_code == 0, found.exception
    rows = json.loads(found.output)
    assert {row["name"] for row in rows} == set(registry.pretraining())
    assert next(row for row in rows if row["name"] == "mine")["pairs"] == 24


def test_an_unknown_recipe_is_named_with_those_there_are(folder):
    found = run(folder, "pretrain", "lovt-fantom", "--data", str(folder / "data"))
    assert found.exit_code != 0
    assert "lovt-phantom" in str(found.exception)
