"""Promises of the PAX-Ray++ reader: frontal images, the card's classes by name, codes that fill their frame."""

from __future__ import annotations

import json
from pathlib import Path

import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError, ImageError
from benchmark.readers.base import open_reader

CARD = registry.dataset("pax-ray")
NAMES = ["spine", *(f"{name} " for name in reversed(CARD.classes))]  # another order, and blanks at the end
N = 512 * 512


def category(name: str) -> int:
    return [given.strip() for given in NAMES].index(name)


def mask(first: int, length: int) -> dict:
    return {"size": [512, 512], "counts": [first, length, N - first - length]}


def coco(stems: list[str], annotations: list[tuple[int, str, object]]) -> dict:
    images = [{"id": 10 + k, "file_name": f"images_patlas/{stem}.png"} for k, stem in enumerate(stems)]
    listed = [{"image_id": 10 + k, "category_id": category(name), "segmentation": code} for k, name, code in annotations]
    return {"categories": [{"id": k, "name": n} for k, n in enumerate(NAMES)], "images": images, "annotations": listed}


def write(root: Path, train: dict | None = None, test: dict | None = None) -> Path:
    stems = ["a_frontal", "a_lateral", *(f"t{k}_frontal" for k in range(9))]
    given = [(0, "heart", mask(512 * 3, 512)), (0, "heart", mask(0, 5)), (0, "spine", mask(0, 9)), (1, "heart", mask(0, N))]
    train = coco(stems, given) if train is None else train
    test = coco(["b_frontal"], []) if test is None else test
    (root / "images_patlas").mkdir()
    for name, content in (("paxray_train_val.json", train), ("paxray_test.json", test)):
        (root / name).write_text(json.dumps(content))
        for one in content.get("images", []):
            PIL.Image.new("L", (512, 512), 90).save(root / one["file_name"])
    return root


def test_masks_of_one_class_are_united_and_other_classes_left_out(tmp_path: Path) -> None:
    sample = open_reader(CARD, write(tmp_path)).sample("a_frontal.png")
    masks = sample.masks((512, 512))
    assert [CARD.classes[k] for k in masks.any(axis=(1, 2)).nonzero()[0]] == ["heart"]
    heart = masks[CARD.classes.index("heart")]
    assert heart[:, 3].all()  # counted down the columns
    assert heart[:5, 0].all()
    assert heart.sum() == 512 + 5


def test_lateral_images_are_left_out_and_counted(tmp_path: Path) -> None:
    reader = open_reader(CARD, write(tmp_path))
    assert "a_lateral.png" not in reader.ids
    counts = {check.what: check.found for check in reader.checks()}
    assert counts["images"] == "12"


def test_the_test_file_tests_and_a_tenth_of_the_other_validates(tmp_path: Path) -> None:
    splits = open_reader(CARD, write(tmp_path)).split(CARD.splits["official"])
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 9, "validation": 1, "test": 1}
    assert splits["test"] == ("b_frontal.png",)


def damaged(**changes) -> dict:
    return coco(["a_frontal"], [(0, "heart", mask(0, 5))]) | changes


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "is no COCO file"),
        ({"images": []}, "is no COCO file"),
        (damaged(categories=[{"id": 0, "name": "heart"}]), "has no category 'right lung'"),
        (damaged(annotations=[{"image_id": 99, "category_id": 0}]), "annotation 1 names an image or a category"),
        (coco(["a_frontal"], [(0, "heart", {"size": [512, 512], "counts": [5]})]), "annotation 1: the run-length code ends at pixel 5"),
        (coco(["a_frontal"], [(0, "heart", {"size": [256, 256], "counts": [5]})]), "the mask is 256 x 256 pixels"),
        (coco(["a_frontal"], [(0, "heart", [[1, 2, 3, 4]])]), "no COCO run-length code"),
        (coco(["a_frontal", "a_frontal"], []), "image a_frontal.png is listed a second time"),
    ],
)
def test_a_file_that_is_not_the_releases_is_named_with_its_place(tmp_path: Path, content, sentence: str) -> None:
    write(tmp_path)
    (tmp_path / "paxray_train_val.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"pax-ray: paxray_train_val\.json.*{sentence}"):
        open_reader(CARD, tmp_path)


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    reader = open_reader(CARD, write(tmp_path))
    PIL.Image.new("L", (256, 256)).save(reader.images["b_frontal.png"])
    with pytest.raises(ImageError, match="256 rows"):
        reader.sample("b_frontal.png").image()
