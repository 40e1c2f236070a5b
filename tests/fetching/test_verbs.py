"""`lobe data get`, `lobe weights get` and `lobe weights list`: what they say, and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import BackboneCard, PublishedFile
from tests.fetching.server import FaultyServer, Served


def test_data_get_numbers_the_steps_and_says_what_comes_next(lobe, tmp_path: Path):
    code, said, _ = lobe("data", "get", "rsna", "--data", tmp_path / "data")
    assert code == 0
    assert "rsna is had by hand:" in said
    assert "  1. Log in at Kaggle" in said
    assert f"lobe data verify rsna --data {tmp_path / 'data'}" in said
    code, said, _ = lobe("data", "get", "rsna", "--data", tmp_path / "data", "--json")
    (one,) = json.loads(said)
    assert (code, one["state"], one["folder"], len(one["steps"])) == (0, "by hand", str(tmp_path / "data" / "rsna"), 3)


def test_an_unknown_dataset_is_a_sentence_and_two(lobe, tmp_path: Path):
    code, _, told = lobe("data", "get", "rsma", "--data", tmp_path)
    assert code == 2
    assert "Did you mean rsna" in " ".join(told.split())


def test_weights_get_fetches_and_list_shows_it(lobe, server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    server.files["/mine.pth"] = Served(b"weights")
    card = BackboneCard(
        name="mine", family="timm", model="resnet10t", weights="mine.pth", published=PublishedFile(url=f"{server.url}/mine.pth")
    )
    monkeypatch.setitem(registry.backbones(), "mine", card)
    code, said, told = lobe("weights", "get", "mine")
    assert code == 0
    assert "recorded on this first download: sha256:" in " ".join(told.split())
    assert "Next: lobe check-backbone mine" in said
    code, said, _ = lobe("weights", "list", "--json")
    rows = {row["card"]: row for row in json.loads(said)}
    assert (code, rows["mine"]["here"], rows["mine"]["from"]) == (0, True, "url")
    assert (rows["efficientnet-lite0"]["from"], rows["biovil"]["from"], rows["gloria"]["from"]) == ("package", "hub", "by hand")


def test_weights_by_hand_are_steps(lobe):
    code, said, _ = lobe("weights", "get", "gloria", "--json")
    got = json.loads(said)
    assert (code, got["state"], got["path"], len(got["steps"])) == (0, "by hand", None, 3)
