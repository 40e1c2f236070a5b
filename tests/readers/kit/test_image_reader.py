"""A reader that answers by image: its samples hold the answers, and what it is not asked for stays unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError, ImageError
from benchmark.readers.kit.image_reader import ImageReader, UnnamedReader

CARD = registry.dataset("rsna")
LABELS = {"a": [1], "b": [0], "c": [-1]}


class Plain(ImageReader):
    """Three images of which nothing is known."""

    def open(self) -> None:
        self.images = {name: self.root / f"{name}.png" for name in LABELS}
        self.tables = (self.root / "labels.csv",)

    def split(self, rule):
        return {}

    def checks(self):
        return ()


class Labelled(Plain):
    view = "PA"

    def labels_of(self, sample_id):
        return np.array(LABELS[sample_id], np.int8)

    def is_positive(self, sample_id):
        raise AssertionError("labels say it")


class Masked(Plain):
    side, drawn, masked = 8, "outlines", True

    def masks(self, sample_id, shape):
        self.require_frame(sample_id, shape)
        return np.ones((1, *shape), bool)


class Unnamed(UnnamedReader, Plain):
    side = 4

    def where_of(self, sample_id):
        return f"row {1 + list(LABELS).index(sample_id)}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in LABELS:
        PIL.Image.new("L", (8, 8), 7).save(tmp_path / f"{name}.png")
    return tmp_path


def test_what_a_release_does_not_answer_is_unknown(root: Path):
    reader = Plain(CARD, root)
    sample = reader.sample("a")
    unknown = (sample.patient_id, sample.masks, sample.positive, sample.report, sample.view, sample.labels)
    assert unknown == (None,) * 6
    assert sample.files == reader.files_of("a") == (root / "a.png",)
    assert sample.image().tolist() == [[7] * 8] * 8
    assert reader.label_files() == (root / "labels.csv",)


def test_labels_say_whether_an_image_is_positive(root: Path):
    samples = [Labelled(CARD, root).sample(i) for i in LABELS]
    assert [(s.positive, s.view, s.labels.tolist()) for s in samples] == [(True, "PA", [1]), (False, "PA", [0]), (False, "PA", [-1])]


def test_image_and_masks_have_the_size_that_labels_are_drawn_on(root: Path):
    sample = Masked(CARD, root).sample("a")
    assert sample.masks(sample.image().shape).shape == (1, 8, 8)
    with pytest.raises(ImageError, match=r"a\.png \(id a\): the image has 9 rows x 8 columns, and outlines are in pixels of 8 x 8"):
        sample.masks((9, 8))


def test_a_reader_that_promises_masks_draws_them(root: Path):
    promised = type("Promised", (Plain,), {"masked": True})(CARD, root).sample("a")
    with pytest.raises(NotImplementedError, match="Promised is masked and draws no masks"):
        promised.masks((8, 8))


def test_errors_of_an_unnamed_reader_tell_the_row_and_not_the_image(root: Path):
    (root / "b.png").write_bytes(b"no picture")
    reader = Unnamed(CARD, root)
    for sample_id, row in (("a", "row 1: the image has 8 rows"), ("b", "row 2: ")):
        with pytest.raises(ImageError) as caught:
            reader.sample(sample_id).image()
        assert str(caught.value).startswith(row)
        assert f"{sample_id}.png" not in str(caught.value)


def test_files_of_an_unknown_id_are_refused(root: Path):
    with pytest.raises(DataError, match="no image 'd'"):
        Plain(CARD, root).files_of("d")
