"""The files of a tested job: images and patients in order, and a few images for the eye where they may be kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import UsageError
from benchmark.kinds.base import Part
from benchmark.kinds.detection import DETECTIONS_FILE
from benchmark.kinds.kit import stored
from benchmark.kinds.kit.stored import EXAMPLES_FILE, N_EXAMPLES, STATISTICS_FILE, read_examples, read_statistics
from benchmark.kinds.segmentation import encode
from benchmark.metrics import statistics as of_split
from benchmark.metrics.boxes import Detections
from benchmark.metrics.label_statistics import MeanStatistics


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
    folder = write(job, part, encode(np.zeros((len(part), 1, 64, 64), bool)))
    for example in read_examples(folder / EXAMPLES_FILE):
        assert np.array_equal(example.masks, part.masks(np.array([example.index]))[0])
        assert example.masks.any()


def test_without_examples_none_are_written(detection, write):
    job, part = detection
    folder = write(job, part, detections(part), with_examples=False)
    assert read_examples(folder / EXAMPLES_FILE) == []
    assert sorted(p.name for p in folder.glob("*.*")) == [DETECTIONS_FILE, STATISTICS_FILE]


def test_what_is_known_of_the_images_stands_beside_their_statistics(detection, write):
    job, part = detection
    facts = {"view": ("PA", None) * len(part), "age_decade": ("60",) * len(part)}
    known = replace(part, facts={name: values[: len(part)] for name, values in facts.items()})
    folder = write(job, known, detections(part))
    kept = read_statistics(folder / STATISTICS_FILE)
    assert kept.facts == known.facts
    assert read_statistics(folder / STATISTICS_FILE, "mAP").facts == known.facts


def test_statistics_name_images_and_patients_in_order(detection, write):
    job, part = detection
    folder = write(job, part, detections(part))
    kept = read_statistics(folder / STATISTICS_FILE)
    assert (kept.ids, kept.patients, kept.statistics.n_images) == (part.ids, part.patients, len(part))


def test_statistics_of_other_images_are_neither_written_nor_read(tmp_path: Path):
    means = MeanStatistics(("value",), np.arange(2), np.ones((2, 1)), 2)
    path = tmp_path / stored.STATISTICS_FILE
    with pytest.raises(UsageError, match="statistics of 2 images for 1 ids"):
        stored.write_statistics(path, stored.ByImage(("a",), (None,), means), {})
    edited = tmp_path / stored.STATISTICS_JSON
    edited.write_text(json.dumps({**of_split.to_json(means), "ids": ["a"], "patients": [None]}))
    with pytest.raises(UsageError, match="holds 2 images, 1 ids and 1 patients; the file was edited"):
        stored.read_statistics(edited)
