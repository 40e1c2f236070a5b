"""The files of the Montgomery and Shenzhen phantoms against the releases' layouts, and the shift from one to the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark import registry
from benchmark.errors import UsageError
from benchmark.phantom import montgomery
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    for name, patients in (("montgomery", 10), ("shenzhen", 6)):
        write_corpus(CorpusPlan(name, patients, seed=4, images_per_patient=(1, 3)), root / name)
    return root


def test_the_patients_right_lung_is_on_the_left_of_the_picture_and_dark(corpus: Path) -> None:
    card = registry.dataset("montgomery")
    reader = open_reader(card, corpus / "montgomery")
    assert reader.verify().ok
    assert len(reader.ids) == 10  # one a patient
    for sample in map(reader.sample, reader.ids):
        image = sample.image()
        masks = dict(zip(card.classes, sample.masks(image.shape), strict=True))
        centres = {name: np.nonzero(mask)[1].mean() for name, mask in masks.items()}
        assert centres["right lung"] < montgomery.WIDTH / 2 < centres["left lung"]
        if sample.id.endswith("_0"):  # tuberculosis may fill a lung
            assert image[masks["right lung"]].mean() < image.mean()


def test_some_of_shenzhens_images_have_no_mask(corpus: Path) -> None:
    reader = open_reader(registry.dataset("shenzhen"), corpus / "shenzhen")
    assert reader.verify().ok
    assert {reader.sample(i).image().shape for i in reader.ids} <= {(300, 294), (260, 300)}
    assert all(0.1 < reader.sample(i).masks(reader.sample(i).image().shape).mean() < 0.6 for i in reader.ids)


def test_what_was_learnt_of_two_lungs_is_tested_on_both_in_one(small, tiny, corpus: Path) -> None:
    task = "montgomery-to-shenzhen-linear-frozen-100-lobe"
    job, place = small.one(task, tiny(), root=corpus, limit=4, max_steps=1, max_epochs=1, patience=1)
    record = small.fit(job, place)
    assert record.status == "ok"
    assert 0 <= record.metrics["lungs_dice"] <= 1


def test_more_patients_than_names_are_refused() -> None:
    with pytest.raises(UsageError, match="four digits"):
        montgomery.shots(CorpusPlan("montgomery", 9_001, seed=0))
