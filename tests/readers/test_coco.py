from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from benchmark.errors import DataError
from benchmark.readers.base import Reader
from benchmark.readers.kit.cached import cache_recipe
from tests import own_folders
from tests.own_cards import odd, opened

CLASSES = ("nodule", "mass")
GIVEN = {"annotations": "annotations.json", "images": "images"}
BY_PATIENT = {**GIVEN, "patient_pattern": "^p([0-9]+)/"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_folders.coco(tmp_path_factory.mktemp("own") / "faulty")


def small(folder: Path, listed: list[dict[str, Any]], **others: Any) -> Path:
    """Two images of 64 pixels, and these annotations."""
    for number in (1, 2):
        own_folders.save(folder / f"{number}.png", own_folders.picture(number))
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": 64, "height": 64} for k in (1, 2)],
        "categories": [{"id": 1, "name": "nodule"}, {"id": 2, "name": "mass"}],
        "annotations": [{"id": k, **entry} for k, entry in enumerate(listed, start=1)],
    }
    own_folders.write_json(folder / "a.json", {**content, **others})
    return folder


def test_every_fault_of_the_folder_is_named_with_its_place(folder: Path) -> None:
    found = odd(opened(folder, "coco", BY_PATIENT, classes=CLASSES))
    assert found == {
        "images listed without a file": "1: annotations.json image 41",
        "image files that nothing lists": "1: unlisted ü.png",
        "annotations of an image that is not listed": "1: annotations.json annotation 31",
        "annotations of an unknown category": "1: annotations.json annotation 30",
        "crowd annotations (iscrowd)": "1: annotations.json annotation 33",
        "annotations twice": "1: annotations.json annotation 32",
        "boxes without area": "1: annotations.json annotation 29",
        "boxes with their centre outside the image": "1: annotations.json annotation 28",
        "boxes that leave the image": "1: annotations.json annotation 27",
        "images without a patient": "2: copy.png; turned.jpg",
        "pictures stored turned (EXIF)": "1: turned.jpg",
        "equal images": "1: copy.png = p01/scan 003.png",
    }


def test_no_sentence_names_an_image_unless_the_card_allows_it(folder: Path) -> None:
    reader = opened(folder, "coco", BY_PATIENT, classes=CLASSES, redistribution="none")
    said = [*odd(reader).values(), *reader.warnings]
    assert not [sentence for sentence in said if "scan" in sentence or "copy" in sentence or "turned.jpg" in sentence]
    assert odd(reader)["image files that nothing lists"] == "1: image 43 of 43"


def test_patients_stay_in_one_split_and_each_split_shows_findings(folder: Path) -> None:
    reader = opened(folder, "coco", BY_PATIENT, classes=CLASSES)
    splits = reader.split(reader.card.splits["own"])
    patients = {name: {reader.sample(i).patient_id for i in ids} - {None} for name, ids in splits.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 20
    assert sorted(i for ids in splits.values() for i in ids) == sorted(reader.ids)
    assert all(any(reader.sample(i).positive for i in ids) for ids in splits.values())


def test_boxes_and_outlines_are_those_of_the_file(tmp_path: Path) -> None:
    triangle = [10.0, 10.0, 40.0, 10.0, 10.0, 40.0]
    square = np.zeros((64, 64), bool)
    square[5:15, 20:30] = True
    code = coco_mask.encode(np.asfortranarray(square.astype(np.uint8)))
    listed = [
        {"image_id": 1, "category_id": 2, "bbox": [10, 10, 30, 30], "segmentation": [triangle]},
        {"image_id": 1, "category_id": 1, "segmentation": {"size": [64, 64], "counts": code["counts"].decode()}, "bbox": [20, 5, 10, 10]},
        {"image_id": 2, "category_id": 1, "bbox": [1.5, 2, 3, 4]},
    ]
    folder = small(tmp_path / "own", listed)
    outlines = opened(folder, "coco", {"annotations": "a.json", "masks": "segmentation"}, classes=CLASSES)
    sample = outlines.sample("1.png")
    assert sample.boxes_xywh.tolist() == [[10, 10, 30, 30], [20, 5, 10, 10]]
    assert sample.box_labels.tolist() == [1, 0]
    assert sample.masks is not None
    nodule, mass = sample.masks((64, 64))
    assert (nodule == square).all()
    assert mass.sum() == coco_mask.decode(coco_mask.frPyObjects([triangle], 64, 64)).sum() < 30 * 30
    assert odd(outlines)["annotations without an outline"] == "1: a.json annotation 3"
    filled = opened(folder, "coco", {"annotations": "a.json"}, classes=CLASSES).sample("1.png").masks
    assert filled is not None
    assert filled((64, 64))[1].sum() == 30 * 30


def test_what_the_card_decides_is_in_the_digest(tmp_path: Path) -> None:
    folder = small(tmp_path / "own", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9]}])
    cards = ({}, {"categories": {"mass": "nodule"}}, {"masks": "segmentation"})
    digests = {opened(folder, "coco", {"annotations": "a.json", **more}, classes=CLASSES).label_digest() for more in cards}
    outlines = {opened(folder, "coco", {"annotations": "a.json", **more}, classes=CLASSES).outline_digest() for more in cards}
    assert len(digests) == len(outlines) == 3


