"""The files of the NIH-CXR-LT phantom against the release's layout, and a probe of twenty labels of which most are missing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.phantom import nih_lt
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("nih-lt")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    write_corpus(CorpusPlan("nih-lt", 30, seed=3, images_per_patient=(1, 1)), root / "nih-lt")
    return root


def test_the_reader_finds_what_was_drawn_and_rare_labels_are_rare(corpus: Path) -> None:
    assert CARD.classes == nih_lt.CLASSES
    reader = open_reader(CARD, corpus / "nih-lt")
    assert reader.verify().ok
    counted = Counter(CARD.classes[int(reader.sample(i).labels.argmax())] for i in reader.ids)
    assert set(counted) <= {"No Finding", *nih_lt.DRAWN}
    assert counted["No Finding"] > counted["Infiltration"] > 0
    balanced = reader.split(CARD.splits["balanced"])["test"]
    assert len({int(reader.sample(i).labels.argmax()) for i in balanced}) == len(balanced)


def test_labels_without_an_image_are_named_and_leave_the_mean(small, tiny, corpus: Path) -> None:
    job, place = small.one("nih-lt-linear-frozen-100-lobe", tiny(), root=corpus, max_steps=2, max_epochs=1, patience=1)
    record = small.fit(job, place)
    assert record.status == "ok"
    assert 0 <= record.metrics["auroc"] <= 1
    assert any("Pneumomediastinum_auroc is undefined" in warning for warning in record.warnings)
