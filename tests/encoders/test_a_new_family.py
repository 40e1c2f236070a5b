"""A backbone family is a module and a card: a made-up one is listed, built, checked and trained with no edit elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmark import encoders, registry

NAME = "made_up_family"
MODULE = """
import torch
from torch import nn

from benchmark.cards import BackboneSpec, IMAGENET
from benchmark.encoders.base import Backbone


class MadeUp(Backbone):
    def __init__(self, width):
        super().__init__()
        self.spec = BackboneSpec(name=f"made up {width}", strides={32: width}, embed_dim=width, normalisation=IMAGENET)
        self.cut = nn.Conv2d(3, width, 32, stride=32)

    def pyramid(self, images, strides=None):
        return {32: self.cut(images)}

    def pooled(self, images):
        return self.cut(images).mean(dim=(2, 3))


def build(model):
    return MadeUp(int(model))
"""


@pytest.fixture
def own_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The family's module in a folder of its own, and a card of it in a folder of the user's."""
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / f"{NAME}.py").write_text(MODULE)
    monkeypatch.setattr(encoders, "__path__", [*encoders.__path__, str(tmp_path / "room")])
    before = list(registry._included)
    (tmp_path / "own" / "backbones").mkdir(parents=True)
    card = {"name": "mine-12", "title": "Mine", "family": NAME, "model": "12", "pretraining": []}
    (tmp_path / "own" / "backbones" / "mine.yaml").write_text(yaml.safe_dump({"backbones": [card]}))
    registry.include(tmp_path / "own")
    yield
    registry._included[:] = before
    registry.forget()
    sys.modules.pop(f"benchmark.encoders.{NAME}", None)
    vars(encoders).pop(NAME, None)


def test_it_is_listed_checked_and_trained(own_card, lobe, corpora: Path, tmp_path: Path) -> None:
    code, out, problem = lobe("list", "backbones", "--json")
    assert code == 0, problem
    assert [row["family"] for row in json.loads(out) if row["name"] == "mine-12"] == [NAME]
    code, out, problem = lobe("check-backbone", "mine-12", "--json")
    assert code == 0, out + problem
    run = ["run", "--backbone", "mine-12", "--task", "rsna-linear-frozen-100", "--data", corpora, "--out", tmp_path / "out", "--limit", 8]
    run += ["--profile", "smoke", "--seeds", 1, "--executor", "inline", "--no-tracking", "--json"]
    code, out, problem = lobe(*run)
    assert code == 0, out + problem
    (row,) = [row for row in json.loads(out)["rows"] if row["kind"] == "backbone"]
    assert (row["runs_ok"], row["random_initialisation"]) == (1, True)
