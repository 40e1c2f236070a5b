"""A reader of boxes owes boxes and lists; sample, masks, counts and sizes follow from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError, ImageError
from benchmark.readers.kit.boxed import BoxedReader, boxes_of

CARD = registry.dataset("rsna")
SIDE = 16


class Few(BoxedReader):
    """Three images: two boxes, none, one; the last is of the other list."""

    side, view = SIDE, "PA"

    def open(self) -> None:
        self.images = {name: self.root / f"{name}.png" for name in ("a", "b", "c")}
        self.boxes = {"a": boxes_of([(0, (1, 2, 3, 4)), (0, (8, 8, 2, 2))]), "b": boxes_of([]), "c": boxes_of([(0, (0, 0, 16, 16))])}
        self.subset = {"a": "train", "b": "train", "c": "test"}

    def label_files(self):
        return ()

    def split(self, rule):
        return {}

    def checks(self):
        return ()


@pytest.fixture
def reader(tmp_path: Path) -> Few:
    for name, side in (("a", SIDE), ("b", SIDE), ("c", SIDE // 2)):
        PIL.Image.new("L", (side, side), 7).save(tmp_path / f"{name}.png")
    return Few(CARD, tmp_path)


def test_a_sample_has_its_boxes_and_masks_filled_from_them(reader: Few) -> None:
    sample = reader.sample("a")
    assert (sample.boxes_xywh.tolist(), sample.box_labels.tolist()) == ([[1, 2, 3, 4], [8, 8, 2, 2]], [0, 0])
    assert (sample.positive, sample.view, sample.patient_id, sample.files) == (True, "PA", None, (reader.images["a"],))
    image = sample.image()
    assert (image.shape, image.dtype) == ((SIDE, SIDE), np.uint8)
    masks = sample.masks(image.shape)
    assert masks.shape == (1, SIDE, SIDE)
    assert masks[0, 2:6, 1:4].all()
    assert masks.sum() == 3 * 4 + 2 * 2


def test_an_image_without_a_box_is_negative_and_its_masks_are_empty(reader: Few) -> None:
    sample = reader.sample("b")
    assert (sample.boxes_xywh.shape, sample.box_labels.shape, sample.positive) == ((0, 4), (0,), False)
    assert not sample.masks((SIDE, SIDE)).any()


def test_image_and_masks_of_another_size_are_refused(reader: Few) -> None:
    with pytest.raises(ImageError, match=r"the image has 8 rows x 8 columns, and boxes are in pixels of 16 x 16"):
        reader.sample("c").image()
    with pytest.raises(ImageError, match=r"8 rows x 8 columns"):
        reader.sample("a").masks((8, 8))


def test_subsets_keep_their_order_and_are_counted(reader: Few) -> None:
    assert (reader.ids_of("train"), reader.ids_of("test")) == (("a", "b"), ("c",))
    assert reader.counts_of("train") == {"train_images": 2, "train_positives": 1, "train_boxes": 2}
    assert [reader.kind_of(i) for i in reader.ids] == ["with a finding", "normal", "with a finding"]


def test_an_id_of_another_dataset_is_refused(reader: Few) -> None:
    with pytest.raises(DataError, match="no image 'd'"):
        reader.sample("d")
