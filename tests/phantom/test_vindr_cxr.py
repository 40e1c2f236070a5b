"""The files of the VinDr-CXR phantom against the release's layout (docs/sources.md, VinDr-CXR)."""

from __future__ import annotations

import csv
import re

import numpy as np
import pydicom
import pytest

from benchmark import registry
from benchmark.phantom import vindr_cxr
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.readers.base import open_reader

COORDINATES = ("x_min", "y_min", "x_max", "y_max")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "vindr-cxr"
    return root, write_corpus(CorpusPlan("vindr-cxr", 8, seed=3, images_per_patient=(1, 2), positive_share=0.5), root)


def rows(root, part):
    with (root / "annotations" / f"annotations_{part}.csv").open(newline="") as handle:
        table = csv.DictReader(handle)
        readers = ["rad_id"] if part == "train" else []
        assert table.fieldnames == ["image_id", *readers, "class_name", *COORDINATES]
        return list(table)


def test_files_are_named_by_32_hexadecimal_digits_and_end_in_dicom(corpus):
    root, summary = corpus
    for part in ("train", "test"):
        names = {path.name for path in (root / part).iterdir()}
        assert names == {f"{row['image_id']}.dicom" for row in rows(root, part)}
        assert len(names) == summary.counts[f"{part}_images"]
        assert all(re.fullmatch(r"[0-9a-f]{32}\.dicom", name) for name in names)


def test_three_readers_of_seventeen_read_every_training_image(corpus):
    root, _ = corpus
    by_image: dict[str, dict[str, list[str]]] = {}
    for row in rows(root, "train"):
        by_image.setdefault(row["image_id"], {}).setdefault(row["rad_id"], []).append(row["class_name"])
    for readings in by_image.values():
        assert len(readings) == 3
        assert readings.keys() <= {f"R{k}" for k in range(1, 18)}
        # As in the release: where one finds nothing, all do.
        assert len({names == ["No finding"] for names in readings.values()}) == 1


def test_rows_without_finding_have_empty_cells_and_boxes_lie_inside(corpus):
    root, summary = corpus
    n_boxes = 0
    for part in ("train", "test"):
        for row in rows(root, part):
            values = [row[name] for name in COORDINATES]
            if row["class_name"] == "No finding":
                assert values == [""] * 4
                continue
            picture = pydicom.dcmread(root / part / f"{row['image_id']}.dicom", stop_before_pixels=True)
            left, top, right, bottom = map(float, values)
            assert 0 <= left < right <= picture.Columns
            assert 0 <= top < bottom <= picture.Rows
            assert row["class_name"] in registry.dataset("vindr-cxr").classes
            n_boxes += 1
    assert n_boxes == summary.counts["box_rows"] > 0


def test_readers_disagree_a_little(corpus):
    root, _ = corpus
    boxes: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for row in rows(root, "train"):
        if row["class_name"] != "No finding":
            boxes.setdefault((row["image_id"], row["class_name"]), set()).add(tuple(row[name] for name in COORDINATES))
    assert any(len(found) > 1 for found in boxes.values())


def test_pixels_have_12_to_16_bits_and_both_photometric_kinds_occur(corpus):
    root, _ = corpus
    pictures = [pydicom.dcmread(path) for part in ("train", "test") for path in (root / part).iterdir()]
    assert {picture.PhotometricInterpretation for picture in pictures} == {"MONOCHROME1", "MONOCHROME2"}
    assert {picture.BitsStored for picture in pictures} <= {12, 14, 16}
    assert 0 < sum("WindowCenter" in picture for picture in pictures) < len(pictures)
    for picture in pictures:
        assert picture.pixel_array.max() < 2**picture.BitsStored


def test_the_reader_gets_fused_boxes_and_upright_grey_levels(corpus):
    """Whatever way a file stores them, lungs are darker than the chest around them."""
    root, _ = corpus
    reader = open_reader(registry.dataset("vindr-cxr"), root)
    assert reader.verify().ok
    for sample in map(reader.sample, reader.ids):
        image = sample.image().astype(float)
        height, width = image.shape
        corner, middle = image[: height // 20, : width // 20].mean(), image[:, width * 45 // 100 : width * 55 // 100].mean()
        assert middle > corner  # spine and mediastinum are bright, air beside the neck is dark
    fused = sum(len(reader.sample(i).boxes_xywh) for i in reader.ids)
    assert 0 < fused < sum(row["class_name"] != "No finding" for part in ("train", "test") for row in rows(root, part))


def test_patients_stay_in_one_part():
    planned = vindr_cxr.shots(CorpusPlan("vindr-cxr", 50, seed=1))
    parts = {part: {shot.patient for shot in planned if shot.role == part} for part in ("train", "test")}
    assert not parts["train"] & parts["test"]
    assert np.mean([shot.positive for shot in planned]) == pytest.approx(0.293, abs=0.01)
