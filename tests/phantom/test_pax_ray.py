"""The files of the PAX-Ray++ phantom against the release's layout, and a linear head on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark import registry
from benchmark.phantom import pax_ray
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("pax-ray")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    write_corpus(CorpusPlan("pax-ray", 12, seed=4, images_per_patient=(1, 1)), root / "pax-ray")
    return root


def test_the_reader_finds_lungs_and_heart_where_they_were_drawn(corpus: Path) -> None:
    assert set(CARD.classes) == set(pax_ray.CATEGORIES[1:])
    reader = open_reader(CARD, corpus / "pax-ray")
    assert reader.verify().ok
    for sample in map(reader.sample, reader.ids):
        masks = dict(zip(CARD.classes, sample.masks((512, 512)), strict=True))
        assert {name for name, mask in masks.items() if mask.any()} == {"heart", "right lung", "left lung"}
        assert np.nonzero(masks["right lung"])[1].mean() < np.nonzero(masks["left lung"])[1].mean()


def test_a_linear_head_gives_its_number(small, tiny, corpus: Path) -> None:
    task = "pax-ray-linear-frozen-100-lobe"
    job, place = small.one(task, tiny(), root=corpus, limit=4, max_steps=1, max_epochs=1, patience=1)
    record = small.fit(job, place)
    assert record.status == "ok"
    assert 0 <= record.metrics["avg_dice"] <= 1
