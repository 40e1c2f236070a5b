"""The files of a tested job: images and patients in order, and a few images for the eye where they may be kept."""

from __future__ import annotations

import json

import numpy as np

from benchmark.kinds.base import Part
from benchmark.kinds.detection import DETECTIONS_FILE
from benchmark.kinds.kit import coco_rle
from benchmark.kinds.kit.stored import EXAMPLES_FILE, N_EXAMPLES, STATISTICS_FILE, read_examples
from benchmark.metrics.boxes import Detections


def detections(part: Part) -> Detections:
    """The truth, found with certainty."""
    truth = part.truth()
    return Detections(**vars(truth), confidence=np.ones(len(truth.image)))


def test_examples_are_the_first_positive_images_with_their_truth(detection, segmentation, write):
    job, part = detection
    folder = write(job, part, detections(part))
    examples = read_examples(folder / EXAMPLES_FILE)
    positive = [i for i, b in enumerate(part.boxes) if len(b)]
    assert [e.index for e in examples] == positive[:N_EXAMPLES]
    for example in examples:
        assert np.array_equal(example.image, part.images(np.array([example.index]))[0].numpy())
        assert np.array_equal(example.boxes_xywh, part.boxes[example.index])
        assert np.array_equal(example.box_labels, part.labels[example.index])
    job, part = segmentation
    folder = write(job, part, [coco_rle.encode(np.zeros((1, 64, 64), bool))] * len(part))
    for example in read_examples(folder / EXAMPLES_FILE):
        assert np.array_equal(example.masks, part.masks(np.array([example.index]))[0])
        assert example.masks.any()


def test_without_examples_none_are_written(detection, write):
    job, part = detection
    folder = write(job, part, detections(part), with_examples=False)
    assert read_examples(folder / EXAMPLES_FILE) == []
    assert sorted(p.name for p in folder.glob("*.*")) == [DETECTIONS_FILE, STATISTICS_FILE]


def test_statistics_name_images_and_patients_in_order(detection, write):
    job, part = detection
    folder = write(job, part, detections(part))
    content = json.loads((folder / STATISTICS_FILE).read_text())
    assert (content["ids"], content["patients"], content["values"]) == (list(part.ids), list(part.patients), [1])
