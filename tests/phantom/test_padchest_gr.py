"""The files of the PadChest-GR phantom against the release's layout, and what the grounding task makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import registry
from benchmark.phantom import padchest_gr
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("padchest-gr")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    write_corpus(CorpusPlan("padchest-gr", 14, seed=5, images_per_patient=(1, 1), positive_share=0.6), root / "padchest-gr")
    return root


def test_the_reader_finds_what_was_drawn_inside_the_picture(corpus: Path) -> None:
    reader = open_reader(CARD, corpus / "padchest-gr")
    assert reader.verify().ok
    samples = [reader.sample(i) for i in reader.ids]
    assert 0 < sum(s.positive for s in samples) < len(samples)
    for sample in samples:
        x, y, w, h = sample.boxes_xywh.T
        assert (x + w <= padchest_gr.WIDTH).all()
        assert (y + h <= padchest_gr.HEIGHT).all()
    heart = next(p for s in samples for p in s.phrases if p.text == "Cardiomegaly.")
    x, _, w, _ = heart.boxes_xywh[0]
    assert 0.4 < (x + w / 2) / padchest_gr.WIDTH < 0.7  # a heart is near the middle: sides are not exchanged


def test_pictures_have_sixteen_bits(corpus: Path) -> None:
    for path in (corpus / "padchest-gr" / "PadChest_GR").iterdir():
        with Image.open(path) as picture:
            assert np.asarray(picture).max() > 255


def test_sentences_are_asked_on_the_official_test_part(small, tiny_words, corpus: Path) -> None:
    job, place = small.one("padchest-gr-grounding-lobe", tiny_words(), root=corpus, limit=6)
    record = small.fit(job, place)
    assert record.status == "ok"
    assert record.metrics["n_phrases"] >= 1
    assert "finding_cnr" not in record.metrics  # one class has no values of its own
