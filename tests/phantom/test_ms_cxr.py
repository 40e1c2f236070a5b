"""The files of the MS-CXR phantom against the release's layout (docs/sources.md, MS-CXR)."""

from __future__ import annotations

import csv
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from benchmark.phantom import ms_cxr
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.phantom.reports import hard_negatives

HEADER = "category_name,label_text,path,x,y,w,h,image_width,image_height,dicom_id,split"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "ms-cxr"
    return root, write_corpus(CorpusPlan("ms-cxr", 20, seed=4, images_per_patient=(1, 2)), root)


def rows_of(root) -> list[dict[str, str]]:
    path = root / "ms-cxr/1.1.0/MS_CXR_Local_Alignment_v1.1.0.csv"
    assert path.read_text().splitlines()[0] == HEADER
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_row_is_a_box_inside_the_named_image(corpus):
    root, summary = corpus
    rows = rows_of(root)
    assert len(rows) == summary.counts["boxes"]
    assert len({row["dicom_id"] for row in rows}) == summary.counts["images"]
    assert len({(row["dicom_id"], row["category_name"], row["label_text"]) for row in rows}) == summary.counts["phrases"]
    assert set(Counter(row["category_name"] for row in rows)) <= set(ms_cxr.PAIRS)
    for row in rows:
        files, group, subject, study, name = row["path"].split("/")
        assert (files, group, name) == ("files", subject[:3], f"{row['dicom_id']}.jpg")
        assert study[0] == "s"
        with Image.open(root / "mimic-cxr-jpg/2.0.0" / row["path"]) as picture:
            assert picture.size == (int(row["image_width"]), int(row["image_height"]))
        x, y, w, h = (int(row[name]) for name in "xywh")
        assert min(x, y) >= 0
        assert min(w, h) > 0
        assert x + w <= int(row["image_width"])
        assert y + h <= int(row["image_height"])


def test_some_phrases_have_several_boxes_and_some_hold_a_comma(corpus):
    rows = rows_of(corpus[0])
    boxes = Counter((row["dicom_id"], row["category_name"], row["label_text"]) for row in rows)
    assert max(boxes.values()) > 1
    assert any("," in row["label_text"] for row in rows)


def test_a_phrase_with_a_side_has_its_box_on_that_side_and_a_hard_negative(corpus):
    """Right is on the left of the picture."""
    checked = 0
    for row in rows_of(corpus[0]):
        words = row["label_text"].split()
        if ("left" in words) != ("right" in words):
            middle = int(row["x"]) + int(row["w"]) / 2
            assert (middle > int(row["image_width"]) / 2) == ("left" in words)
            assert hard_negatives(row["label_text"])
            checked += 1
    assert checked > 5


def test_whole_patients_belong_to_one_split(corpus):
    splits = {}
    for row in rows_of(corpus[0]):
        splits.setdefault(row["path"].split("/")[2], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) == {"train", "val", "test"}


def test_the_json_says_the_same_as_the_table(corpus):
    root, _ = corpus
    content = json.loads((root / "ms-cxr/1.1.0/MS_CXR_Local_Alignment_v1.1.0.json").read_text())
    images = {image["id"]: image for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert len(names) == 8
    found = sorted((images[a["image_id"]]["path"], names[a["category_id"]], a["label_text"], *a["bbox"]) for a in content["annotations"])
    listed = sorted((r["path"], r["category_name"], r["label_text"], *(int(r[n]) for n in "xywh")) for r in rows_of(root))
    assert found == listed


def test_boxes_lie_where_the_picture_changes(corpus):
    """Air is darker and everything else brighter than the same place of the other side; exchanged axes would not pass."""
    root, _ = corpus
    as_expected = []
    for row in rows_of(root):
        if ("left" in row["label_text"].split()) == ("right" in row["label_text"].split()):
            continue
        with Image.open(root / "mimic-cxr-jpg/2.0.0" / row["path"]) as picture:
            grey = np.asarray(picture, dtype=float)
        x, y, w, h = (int(row[name]) for name in "xywh")
        contrast = grey[y : y + h, x : x + w].mean() - grey[:, ::-1][y : y + h, x : x + w].mean()
        as_expected.append((contrast < 0) == (row["category_name"] == "Pneumothorax"))
    assert len(as_expected) >= 5
    assert np.mean(as_expected) > 0.8


def test_images_without_a_finding_are_in_no_table(tmp_path):
    summary = write_corpus(CorpusPlan("ms-cxr", 6, seed=1, images_per_patient=(2, 2), positive_share=0.5), tmp_path / "ms-cxr")
    assert summary.counts["images"] <= 6
    assert len(list((tmp_path / "ms-cxr").rglob("*.jpg"))) == 12
