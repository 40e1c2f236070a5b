"""The files of the NIH ChestX-ray14 phantom against the release's layout (docs/sources.md, ChestX-ray14)."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from benchmark import registry
from benchmark.phantom import nih_cxr
from benchmark.phantom.boxed import draw_names
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.readers.base import open_reader

CLASSES = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltrate", "Mass", "Nodule", "Pneumonia", "Pneumothorax")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "nih"
    return root, write_corpus(CorpusPlan("nih-cxr", 6, seed=0, images_per_patient=(1, 3)), root)


def entries(root):
    with (root / "Data_Entry_2017_v2020.csv").open(newline="") as handle:
        header, *rows = csv.reader(handle)
    assert len(header) == 11
    assert header[7:] == ["OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]
    return {row[0]: row for row in rows}


def boxes(root):
    header, *lines = (root / "BBox_List_2017.csv").read_text().splitlines()
    assert header == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    return [line.split(",") for line in lines]


def test_box_rows_have_six_cells_inside_the_picture(corpus):
    root, summary = corpus
    listed = boxes(root)
    assert len(listed) == summary.counts["boxes"] > 0
    assert all(len(row) == 6 and row[1] in CLASSES for row in listed)
    x, y, width, height = np.array([row[2:] for row in listed], dtype=float).T
    assert min(x.min(), y.min()) >= 0
    assert max((x + width).max(), (y + height).max()) <= 1024
    assert len({(row[0], row[1]) for row in listed}) == len(listed)


def test_every_box_label_is_among_the_image_labels_after_renaming(corpus):
    root, _ = corpus
    known = entries(root)
    for name, label, *_ in boxes(root):
        assert {"Infiltrate": "Infiltration"}.get(label, label) in known[name][1].split("|")


def test_lists_share_nothing_and_boxed_images_are_test_images(corpus):
    root, _ = corpus
    train, test = (set((root / name).read_text().split()) for name in ("train_val_list.txt", "test_list.txt"))
    assert not train & test
    assert train | test == set(entries(root))
    assert {row[0] for row in boxes(root)} <= test
    assert not {name[:8] for name in train} & {name[:8] for name in test}


def test_images_are_png_of_1024_and_a_few_have_four_channels(corpus):
    root, summary = corpus
    files = sorted(root.glob("images_0*/images/*.png"))
    assert {path.name for path in files} == set(entries(root))
    assert len(files) == summary.counts["images"]
    modes = set()
    for path in files:
        with Image.open(path) as picture:
            assert picture.size == (1024, 1024)
            modes.add(picture.mode)
    assert modes == {"L", "RGBA"}


@pytest.mark.parametrize("share", [0.2, 0.7, 1.0])
def test_there_are_always_enough_normal_images_for_the_sample(share):
    planned = nih_cxr.shots(CorpusPlan("nih-cxr", 60, seed=1, positive_share=share))
    n_boxed, n_normal = (sum(shot.role == role for shot in planned) for role in ("boxed", "normal"))
    assert n_boxed == sum(shot.positive for shot in planned)
    assert n_normal >= round(n_boxed * 100 / 880)


def test_classes_come_as_often_as_in_the_release():
    rng = np.random.default_rng(0)
    drawn = [name for _ in range(3_000) for name in draw_names(nih_cxr.BOXES_PER_CLASS, nih_cxr.CLASSES_PER_IMAGE, rng)]
    for name, n_boxes in nih_cxr.BOXES_PER_CLASS.items():
        assert drawn.count(name) / len(drawn) == pytest.approx(n_boxes / 984, abs=0.02)


def test_seeds_do_not_share_patients():
    first, second = (nih_cxr.first_patient_number(CorpusPlan("nih-cxr", 1, seed=seed)) for seed in (0, 1))
    assert abs(first - second) > 10_000


def test_both_lists_have_findings_and_images_without(corpus):
    root, _ = corpus
    known = entries(root)
    for name in ("train_val_list.txt", "test_list.txt"):
        labels = {known[listed][1] == "No Finding" for listed in (root / name).read_text().split()}
        assert labels == {True, False}, name


def test_its_labels_verify_as_a_dataset_of_their_own(corpus):
    root, summary = corpus
    reader = open_reader(registry.dataset("nih-labels"), root)
    found = {c.what: c for c in reader.verify().checks}
    assert reader.verify().ok, [c for c in found.values() if c.verdict == "error" and c.what != "first image"]
    assert found["labels no finding"].found == str(summary.counts["labels_no_finding"])
    assert len(reader.ids) == summary.counts["images"]
