"""Predictions written and read again are the predictions, with their frame and their images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import FrameMismatch, UsageError
from benchmark.imaging.geometry import Frame
from benchmark.metrics.boxes import Detections
from benchmark.training import data, predictions
from benchmark.training.evaluate import Tested


@pytest.fixture
def detection(small, tiny):
    job, place = small.one("rsna-yolov3-frozen-100", tiny())
    return job, data.load_part(job.experiment, place, "train")


@pytest.fixture
def segmentation(small, tiny):
    job, place = small.one("covid-rural-linear-frozen-100", tiny("masks"))
    return job, data.load_part(job.experiment, place, "train")


def detections(part: data.Part) -> Detections:
    """Float32 numbers with all their digits; the first and the last image have none."""
    rng = np.random.default_rng(0)
    image = np.sort(rng.integers(1, len(part) - 1, 30))
    return Detections(
        image=image.astype(np.int64),
        xywh=rng.uniform(0, 64, (30, 4)).astype(np.float32).astype(np.float64),
        label=np.zeros(30, np.int64),
        n_images=len(part),
        frame=part.frame_name,
        confidence=rng.random(30, np.float32).astype(np.float64),
    )


def write(folder: Path, job, part, *, found=None, masks=None, with_examples=True) -> None:
    predictions.write(folder, job, part, Tested({}, {"values": [1]}, masks, found, ()), with_examples=with_examples)


def test_detections_come_back_exactly(detection, tmp_path: Path):
    job, part = detection
    given = detections(part)
    write(tmp_path, job, part, found=given)
    found, ids = predictions.read_detections(tmp_path / predictions.DETECTIONS_FILE)
    assert ids == part.ids
    assert (found.n_images, found.frame) == (len(part), "padded-64")
    for name in ("image", "xywh", "label", "confidence"):
        assert np.array_equal(getattr(found, name), getattr(given, name)), name


def test_no_detection_at_all_comes_back_as_none(detection, tmp_path: Path):
    job, part = detection
    nothing = Detections(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), len(part), part.frame_name, np.zeros(0))
    write(tmp_path, job, part, found=nothing)
    found, ids = predictions.read_detections(tmp_path / predictions.DETECTIONS_FILE)
    assert (len(found.xywh), found.n_images, len(ids)) == (0, len(part), len(part))


def test_masks_come_back_exactly_all_or_a_few(segmentation, tmp_path: Path):
    job, part = segmentation
    masks = np.random.default_rng(1).random((len(part), 1, 64, 64)) > 0.7
    masks[0], masks[1] = False, True
    write(tmp_path, job, part, masks=masks)
    found, ids, frame = predictions.read_masks(tmp_path / predictions.MASKS_FILE)
    assert (ids, frame) == (part.ids, "padded-64")
    assert np.array_equal(found, masks)
    few, _, _ = predictions.read_masks(tmp_path / predictions.MASKS_FILE, [3, 0])
    assert np.array_equal(few, masks[[3, 0]])


def test_every_image_says_how_to_map_back_to_original_pixels(segmentation, tmp_path: Path):
    job, part = segmentation
    write(tmp_path, job, part, masks=np.zeros((len(part), 1, 64, 64), bool))
    content = json.loads((tmp_path / predictions.MASKS_FILE).read_text())
    box = np.array([[10.0, 12.0, 20.0, 30.0]])
    for image in content["images"]:
        frame = Frame.of(image["height"], image["width"], 64)
        assert image["height"] != image["width"]
        by_hand = box / np.tile(image["scale"], 2) - [*image["pad"], 0, 0]
        assert np.allclose(by_hand, frame.to_original(box))


def test_examples_are_the_first_positive_images_with_their_truth(detection, segmentation, tmp_path: Path):
    job, part = detection
    write(tmp_path, job, part, found=detections(part))
    examples = predictions.read_examples(tmp_path / predictions.EXAMPLES_FILE)
    positive = [i for i, b in enumerate(part.boxes) if len(b)]
    assert [e.index for e in examples] == positive[: predictions.N_EXAMPLES]
    for example in examples:
        assert np.array_equal(example.image, part.images(np.array([example.index]))[0].numpy())
        assert np.array_equal(example.boxes_xywh, part.boxes[example.index])
    job, part = segmentation
    (tmp_path / "second").mkdir()
    write(tmp_path / "second", job, part, masks=np.zeros((len(part), 1, 64, 64), bool))
    for example in predictions.read_examples(tmp_path / "second" / predictions.EXAMPLES_FILE):
        assert np.array_equal(example.masks, part.masks(np.array([example.index]))[0])
        assert example.masks.any()


def test_without_examples_none_are_written(detection, tmp_path: Path):
    job, part = detection
    write(tmp_path, job, part, found=detections(part), with_examples=False)
    assert predictions.read_examples(tmp_path / predictions.EXAMPLES_FILE) == []
    assert sorted(p.name for p in tmp_path.glob("*.*")) == [predictions.DETECTIONS_FILE, predictions.STATISTICS_FILE]


def test_statistics_name_images_and_patients_in_order(detection, tmp_path: Path):
    job, part = detection
    write(tmp_path, job, part, found=detections(part))
    content = json.loads((tmp_path / predictions.STATISTICS_FILE).read_text())
    assert (content["ids"], content["patients"], content["values"]) == (list(part.ids), list(part.patients), [1])


@pytest.mark.parametrize("read", [predictions.read_detections, predictions.read_masks])
def test_a_file_without_a_frame_is_refused_with_an_example_of_one(tmp_path: Path, read):
    (tmp_path / "p.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(FrameMismatch, match="padded-224"):
        read(tmp_path / "p.json")


def test_a_file_that_is_no_json_is_named(tmp_path: Path):
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(UsageError, match=r"p\.json"):
        predictions.read_detections(tmp_path / "p.json")


def test_a_prediction_that_is_not_a_number_cannot_be_written(detection, tmp_path: Path):
    job, part = detection
    given = detections(part)
    given.confidence[3] = np.nan
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path, job, part, found=given)
