"""Promises of the MIMIC-CXR reader, on a phantom: frontal images, text from either form of the reports, sets that only test."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.errors import DataError, SplitError
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("mimic-cxr")
ARCHIVE = "mimic-cxr/2.0.0/mimic-cxr-reports.zip"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mimic") / "mimic-cxr"
    write_corpus(CorpusPlan(dataset="mimic-cxr", n_patients=48, seed=5, images_per_patient=(1, 2), positive_share=0.9), root)
    return root


def test_a_phantom_verifies_and_gives_images_words_and_labels(corpus: Path) -> None:
    reader = open_reader(CARD, corpus)
    assert [check for check in reader.verify().checks if check.verdict != "ok"] == []
    sample = reader.sample(reader.split(CARD.splits["test-reports"])["test"][0])
    assert sample.image().ndim == 2
    assert len(sample.report.split()) > 5
    assert "FINDINGS" not in sample.report
    assert sample.labels.shape == (5,)


def test_the_test_set_has_one_image_of_each_study_of_the_official_split_that_says_something(corpus: Path) -> None:
    reader = open_reader(CARD, corpus)
    test = reader.split(CARD.splits["test-reports"])["test"]
    official = [one for one in reader._rows.values() if one.split == "test"]
    silent = [one for one in official if not reader.sample(one.dicom).report]
    assert silent, "the corpus holds reports without findings and impression"
    assert set(test) == {one.dicom for one in official} - {one.dicom for one in silent}


def test_the_drawn_set_has_classes_that_take_turns_and_one_finding_an_image(corpus: Path) -> None:
    reader = open_reader(CARD, corpus)
    test = reader.split(CARD.splits["5x200"])["test"]
    assert len(test) >= 10
    found = [reader.sample(i).labels.tolist() for i in test]
    assert [labels.index(1) for labels in found[:5]] == [0, 1, 2, 3, 4]
    assert all(sorted(labels) == [0, 0, 0, 0, 1] for labels in found)


def test_unpacked_reports_say_the_same(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "unpacked")
    with zipfile.ZipFile(corpus / ARCHIVE) as archive:
        archive.extractall(tmp_path / "unpacked" / "mimic-cxr" / "2.0.0")
    (tmp_path / "unpacked" / ARCHIVE).unlink()
    packed, unpacked = open_reader(CARD, corpus), open_reader(CARD, tmp_path / "unpacked")
    assert [packed.sample(i).report for i in packed.ids] == [unpacked.sample(i).report for i in unpacked.ids]


def test_what_is_missing_is_said_without_naming_anybody(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "cut")
    (tmp_path / "cut" / ARCHIVE).unlink()
    with pytest.raises(DataError, match="no reports"):
        open_reader(CARD, tmp_path / "cut")
    reader = open_reader(CARD, corpus)
    with pytest.raises(DataError) as raised:
        reader.sample("0a1b2c3d-nobody")
    assert "0a1b2c3d" not in str(raised.value)
    with pytest.raises(SplitError, match="test reports"):
        reader.split(CARD.splits["test-reports"].model_copy(update={"rule": "other"}))