def test_the_cache_of_masks_is_another_where_classes_are(tmp_path: Path) -> None:
    folder = small(tmp_path / "own", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9]}])
    readers = [
        opened(folder, "coco", {"annotations": "a.json"}, classes=classes) for classes in (CLASSES, CLASSES[::-1], ("mass", "other"))
    ]
    assert len({cache_recipe(reader, "as-stored", 64).canonical for reader in readers}) == 3
    assert cache_recipe(readers[0], "as-stored", 64) == cache_recipe(
        opened(folder, "coco", {"annotations": "a.json"}, classes=CLASSES), "as-stored", 64
    )


def test_boxes_in_fractions_are_refused(tmp_path: Path) -> None:
    folder = small(tmp_path / "own", [{"image_id": 1, "category_id": 1, "bbox": [0.25, 0.5, 0.5, 0.25]}])
    with pytest.raises(DataError, match=r"all 1 boxes of a\.json end within 2 pixels .* COCO's boxes and outlines are in pixels"):
        opened(folder, "coco", {"annotations": "a.json"}, classes=CLASSES)


def test_fractions_in_one_of_several_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    for part, box in (("train", [1, 2, 9, 9]), ("test", [0.25, 0.5, 0.5, 0.25])):
        small(folder / part, [{"image_id": 1, "category_id": 1, "bbox": box}])
    with pytest.raises(DataError, match=r"all 1 boxes of test/a\.json end within 2 pixels"):
        opened(folder, "coco", {"annotations": {"train": "train/a.json", "test": "test/a.json"}}, classes=CLASSES)


def test_outlines_in_fractions_are_refused_where_masks_are_made_of_them(tmp_path: Path) -> None:
    outline = [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]
    folder = small(tmp_path / "own", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9], "segmentation": outline}])
    with pytest.raises(DataError, match=r"all 1 outlines of a\.json end within 2 pixels"):
        opened(folder, "coco", {"annotations": "a.json", "masks": "segmentation"}, classes=CLASSES)
    assert opened(folder, "coco", {"annotations": "a.json"}, classes=CLASSES).sample("1.png").boxes_xywh.tolist() == [[1, 2, 9, 9]]


