"""Promises of the Open-I reader, on a phantom: words and the first picture of each report, and no trust in the XML."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.errors import DataError, PartialRelease
from benchmark.readers.base import open_reader
from benchmark.readers.open_i import read_report
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("open-i")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("open-i") / "open-i"
    write_corpus(CorpusPlan(dataset="open-i", n_patients=14, seed=5, images_per_patient=(1, 1)), root)
    return root


def test_a_phantom_verifies_and_gives_a_picture_with_its_words(corpus: Path) -> None:
    reader = open_reader(CARD, corpus)
    assert [check for check in reader.verify().checks if check.verdict != "ok"] == []
    test = reader.split(CARD.splits["all-reports"])["test"]
    silent = [i for i in reader.ids if not reader.sample(i).report]
    assert set(test) == set(reader.ids) - set(silent)
    sample = reader.sample(test[0])
    assert sample.image().shape == (420, 512)
    assert len(sample.report.split()) > 5


def test_half_of_the_release_is_not_enough(corpus: Path, tmp_path: Path) -> None:
    root = shutil.copytree(corpus, tmp_path / "open-i")
    first, *_ = sorted({reader.images[i] for reader in [open_reader(CARD, root)] for i in reader.ids})
    first.unlink()
    with pytest.raises(PartialRelease, match=rf"1 of \d+ images listed in ecgen-radiology are not in the folder, for example {first.stem}"):
        open_reader(CARD, root)
    for path in root.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"no picture of any report is in .*Unpack NLMCXR_png\.tgz there"):
        open_reader(CARD, root)
    for path in root.rglob("*.xml"):
        path.unlink()
    with pytest.raises(DataError, match=r"holds no XML file\. Unpack NLMCXR_reports\.tgz again"):
        open_reader(CARD, root)


def test_empty_elements_and_reports_without_a_picture_are_read(tmp_path: Path) -> None:
    path = tmp_path / "7.xml"
    path.write_text('<e><uId id="CXR7"/><AbstractText Label="FINDINGS"/><AbstractText Label="IMPRESSION">Clear  é.</AbstractText></e>')
    assert read_report(path, "open-i").text == "Clear é."
    assert read_report(path, "open-i").images == ()


@pytest.mark.parametrize("content", ["<e>", "<e/>", '<!DOCTYPE e [<!ENTITY a "a">]><e><uId id="CXR7"/>&a;</e>'])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "7.xml").write_text(content)
    with pytest.raises(DataError, match=r"7\.xml"):
        read_report(tmp_path / "7.xml", "open-i")
