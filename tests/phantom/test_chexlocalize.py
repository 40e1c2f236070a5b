"""The files of the CheXlocalize phantom against the release's layout, and what tasks make of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import registry
from benchmark.phantom import chexlocalize
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("chexlocalize")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    write_corpus(CorpusPlan("chexlocalize", 14, seed=6, images_per_patient=(1, 1)), root / "chexlocalize")
    return root


def test_the_reader_finds_what_was_drawn(corpus: Path) -> None:
    reader = open_reader(CARD, corpus / "chexlocalize")
    assert reader.verify().ok
    masks = json.loads((corpus / "chexlocalize" / "CheXlocalize" / "gt_segmentations_test.json").read_text())
    assert set(next(iter(masks.values()))) == set(CARD.classes) == set(chexlocalize.CLASSES)
    positive = [s for s in map(reader.sample, reader.ids) if s.positive]
    for sample in positive:
        found = sample.masks((chexlocalize.HEIGHT, chexlocalize.WIDTH))
        assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == sample.box_labels.tolist()
        assert 0 < found.any(axis=0).mean() < 0.6


def test_images_are_grey_and_patients_belong_to_one_set(corpus: Path) -> None:
    reader = open_reader(CARD, corpus / "chexlocalize")
    with Image.open(reader.images[reader.ids[0]]) as image:
        assert (image.mode, image.size) == ("L", (chexlocalize.WIDTH, chexlocalize.HEIGHT))
    sets = {s: {i.split("/")[1] for i in reader.ids if i.startswith(s)} for s in ("val", "test")}
    assert not sets["val"] & sets["test"]


def test_a_map_is_scored_against_masks_and_nothing_found_is_0(small, tiny_words, corpus: Path) -> None:
    job, place = small.one("chexlocalize-grounding-lobe", tiny_words(), root=corpus, limit=6)
    record = small.fit(job, place)
    assert record.status == "ok"
    assert 0 <= record.metrics["mask_iou"] <= record.metrics["mask_iou_official"] <= 1
    assert record.metrics["n_phrases"] >= 3


def test_a_linear_head_learns_from_the_validation_images(small, tiny, corpus: Path) -> None:
    job, place = small.one("chexlocalize-linear-frozen-100-lobe", tiny(), root=corpus, limit=4, max_steps=1, max_epochs=1, patience=1)
    record = small.fit(job, place)
    assert record.status == "ok"
    assert 0 <= record.metrics["avg_dice"] <= 1