def test_a_file_for_each_split_and_images_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    for part in ("train", "valid"):
        small(folder / part, [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9]}])
    given = {"annotations": {"train": "train/a.json", "validation": "valid/a.json"}}
    split = {"by": "folder", "test_share": 0.25}
    reader = opened(folder, "coco", given, classes=CLASSES, split=split)
    splits = reader.split(reader.card.splits["own"])
    assert set(splits["validation"]) == {"valid/1.png", "valid/2.png"}
    assert len(splits["train"]) == len(splits["test"]) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": [{"id": 1, "file_name": "1.png"}, {"id": 1, "file_name": "2.png"}]}, "a.json image 2 has the id 1 of another image"),
        ({"categories": [{"id": 1, "name": "nodule"}, {"id": 1, "name": "mass"}]}, "category 2 has the id 1 of 'nodule' once more"),
        ({"categories": [{"id": 1, "name": "Nodule"}]}, "no category of a.json is a class of the card. Categories: Nodule"),
        ({"annotations": {}}, "has no list `annotations`"),
        ({"images": [{"id": 1}]}, "a.json image 1 has no id or no file_name"),
    ],
)
def test_contradictions_stop_it_with_their_place(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    folder = small(tmp_path / "own", [], **change)
    with pytest.raises(DataError, match=sentence):
        opened(folder, "coco", {"annotations": "a.json"}, classes=CLASSES)


def outlines_told(reader: Reader) -> dict[str, str]:
    return {what: found for what, found in odd(reader).items() if "outline" in what}


@pytest.mark.parametrize(
    "outline",
    [[[1, 2, 3, 4]], [["a"] * 6], "text", [[1, 2, 3, 4, 5, 1e12]], {"size": [64, 64], "counts": "0"}, {"size": [32, 32], "counts": [1024]}],
)
def test_an_outline_that_is_none_is_told_and_its_box_filled(tmp_path: Path, outline: object) -> None:
    listed = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9], "segmentation": outline}]
    folder = small(tmp_path / "own", listed)
    reader = opened(folder, "coco", {"annotations": "a.json", "masks": "segmentation"}, classes=CLASSES)
    assert outlines_told(reader) == {"outlines that are none, beside a box": "1: a.json annotation 1"}
    assert reader.warnings == ["mine: 1 outlines that are none, beside a box. Their box is filled instead."]
    sample = reader.sample("1.png")
    assert sample.boxes_xywh.tolist() == [[1, 2, 9, 9]]
    assert sample.masks is not None
    assert sample.masks((64, 64)).sum() == 9 * 9
    boxes = opened(folder, "coco", {"annotations": "a.json"}, classes=CLASSES)
    assert outlines_told(boxes) == {"outlines that are none": "1: a.json annotation 1"}


def test_an_outline_that_is_none_leaves_nothing_without_a_box(tmp_path: Path) -> None:
    listed = [{"image_id": 1, "category_id": 1, "segmentation": [[1, 2, 3, 4]]}]
    reader = opened(small(tmp_path / "own", listed), "coco", {"annotations": "a.json", "masks": "segmentation"}, classes=CLASSES)
    assert outlines_told(reader) == {"outlines that are none": "1: a.json annotation 1"}
    assert odd(reader)["boxes without area"] == "1: a.json annotation 1"
    assert reader.sample("1.png").positive is False


@pytest.mark.parametrize("number", ["Infinity", "1" + "0" * 400])
def test_a_number_that_no_image_has_is_no_size_and_no_box(tmp_path: Path, number: str) -> None:
    polygon = "[[1, 2, 3, 4, 5, 123456789]]"
    entry = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 123456789, 9]}
    listed = [entry, {**entry, "bbox": [1, 2, 9, 9], "segmentation": json.loads(polygon)}]
    folder = small(tmp_path / "own", listed)
    content = json.loads((folder / "a.json").read_text())
    content["images"][1]["height"] = 123456789
    (folder / "a.json").write_text(json.dumps(content).replace("123456789", number))
    reader = opened(folder, "coco", {"annotations": "a.json"}, classes=CLASSES)
    found = odd(reader)
    assert found["boxes without area"] == "1: a.json annotation 1"
    assert found["outlines that are none"] == "1: a.json annotation 2"
    assert reader.sample("1.png").boxes_xywh.tolist() == [[1, 2, 9, 9]]


def test_an_image_of_another_size_than_listed_is_left_out(tmp_path: Path) -> None:
    folder = small(tmp_path / "own", [])
    content = json.loads((folder / "a.json").read_text())
    content["images"][0]["width"] = 32
    own_folders.write_json(folder / "a.json", content)
    reader = opened(folder, "coco", {"annotations": "a.json"}, classes=CLASSES)
    assert reader.ids == ("2.png",)
    assert odd(reader)["images of another size than listed"] == "1: 1.png, 64 x 64 for 32 x 64 listed"


def test_a_number_of_json_is_one_patient_with_and_without_a_point_and_nan_is_none(tmp_path: Path) -> None:
    for patient, other in ((12, 12.0), ("12", 12.0), (float("nan"), None)):
        images = [{"id": k, "file_name": f"{k}.png", "who": who} for k, who in ((1, patient), (2, other))]
        folder = small(tmp_path / "own", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9]}], images=images)
        reader = opened(folder, "coco", {"annotations": "a.json", "patient_key": "who"}, classes=CLASSES)
        expected = None if other is None else "12"
        assert [reader.sample(i).patient_id for i in reader.ids] == [expected, expected]
        assert "read_anew" in reader.decided()
