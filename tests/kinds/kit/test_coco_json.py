"""Predictions as COCO-style JSON say where they were measured and how to map back; a damaged file names its row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import FrameMismatch, UsageError
from benchmark.imaging.geometry import Frame
from benchmark.kinds.detection import read_detections
from benchmark.kinds.kit import coco_json
from benchmark.kinds.segmentation import MASKS_FILE, encode, read_masks


def test_every_image_says_how_to_map_back_to_original_pixels(segmentation, write):
    job, part = segmentation
    folder = write(job, part, encode(np.zeros((len(part), 1, 64, 64), bool)))
    content = json.loads(part.kind.export(folder / MASKS_FILE, "task")[1])
    box = np.array([[10.0, 12.0, 20.0, 30.0]])
    for image in content["images"]:
        frame = Frame.of(image["height"], image["width"], 64)
        assert image["height"] != image["width"]
        by_hand = box / np.tile(image["scale"], 2) - [*image["pad"], 0, 0]
        assert np.allclose(by_hand, frame.to_original(box))


@pytest.mark.parametrize("read", [read_detections, read_masks])
def test_a_file_without_a_frame_is_refused_with_an_example_of_one(tmp_path: Path, read):
    (tmp_path / "p.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(FrameMismatch, match="padded-224"):
        read(tmp_path / "p.json")


def test_a_file_that_is_no_json_is_named(tmp_path: Path):
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(UsageError, match=r"p\.json"):
        read_detections(tmp_path / "p.json")


def test_classes_are_matched_by_name_and_never_by_their_place_in_the_file(by_hand):
    path = by_hand()
    assert read_detections(path)[0].label.tolist() == [1, 0]
    assert read_detections(path, ("nodule", "mass"))[0].label.tolist() == [0, 1]
    as_listed, turned = read_masks(path)[0], read_masks(path, classes=("nodule", "mass"))[0]
    assert as_listed.sum(axis=(2, 3)).tolist() == [[0, 2], [16, 0]]
    assert np.array_equal(turned, as_listed[:, ::-1])


@pytest.mark.parametrize("read", [read_detections, read_masks])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"annotations": None}, "no list `annotations`"),
        ({"images": {}}, "no list `images`"),
        ({"categories": "x"}, "no list `categories`"),
        ({"images__id": 7}, r"row 2 of its table `images` \(b\) has id 7, which row 1 has"),
        ({"images__name": None}, 'row 2 of its table `images` needs an "id" and the "name"'),
        ({"categories__id": 1}, "an id stands twice in its table `categories`"),
        ({"categories__name": 4}, "a row of its table `categories` lacks"),
        ({"categories__name": "effusion"}, "its categories are mass, effusion; the task's classes are mass, nodule"),
        ({"annotations__image_id": 8}, "annotation 2: image_id 8 is not in its table `images`"),
        ({"annotations__image_id": [7]}, r"annotation 2: image_id \[7\] is not"),
        ({"annotations__category_id": 3}, "annotation 2: category_id 3 is not in its table `categories`"),
        ({"annotations": ["x"]}, "annotation 1: found str"),
    ],
)
def test_a_damaged_file_names_its_row(by_hand, read, changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        read(by_hand(**changes), classes=("mass", "nodule"))


@pytest.mark.parametrize(
    "placed",
    [{"pad": [0, 0], "scale": ["wide", 1]}, {"pad": [0, 0.5], "scale": [1, 1]}, {"pad": [0], "scale": [1, 1]}, {"pad": 1, "scale": [1, 1]}],
)
def test_a_size_or_padding_that_is_none_is_a_sentence(tmp_path: Path, placed: dict):
    content = {
        "frame": "padded-4",
        "images": [{"id": 1, "name": "a", "height": 4, "width": 4, **placed}],
        "categories": [],
        "annotations": [],
    }
    with pytest.raises(UsageError, match="has a size, padding or scale that is none"):
        coco_json.heading_in(tmp_path / "given.json", content)


def test_a_file_of_a_newer_release_says_so_and_one_without_a_fault_has_none(tmp_path: Path):
    (tmp_path / "given.json").write_text(json.dumps({"schema_version": 10_000, "frame": "padded-4"}))
    with pytest.raises(UsageError, match="was written by a newer LOBE"):
        coco_json.load(tmp_path / "given.json")
    row = {"image_id": 1, "category_id": 2}
    assert coco_json.first_fault(tmp_path, [row], {1: 0}, {2: 0}, lambda _: "") is None
