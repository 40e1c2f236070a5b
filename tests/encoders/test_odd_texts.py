"""Texts nobody meant to write: every text encoder gives a finite vector for them, leaves other texts alone, and counts what it cut."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmark.encoders import lovt
from benchmark.encoders.base import VisionLanguageBackbone
from benchmark.training.pair_pretraining import TwoTowers
from tests.towers import write_towers

ORDINARY = "No pleural effusion. Edema is observed."
LONG = "No focal consolidation is seen. " * 2_000  # 10,000 words in 2,000 sentences
ENDLESS = "no focal consolidation " * 3_334  # and in one
ODD = {
    "empty": "",
    "blank": " \n ",
    "dots": "...",
    "one word": "edema",
    "another language": "сердце увеличено",
    "signs": "Opacité 😀 \x00 basale ___",
    "no sense": "zzqx",
}
WITHOUT_LIMIT = ("two_towers",)


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    file = write_towers(tmp_path_factory.mktemp("towers"), Path("no reports"))
    spec = importlib.util.spec_from_file_location("odd_towers", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(towers: ModuleType, name: str) -> VisionLanguageBackbone:
    if name == "two_towers":
        torch.manual_seed(5)
        return TwoTowers(["edema", "effusion", "pleural effusion"]).eval()
    if name.startswith("lovt "):
        return towers.ready(lambda: lovt.Lovt(name.removeprefix("lovt "), "resnet18", towers.text()), 512).eval()
    return getattr(towers, name)().eval()


NAMES = ("small", "gloria", "prior", "g2d", "region_clip", *(f"lovt {variant}" for variant in lovt.VARIANTS), "two_towers")


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_text_has_a_finite_vector_and_changes_no_other(towers: ModuleType, name: str) -> None:
    backbone = build(towers, name)
    with torch.no_grad():
        alone = backbone.embed_texts([ORDINARY])
        together = backbone.embed_texts([ORDINARY, *ODD.values()])
    assert torch.isfinite(together.global_).all()
    assert all(torch.isfinite(local[:, mask]).all() for local, mask in zip(together.local, together.mask, strict=True))
    assert together.n_truncated == 0
    torch.testing.assert_close(together.global_[0], alone.global_[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITHOUT_LIMIT])
@pytest.mark.parametrize("text", [LONG, ENDLESS], ids=["many sentences", "one sentence"])
def test_a_report_of_ten_thousand_words_is_cut_and_counted(towers: ModuleType, name: str, text: str) -> None:
    backbone = build(towers, name)
    with torch.no_grad():
        found = backbone.embed_texts([ORDINARY, text, ORDINARY])
    assert found.n_truncated == 1
    assert torch.isfinite(found.global_).all()


def test_a_report_of_ten_thousand_words_is_read_whole_where_there_is_no_limit(towers: ModuleType) -> None:
    with torch.no_grad():
        found = build(towers, "two_towers").embed_texts([LONG])
    assert (found.n_truncated, int(found.mask.sum())) == (0, 2_000)
