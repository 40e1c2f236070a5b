"""The files of the RSNA phantom against the release's layout (docs/sources.md, RSNA)."""

from __future__ import annotations

import csv

import numpy as np
import pydicom
import pytest

from benchmark.phantom.corpus import CorpusPlan, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "rsna"
    return root, write_corpus(CorpusPlan("rsna", 4, seed=2, images_per_patient=(2, 3), positive_share=0.5), root)


def lines(path):
    content = path.read_bytes()
    assert b"\r" not in content
    return content.decode().splitlines()


def test_names_are_those_of_the_release(corpus):
    root, _ = corpus
    assert {path.name for path in root.iterdir()} == {
        "stage_2_train_images",
        "stage_2_test_images",
        "stage_2_train_labels.csv",
        "stage_2_detailed_class_info.csv",
        "stage_2_sample_submission.csv",
        "PHANTOM.json",
        "phantom_reports.csv",
    }


def test_label_rows_are_written_as_in_the_release(corpus):
    root, summary = corpus
    header, *rows = lines(root / "stage_2_train_labels.csv")
    assert header == "patientId,x,y,width,height,Target"
    cells = [row.split(",") for row in rows]
    positive = [row for row in cells if row[5] == "1"]
    assert len(positive) == summary.counts["boxes"]
    assert len({row[0] for row in positive}) == summary.counts["positives"]
    assert all(value.endswith(".0") for row in positive for value in row[1:5])
    assert all(row[1:] == ["", "", "", "", "0"] for row in cells if row[5] != "1")
    x, y, width, height = np.array([row[1:5] for row in positive], dtype=float).T
    assert min(x.min(), y.min()) >= 1
    assert max((x + width).max(), (y + height).max()) <= 1023


def test_rows_run_through_two_ascending_runs_of_ids(corpus):
    root, _ = corpus
    ids = list(dict.fromkeys(row.split(",")[0] for row in lines(root / "stage_2_train_labels.csv")[1:]))
    falls = [k for k in range(1, len(ids)) if ids[k] < ids[k - 1]]
    assert len(falls) == 1
    assert all(len(name) == 36 and name == name.lower() for name in ids)


def test_class_rows_follow_the_label_rows(corpus):
    root, _ = corpus
    labels = [row.split(",") for row in lines(root / "stage_2_train_labels.csv")[1:]]
    header, *classes = lines(root / "stage_2_detailed_class_info.csv")
    assert header == "patientId,class"
    with (root / "stage_2_detailed_class_info.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["patientId"] for row in rows] == [label[0] for label in labels]
    assert all((row["class"] == "Lung Opacity") == (label[5] == "1") for row, label in zip(rows, labels, strict=True))
    assert {row["class"] for row in rows} <= {"Lung Opacity", "No Lung Opacity / Not Normal", "Normal"}
    assert len(classes) == len(rows)


def test_images_are_secondary_captures_in_jpeg_baseline(corpus):
    root, summary = corpus
    files = sorted((root / "stage_2_train_images").iterdir())
    assert len(files) == summary.counts["images"]
    for path in files:
        picture = pydicom.dcmread(path)
        assert picture.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
        assert picture.SOPClassUID.name == "Secondary Capture Image Storage"
        assert (picture.Rows, picture.Columns, picture.BitsStored, picture.SamplesPerPixel) == (1024, 1024, 8, 1)
        assert (picture.PhotometricInterpretation, picture.Modality, picture.ConversionType) == ("MONOCHROME2", "CR", "WSD")
        assert picture.PatientID == picture.PatientName == path.stem
        assert picture.ViewPosition in ("PA", "AP")
        assert picture.get_item("PatientAge").value.strip().isdigit()  # a bare number, without the standard's Y
        pixels = picture.pixel_array
        assert pixels.shape == (1024, 1024)
        assert pixels.dtype == np.uint8
        assert pixels.std() > 25


def test_boxes_are_brighter_than_the_same_place_without_them(corpus):
    """Rows and columns are not exchanged: the mean inside a box exceeds that of its mirror image across the diagonal, on average."""
    root, _ = corpus
    inside, exchanged = [], []
    for row in lines(root / "stage_2_train_labels.csv")[1:]:
        name, *numbers, target = row.split(",")
        if target == "1":
            x, y, w, h = (int(float(v)) for v in numbers)
            pixels = pydicom.dcmread(root / "stage_2_train_images" / f"{name}.dcm").pixel_array.astype(float)
            detail = np.abs(np.diff(pixels[::4, ::4], axis=1))
            inside.append(detail[y // 4 : (y + h) // 4, x // 4 : (x + w) // 4].mean())
            exchanged.append(detail[x // 4 : (x + w) // 4, y // 4 : (y + h) // 4].mean())
    assert np.mean(inside) > np.mean(exchanged)


def test_unlabelled_test_images_have_no_label_row(corpus):
    root, _ = corpus
    test_ids = {path.stem for path in (root / "stage_2_test_images").iterdir()}
    assert test_ids
    assert not test_ids & {row.split(",")[0] for row in lines(root / "stage_2_train_labels.csv")}
    assert {row.split(",")[0] for row in lines(root / "stage_2_sample_submission.csv")[1:]} == test_ids
