"""The files of the ChestX-Det phantom against the release's layout (docs/sources.md, ChestX-Det)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from benchmark import registry
from benchmark.phantom import chestx_det
from benchmark.phantom.boxed import LOOKS
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.readers.base import open_reader

CARD = registry.dataset("chestx-det")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "chestx-det"
    return root, write_corpus(CorpusPlan("chestx-det", 6, seed=2, images_per_patient=(1, 2)), root)


def entries(root):
    return {part: json.loads((root / f"ChestX_Det_{part}.json").read_text()) for part in ("train", "test")}


def test_entries_have_three_lists_of_one_length_and_boxes_around_their_polygons(corpus):
    root, summary = corpus
    found = [entry for listed in entries(root).values() for entry in listed]
    assert sum(len(entry["syms"]) for entry in found) == summary.counts["train_boxes"] + summary.counts["test_boxes"] > 0
    for entry in found:
        assert list(entry) == ["file_name", "syms", "boxes", "polygons"]
        assert len(entry["syms"]) == len(entry["boxes"]) == len(entry["polygons"])
        assert set(entry["syms"]) <= set(CARD.classes)
        for box, polygon in zip(entry["boxes"], entry["polygons"], strict=True):
            points = np.array(polygon)
            assert box == [*points.min(axis=0), *points.max(axis=0)]


def test_images_are_grey_png_of_1024_under_five_digits_and_in_one_part(corpus):
    root, summary = corpus
    names = {part: {entry["file_name"] for entry in listed} for part, listed in entries(root).items()}
    assert not names["train"] & names["test"]
    for part, listed in names.items():
        assert listed == {path.name for path in (root / f"{part}_data").iterdir()}
        for name in listed:
            assert len(name) == len("36200.png")
            with Image.open(root / f"{part}_data" / name) as picture:
                assert (picture.size, picture.mode) == ((1024, 1024), "L")
    assert sum(map(len, names.values())) == summary.counts["images"]


def test_a_mask_covers_what_is_drawn_and_little_of_the_picture(corpus):
    reader = open_reader(CARD, corpus[0])
    shown = next(i for i in reader.ids if reader.sample(i).positive)
    masks = reader.sample(shown).masks((1024, 1024))
    assert set(np.flatnonzero(masks.any(axis=(1, 2)))) == set(reader.sample(shown).box_labels)
    assert 0 < masks.any(axis=0).mean() < 0.5


def test_findings_come_as_in_the_release_as_far_as_they_are_drawn():
    assert set(chestx_det.BOXES_PER_CLASS) < set(CARD.classes)
    assert all(CARD.expected[f"train_{name.lower()}"] == n for name, n in chestx_det.BOXES_PER_CLASS.items())
    assert set(chestx_det.BOXES_PER_CLASS) - set(LOOKS) == {chestx_det.HEART}


def test_seeds_share_few_numbers():
    first, second = ({shot.role.split("/")[1] for shot in chestx_det.shots(CorpusPlan("chestx-det", 40, seed=seed))} for seed in (0, 1))
    assert len(first & second) < len(first) / 4
