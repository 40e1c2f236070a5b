"""The files of the PadChest-GR phantom against the release's layout, and what the grounding task makes of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import registry
from benchmark.errors import DataError
from benchmark.kinds.kit.stored import read_statistics
from benchmark.metrics import spec
from benchmark.phantom import padchest_gr
from benchmark.readers.base import Sample, open_reader
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
    assert not {"n_groups", "Heart_cnr", "Pleura_cnr"} & set(record.metrics)


def test_every_group_of_the_release_has_columns_of_its_own(small, tiny_words, corpus: Path, tmp_path: Path) -> None:
    job, place = small.one("padchest-gr-grounding-groups-lobe", tiny_words(), root=corpus, limit=None)
    record = small.fit(job, place, produced=tmp_path / "out")
    asked = [phrase for sample in _tested(corpus) for phrase in sample.phrases]
    groups = {name for phrase in asked for name in phrase.groups}
    assert groups <= set(padchest_gr.GROUPS.values())
    assert (record.metrics["n_groups"], record.metrics["n_phrases"], record.metrics["n_ungrouped"]) == (len(groups), len(asked), 0)
    for what in ("cnr", "miou", "pointing"):
        own = {name: record.metrics[f"{name}_{what}"] for name in groups}
        n_of = {name: sum(name in phrase.groups for phrase in asked) for name in groups}
        mean = sum(own[name] * n_of[name] for name in groups) / len(asked)  # every phrase is in one group here
        assert mean == pytest.approx(record.metrics[what])
    assert spec.title_of("Heart_pointing", "phrases") == "Heart pointing game"
    kept = read_statistics(tmp_path / "out" / "statistics.parquet").statistics
    assert {f"{name}_{what}" for name in groups for what in ("cnr", "miou", "pointing")} <= set(kept.names)


def test_a_release_without_groups_cannot_tell_them_apart(small, tiny_words, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "data")
    table = tmp_path / "data" / "padchest-gr" / "master_table.csv"
    table.write_text(table.read_text().replace("label_group", "another", 1))
    job, place = small.one("padchest-gr-grounding-groups-lobe", tiny_words(), root=tmp_path / "data", limit=6)
    with pytest.raises(DataError, match="the release puts no phrase of a test image into one"):
        small.fit(job, place)


def _tested(corpus: Path) -> list[Sample]:
    reader = open_reader(CARD, corpus / "padchest-gr")
    return [reader.sample(i) for i in reader.split(CARD.splits["official"])["test"]]
