from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import DataError
from tests import own_folders
from tests.own_cards import odd, opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of 64 x 32 pixels in `train/images`, texts in `train/labels`."""
    for name in "abc":
        own_folders.save(tmp_path / "own" / "train" / "images" / f"{name}.png", own_folders.picture(ord(name))[:32])
    (tmp_path / "own" / "train" / "labels").mkdir()
    return tmp_path / "own"


GIVEN = {"labels": "{folder}/labels/{name}", "names": ["mass", "nodule", "drain"]}


def test_boxes_and_polygons_are_in_pixels_and_faults_have_their_line(folder: Path) -> None:
    labels = folder / "train" / "labels"
    lines = (
        "1 0.5 0.5 0.25 0.5",
        "0 0.1 0.25 0.3 0.25 0.3 0.75",
        "",
        "2 0.5 0.5 0.1 0.1",
        "9 0.5 0.5 0.1 0.1",
        "1 0.5",
        "1 0.5 0.5 0.2 0.2 0.9",
    )
    (labels / "a.txt").write_text("\n".join(lines))
    (labels / "b.txt").write_text("1 0.95 0.5 0.3 0.5\n1 1.4 0.5 0.1 0.1\n1 nan 0.5 0.1 0.1\n1 0.5 0.5 0 0.1\n")
    (labels / "other.txt").write_text("1 0.5 0.5 0.1 0.1")
    (labels / "classes.txt").write_text("mass\n")
    reader = opened(folder, "yolo", {**GIVEN, "masks": "segmentation"}, classes=("nodule", "mass"))
    sample = reader.sample("train/images/a.png")
    assert sample.boxes_xywh[:2].tolist() == [pytest.approx([24, 8, 16, 16]), pytest.approx([6.4, 8, 12.8, 16])]
    assert sample.box_labels.tolist() == [0, 1, 0]
    assert sample.masks is not None
    nodule, mass = sample.masks((32, 64))
    assert nodule.sum() == 16 * 16
    assert 0 < mass.sum() < 12.8 * 16 * 0.7
    found = odd(reader)
    assert found["class numbers without a name"] == "1: a.txt line 5"
    assert found["lines that are no object"] == "2: a.txt line 6; b.txt line 3"
    assert found["lines with a confidence"] == "1: a.txt line 7"
    assert found["coordinates outside 0..1"] == "2: b.txt line 1; b.txt line 2"
    assert found["boxes that leave the image"] == "1: b.txt line 1"
    assert found["boxes with their centre outside the image"] == "1: b.txt line 2"
    assert found["boxes without area"] == "1: b.txt line 4"
    assert found["annotations of an image that is not listed"] == "1: train/labels/other.txt"
    assert reader.sample("train/images/c.png").positive is False


def test_the_text_is_a_file_that_masks_are_drawn_from(folder: Path) -> None:
    (folder / "train" / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.5")
    reader = opened(folder, "yolo", GIVEN, classes=("nodule", "mass"))
    assert [path.name for path in reader.sample("train/images/a.png").files] == ["a.png", "a.txt"]


def test_a_pattern_that_finds_no_text_is_said(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no image has a text file at labels/{stem}.txt"):
        opened(folder, "yolo", {}, classes=("nodule",))


def test_one_picture_in_two_formats_does_not_share_a_text(folder: Path) -> None:
    own_folders.save(folder / "train" / "images" / "a.jpg", own_folders.picture(1)[:32])
    (folder / "train" / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.5")
    with pytest.raises(DataError, match=r"train/images/a\.jpg and train/images/a\.png have one label file between them"):
        opened(folder, "yolo", GIVEN, classes=("nodule", "mass"))
    left = {**GIVEN, "leave_out": ["train/images/a.jpg"]}
    assert len(opened(folder, "yolo", left, classes=("nodule", "mass")).ids) == 3


def test_a_folder_of_images_that_nobody_labelled_is_refused(folder: Path) -> None:
    (folder / "train" / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.5")
    own_folders.save(folder / "test" / "images" / "t.png", own_folders.picture(1)[:32])
    with pytest.raises(DataError, match=r"no image of the folder test/images has a text file, and the folder test/labels .* \(1 of 2 "):
        opened(folder, "yolo", GIVEN, classes=("nodule", "mass"))
    with pytest.raises(
        DataError, match=r"no image of the folder of image 1 of 4 has a text file, and the folder of their texts is not there"
    ):
        opened(folder, "yolo", GIVEN, classes=("nodule", "mass"), redistribution="none")
    left = {**GIVEN, "leave_out": ["test/images/t.png"]}
    assert len(opened(folder, "yolo", left, classes=("nodule", "mass")).ids) == 3
    (folder / "test" / "labels").mkdir()
    assert opened(folder, "yolo", GIVEN, classes=("nodule", "mass")).sample("test/images/t.png").positive is False
