"""Promises of the MIMIC-CXR reader, on a phantom: frontal images, text from either form of the reports, sets that only test."""

from __future__ import annotations

import gzip
import shutil
import zipfile
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.errors import DataError, SplitError
from benchmark.readers import mimic_cxr
from benchmark.readers.base import open_reader
from benchmark.readers.mimic_cxr import UNKNOWN
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


def edit(root: Path, table: str, change) -> Path:
    """Changes the text of one of the release's tables."""
    path = root / "mimic-cxr-jpg" / "2.0.0" / f"mimic-cxr-2.0.0-{table}.csv.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()).decode()).encode()))
    return path


@pytest.fixture
def copy(corpus: Path, tmp_path: Path) -> Path:
    return shutil.copytree(corpus, tmp_path / "copy")


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("metadata", lambda text: text.replace("PA", "LL").replace("AP", "LL"), r"no frontal image \(view .*PA.*\) in the tables"),
        ("split", lambda text: text.replace("subject_id", "subject"), r"mimic-cxr-2\.0\.0-split\.csv\.gz has no column subject_id"),
        ("split", lambda text: text[: text.rindex(",")], r"mimic-cxr-2\.0\.0-split\.csv\.gz line \d+ is cut off"),
    ],
    ids=["views", "header", "row"],
)
def test_a_table_that_is_not_the_releases_is_named(copy: Path, table: str, change, said: str) -> None:
    edit(copy, table, change)
    with pytest.raises(DataError, match=said):
        list(open_reader(CARD, copy).split(CARD.splits["test-reports"])["test"])


def test_a_damaged_archive_or_table_is_to_be_fetched_again(copy: Path) -> None:
    table = edit(copy, "chexpert", lambda text: text)
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"mimic-cxr-2\.0\.0-chexpert\.csv\.gz is not a readable table \(EOFError\)\. Fetch it again"):
        open_reader(CARD, copy)
    table.unlink()
    with pytest.raises(DataError, match=r"mimic-cxr-2\.0\.0-chexpert\.csv\.gz is missing in .*It is part of MIMIC-CXR-JPG"):
        open_reader(CARD, copy)


def test_an_archive_of_reports_that_is_none_is_to_be_fetched_again(copy: Path) -> None:
    (copy / ARCHIVE).write_bytes((copy / ARCHIVE).read_bytes()[:1000])
    with pytest.raises(DataError, match=r"mimic-cxr-reports\.zip is not a readable archive\. Fetch it again"):
        open_reader(CARD, copy)


def test_a_damaged_report_is_no_empty_one_and_its_error_names_nobody(copy: Path) -> None:
    reader = open_reader(CARD, copy)
    first = reader.split(CARD.splits["test-reports"])["test"][0]
    with zipfile.ZipFile(copy / ARCHIVE) as archive:
        packed = archive.getinfo(reader._rows[first].report)
    content = bytearray((copy / ARCHIVE).read_bytes())
    begin = packed.header_offset + 30 + len(packed.filename)
    content[begin + 10] ^= 0xFF
    (copy / ARCHIVE).write_bytes(content)
    with pytest.raises(DataError, match=r"a report in mimic-cxr-reports\.zip is damaged") as told:
        open_reader(CARD, copy).sample(first)
    assert reader._rows[first].subject not in str(told.value)


def test_a_study_without_report_or_labels_has_none(corpus: Path, copy: Path) -> None:
    whole = open_reader(CARD, corpus)
    first = whole.split(CARD.splits["test-reports"])["test"][0]
    one = whole._rows[first]
    with zipfile.ZipFile(corpus / ARCHIVE) as given, zipfile.ZipFile(copy / ARCHIVE, "w") as kept:
        for name in given.namelist():
            if name != one.report:
                kept.writestr(name, given.read(name))
    edit(copy, "chexpert", lambda text: "\n".join(line for line in text.splitlines() if one.study not in line.split(",")))
    reader = open_reader(CARD, copy)
    assert reader.sample(first).report == ""
    assert (reader.sample(first).labels == UNKNOWN).all()
    assert first not in reader.split(CARD.splits["test-reports"])["test"]


def test_a_label_of_another_value_is_an_error_without_its_study(copy: Path) -> None:
    edit(copy, "chexpert", lambda text: text.replace("1.0", "2.0"))
    reader = open_reader(CARD, copy)
    with pytest.raises(DataError, match=r"a label of the table mimic-cxr-2\.0\.0-chexpert\.csv\.gz is none of 1\.0, 0\.0, -1\.0 and blank"):
        _ = [reader.sample(i) for i in reader.ids]


def test_sizes_of_unpacked_reports_are_part_of_the_outline(copy: Path) -> None:
    with zipfile.ZipFile(copy / ARCHIVE) as archive:
        archive.extractall(copy / "mimic-cxr" / "2.0.0")
    (copy / ARCHIVE).unlink()
    reader = open_reader(CARD, copy)
    before = reader.outline_digest()
    report = copy / "mimic-cxr" / "2.0.0" / reader._rows[reader.ids[0]].report
    report.write_text(report.read_text() + "More.")
    assert open_reader(CARD, copy).outline_digest() != before


def test_too_few_studies_of_a_class_for_the_drawn_set_are_an_error_with_both_numbers(corpus: Path) -> None:
    reader = open_reader(CARD, corpus)
    reader.phantom = None  # as a release is: 200 of each class
    with pytest.raises(SplitError, match=r"\d+ studies have \w+ alone and a report, 200 are needed"):
        reader.split(CARD.splits["5x200"])


def test_a_class_gives_no_more_studies_than_are_drawn(corpus: Path, monkeypatch) -> None:
    monkeypatch.setattr(mimic_cxr, "PER_CLASS", 1)
    reader = open_reader(CARD, corpus)
    assert len(reader.split(CARD.splits["5x200"])["test"]) == len(CARD.classes)


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
