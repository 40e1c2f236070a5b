"""The files of the CANDID-PTX phantom against the release's layout (docs/sources.md, CANDID-PTX)."""

from __future__ import annotations

import csv

import pydicom
import pytest

from benchmark.phantom.corpus import CorpusPlan, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "candid-ptx"
    return root, write_corpus(CorpusPlan("candid-ptx", 5, seed=4, images_per_patient=(2, 2), positive_share=0.6), root)


def rows_of(root) -> list[dict[str, str]]:
    with (root / "Pneumothorax_reports.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_files_are_named_by_their_instance_without_ending(corpus):
    root, summary = corpus
    files = sorted((root / "dataset").iterdir())
    assert len(files) == summary.counts["images"] + summary.counts["images_of_two_patients"] == 11
    for path in files:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert path.name == header.SOPInstanceUID
        assert (header.Rows, header.Columns) == (1024, 1024)


def test_the_table_has_a_row_for_each_mask_and_a_report(corpus):
    root, summary = corpus
    rows = rows_of(root)
    assert list(rows[0]) == ["filename", "SOPInstanceUID", "EncodedPixels", "Report"]
    assert sum(row["EncodedPixels"] != "-1" for row in rows) == summary.counts["masks"] >= summary.counts["positives"] == 6
    assert all(row["Report"].startswith("FINDINGS: ") for row in rows)
    assert {row["SOPInstanceUID"] for row in rows} == {path.name for path in (root / "dataset").iterdir()}


def test_one_image_stands_under_two_patients(corpus):
    patients = {}
    for row in rows_of(corpus[0]):
        patients.setdefault(row["SOPInstanceUID"], set()).add(row["filename"].split("_")[0])
    assert sorted(map(len, patients.values()))[-2:] == [1, 2]
    assert len(set().union(*patients.values())) == 6
