"""Segmentation: masks written and read again are the same masks, and a file with a row that makes no sense names it."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from benchmark import registry
from benchmark.errors import FrameMismatch, UsageError
from benchmark.kinds.base import Part
from benchmark.kinds.segmentation import KIND, MASKS_FILE, encode, read_masks
from benchmark.metrics import dice


def test_masks_come_back_exactly_all_or_a_few(segmentation, write):
    job, part = segmentation
    masks = np.random.default_rng(1).random((len(part), 1, 64, 64)) > 0.7
    masks[0], masks[1] = False, True
    folder = write(job, part, encode(masks))
    found, ids, frame = read_masks(folder / MASKS_FILE)
    assert (ids, frame) == (part.ids, "padded-64")
    assert np.array_equal(found, masks)
    few, _, _ = read_masks(folder / MASKS_FILE, [3, 0])
    assert np.array_equal(few, masks[[3, 0]])


def test_a_test_never_holds_the_masks_of_a_split(segmentation, monkeypatch):
    """True ones are unpacked a few at a time, predicted ones kept as codes."""
    _, part = segmentation
    nine = {name: getattr(part, name) * 9 for name in ("ids", "boxes", "labels", "patients")}
    part = replace(part, rows=np.tile(part.rows, 9), **nine)
    card, head = registry.dataset("covid-rural"), Mock(grid=2)
    asked: list[int] = []
    masks_of = Part.masks
    monkeypatch.setattr(Part, "masks", lambda self, index: asked.append(len(index)) or masks_of(self, index))
    rng = np.random.default_rng(1)
    given = torch.from_numpy(rng.random((len(part), 1, 64, 64), np.float32))
    batches = np.array_split(np.arange(len(part)), 5)
    tested = KIND.test(((index, given[index]) for index in batches), part, card, head, batch_size=len(batches[0]))
    KIND.anchors(part, card.classes, head)
    KIND.examples(part, tested.predictions)
    assert max(asked) <= 16 < len(batches[0]) < len(part)
    assert tested.metrics["avg_dice"] == dice.avg_dice(dice.count_overlap(given.numpy() >= 0.5, masks_of(part, np.arange(len(part)))))
    assert tested.predictions == encode(np.stack([image.numpy() >= 0.5 for image in given]))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"annotations__segmentation": {"size": [1, 1], "counts": [0, 1]}},
            r"annotation 2 \(b\): the mask is 1 x 1 pixels, its frame 4 x 4",
        ),
        ({"annotations__segmentation": {"size": [4, 4], "counts": [0, 15]}}, r"annotation 2 \(b\): .* ends at pixel 15 of 16"),
        ({"annotations__segmentation": None}, r"annotation 2 \(b\): no COCO run-length code"),
    ],
)
def test_a_damaged_mask_names_its_row(by_hand, changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        read_masks(by_hand(**changes))


def test_a_second_mask_of_an_image_and_class_names_both_rows(by_hand):
    path = by_hand(annotations__image_id=7, annotations__category_id=2)
    with pytest.raises(UsageError, match=r"annotation 2 \(a\): a second mask of category 2, first in annotation 1"):
        read_masks(path)


@pytest.mark.parametrize("frame", ["original", "padded-", "padded-0", 224])
def test_masks_need_a_square_frame(by_hand, frame):
    with pytest.raises(FrameMismatch, match="padded-224"):
        read_masks(by_hand(frame=frame))
