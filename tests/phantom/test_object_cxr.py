"""The files of the Object-CXR phantom against the release's layout (docs/sources.md, Object-CXR)."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmark.phantom import object_cxr
from benchmark.phantom.corpus import CorpusPlan, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "object-cxr"
    return root, write_corpus(CorpusPlan("object-cxr", 7, seed=2, images_per_patient=(2, 3)), root)


def rows(root, part):
    header, *lines = (root / f"{part}.csv").read_text().splitlines()
    assert header == "image_name,annotation"
    return [line.split(",") for line in lines]


def test_numbers_count_from_one_and_dev_from_8001(corpus):
    root, summary = corpus
    train, dev = rows(root, "train"), rows(root, "dev")
    assert [name for name, _ in train] == [f"{k:05d}.jpg" for k in range(1, len(train) + 1)]
    assert [name for name, _ in dev] == [f"{k:05d}.jpg" for k in range(8_001, 8_001 + len(dev))]
    assert {path.name for path in (root / "train").iterdir()} == {name for name, _ in train}
    assert len(train) + len(dev) == summary.counts["images"]


def test_half_of_the_images_have_objects(corpus):
    root, _ = corpus
    texts = [text for part in ("train", "dev") for _, text in rows(root, part)]
    assert abs(sum(map(bool, texts)) - len(texts) / 2) <= 1


def test_annotations_are_whole_numbers_inside_the_picture(corpus):
    root, summary = corpus
    kinds, n_objects = set(), 0
    for part in ("train", "dev"):
        for name, text in rows(root, part):
            with Image.open(root / part / name) as picture:
                width, height = picture.size
                assert picture.mode == "L"
            for one in filter(None, text.split(";")):
                kind, *numbers = map(int, one.split(" "))
                points = np.array(numbers).reshape(-1, 2)
                assert (points >= 0).all()
                assert (points < [width, height]).all()
                if kind in (0, 1):
                    assert len(points) == 2
                    assert (points[1] > points[0]).all()
                else:
                    assert kind == 2
                    assert len(points) >= 3
                kinds.add(kind)
                n_objects += 1
    assert n_objects == summary.counts["boxes"]
    assert kinds == {0, 1, 2}


def test_objects_are_bright_where_the_annotation_says(corpus):
    """x runs to the right and y down: inside a rectangle or ellipse the picture is brighter than around it."""
    root, _ = corpus
    gains = []
    for name, text in rows(root, "train"):
        pixels = np.asarray(Image.open(root / "train" / name)).astype(float)
        for one in filter(None, text.split(";")):
            kind, *numbers = map(int, one.split(" "))
            if kind != 2:
                x1, y1, x2, y2 = numbers
                w, h = x2 - x1, y2 - y1
                around = pixels[max(0, y1 - h // 2) : y2 + h // 2, max(0, x1 - w // 2) : x2 + w // 2]
                gains.append(pixels[y1:y2, x1:x2].mean() - around.mean())
    assert np.mean(gains) > 3


def test_both_subsets_are_balanced_and_every_image_has_one_number():
    planned = object_cxr.shots(CorpusPlan("object-cxr", 200, seed=0))
    assert len({shot.role for shot in planned}) == len(planned)
    for part in ("train", "dev"):
        flags = [shot.positive for shot in planned if shot.role.startswith(part)]
        assert np.mean(flags) == pytest.approx(0.5, abs=0.03)
