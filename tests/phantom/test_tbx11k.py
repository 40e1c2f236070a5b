"""The files of the TBX11K phantom against the release's layout (docs/sources.md, TBX11K)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from benchmark import registry
from benchmark.phantom import tbx11k
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.readers.base import open_reader


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "tbx11k"
    return root, write_corpus(CorpusPlan("tbx11k", 12, seed=3, images_per_patient=(1, 2), positive_share=0.5), root)


def listed(root, part):
    return (root / "lists" / f"TBX11K_{part}.txt").read_text().splitlines()


def test_lists_name_every_file_once_and_trainval_is_both(corpus):
    root, summary = corpus
    files = [name for part in ("train", "val", "test") for name in listed(root, part)]
    assert sorted(files) == sorted(path.relative_to(root / "imgs").as_posix() for path in root.glob("imgs/*/*.png"))
    assert listed(root, "trainval") == listed(root, "train") + listed(root, "val")
    assert all(name.startswith("test/") for name in listed(root, "test"))
    assert len(listed(root, "trainval")) == summary.counts["images"]


def test_images_are_rgb_of_512(corpus):
    root, _ = corpus
    for path in root.glob("imgs/*/*.png"):
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("RGB", (512, 512))


def test_coco_files_hold_boxes_of_tuberculosis_only_and_inside(corpus):
    root, summary = corpus
    n_boxes = 0
    for part in ("train", "val"):
        content = json.loads((root / "annotations" / "json" / f"TBX11K_{part}.json").read_text())
        names = {image["id"]: image["file_name"] for image in content["images"]}
        assert list(names.values()) == listed(root, part)
        assert {one["id"]: one["name"] for one in content["categories"]} == tbx11k.CATEGORIES
        for one in content["annotations"]:
            assert names[one["image_id"]].startswith("tb/tb")
            x, y, width, height = one["bbox"]
            assert 0 <= x < x + width <= 512
            assert 0 <= y < y + height <= 512
            assert one["area"] == width * height
        assert {names[one["image_id"]] for one in content["annotations"]} == {name for name in names.values() if name.startswith("tb/")}
        n_boxes += len(content["annotations"])
    assert n_boxes == summary.counts["boxes"] > 0


def test_the_reader_finds_nothing_to_object_to(corpus):
    root, _ = corpus
    assert open_reader(registry.dataset("tbx11k"), root).verify().ok


def test_kinds_are_as_frequent_as_in_the_release():
    planned = [shot for shot in tbx11k.shots(CorpusPlan("tbx11k", 500, seed=1)) if not shot.role.startswith("test")]
    kinds = [shot.role.split("/")[1] for shot in planned]
    assert kinds.count("tb") / len(kinds) == pytest.approx(600 / 6_600, abs=0.005)
    assert kinds.count("sick") == pytest.approx(kinds.count("health"), abs=1)
    assert np.mean([shot.role.startswith("val/") for shot in planned]) == pytest.approx(1_800 / 8_400, abs=0.01)
    assert len({shot.role for shot in planned}) == len(planned)
