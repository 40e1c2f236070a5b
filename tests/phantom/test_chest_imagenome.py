"""The files of the Chest ImaGenome phantom against the release's layout, and a detector of 29 places of which nine are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.phantom import chest_imagenome
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("chest-imagenome")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    write_corpus(CorpusPlan("chest-imagenome", 12, seed=4, images_per_patient=(1, 1)), root / "chest-imagenome")
    return root


def test_the_reader_finds_each_place_on_its_side(corpus: Path) -> None:
    reader = open_reader(CARD, corpus / "chest-imagenome")
    assert reader.verify().ok
    for sample in map(reader.sample, reader.ids):
        boxes = {CARD.classes[label]: box for label, box in zip(sample.box_labels, sample.boxes_xywh, strict=True)}
        assert len(boxes) == 9
        middle = chest_imagenome.WIDTH / 2
        assert boxes["right lung"][0] + boxes["right lung"][2] / 2 < middle < boxes["left lung"][0] + boxes["left lung"][2] / 2
        assert boxes["left upper lung zone"][1] < boxes["left mid lung zone"][1] < boxes["left lower lung zone"][1]


@pytest.mark.parametrize("head", ["linear", "yolov3"])
def test_every_head_gives_its_number(small, tiny, corpus: Path, head: str) -> None:
    task = registry.task(f"chest-imagenome-{head}-frozen-100-lobe")
    job, place = small.one(task.id, tiny(), root=corpus, limit=4, max_steps=1, max_epochs=1, patience=1)
    record = small.fit(job, place)
    assert record.status == "ok"
    assert 0 <= record.metrics[task.report] <= 1
