"""Boxes scored in original pixels: each by its own image's size and padding, against a truth that never was in the frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.imaging.geometry import Frame
from benchmark.imaging.originals import Originals
from benchmark.kinds.detection import DETECTIONS_FILE, KIND
from benchmark.kinds.kit import original_boxes
from benchmark.kinds.kit.stored import ByImage
from benchmark.metrics import scores
from benchmark.metrics.boxes import Boxes, Detections
from benchmark.submission.same_statistics import fault_of_images
from benchmark.training.data import load_part

FRAMES = (Frame.of(100, 60, 32), Frame.of(31, 62, 32), Frame.of(32, 32, 32))


def test_a_box_comes_back_by_the_padding_and_the_two_scales_of_its_image() -> None:
    # 100 x 60: twenty columns of padding, 0.32 a pixel. 31 x 62: an odd difference, so that rows and columns are scaled apart.
    found = Detections(
        np.array([2, 0, 1]),
        np.array([[1.0, 2, 3, 4], [8, 16, 3.2, 6.4], [8, 16, 8, 16]]),
        np.zeros(3, np.int64),
        3,
        "padded-32",
        np.ones(3),
    )
    back = original_boxes.mapped_back(found, FRAMES)
    assert back.frame == "original"
    assert back.xywh[0].tolist() == [1, 2, 3, 4]
    assert back.xywh[1] == pytest.approx([8 / 0.32 - 20, 16 / 0.32, 10, 20])
    assert back.xywh[2] == pytest.approx([8 * 62 / 32, 16 * 61 / 32 - 15, 8 * 62 / 32, 16 * 61 / 32])
    assert found.xywh[0].tolist() == [1, 2, 3, 4]  # untouched


def test_a_box_that_overflowed_stays_without_end() -> None:
    found = Detections(np.array([0]), np.array([[-np.inf, np.nan, np.inf, np.inf]]), np.zeros(1, np.int64), 3, "padded-32", np.ones(1))
    assert original_boxes.mapped_back(found, FRAMES).overflowed.all()


@pytest.fixture
def tested_part(small, tiny):
    job, place = small.one("rsna-yolov3-frozen-100", tiny("original-boxes"))
    switches = job.experiment.switches.model_copy(update={"scored_in": "original"})
    job = job.model_copy(update={"experiment": job.experiment.model_copy(update={"switches": switches})})
    return job, place, load_part(job.experiment, place, "test")


def test_stored_boxes_score_to_the_same_digits_against_the_boxes_of_the_release(tested_part, tmp_path: Path) -> None:
    job, place, part = tested_part
    truth, draw = part.originals.truth(part.labels), np.random.default_rng(3)
    assert np.abs(truth.xywh).max() > 64 == part.cache.recipe.size
    noisy = part.truth().xywh + draw.normal(0, 1, (len(truth.image), 4))
    noisy[:, 2:] = np.abs(noisy[:, 2:])
    found = Detections(
        truth.image, noisy.astype(np.float32).astype(np.float64), truth.label, truth.n_images, part.frame_name, draw.random(len(noisy))
    )
    KIND.store(tmp_path, job, part, found)
    again = KIND.rescore(tmp_path / DETECTIONS_FILE, job, part, place.card)
    frames = part.cache.frames(part.rows)
    by_hand = np.stack([frames[i].to_original(box)[0] for i, box in zip(found.image, found.xywh, strict=True)])
    expected = scores.score_detection(replace(found, xywh=by_hand, frame="original"), truth, place.card.classes)
    assert again.metrics == expected.metrics
    assert fault_of_images(*(ByImage(part.ids, part.patients, each.statistics) for each in (expected, again))) == ""
    assert {"mAP", "AP40_75_full", "coco_AP", "froc", "froc_full", "calibration_error", "lost_at_0.2"} <= again.metrics.keys()
    assert again.statistics.table.frame == "original"
    assert (
        again.metrics != scores.score_detection(found, part.truth(), place.card.classes).metrics
    )  # one pixel added to sides is a smaller one


def test_images_of_the_frames_size_score_as_in_the_frame() -> None:
    """Boxes on whole pixels: those of the frame are kept in single precision."""
    boxes = [np.array([[3.0, 4, 10, 12], [20, 8, 5, 5]]), np.zeros((0, 4))]
    labels = [np.zeros(2, np.int64), np.zeros(0, np.int64)]
    originals = Originals([Frame.of(32, 32, 32)] * 2, boxes, [None] * 2)
    truth = Boxes(np.array([0, 0]), np.concatenate(boxes), np.zeros(2, np.int64), 2, "padded-32")
    found = Detections(
        np.array([0, 0, 1]),
        np.array([[3.5, 4, 9, 12], [21, 9, 4, 5], [1, 1, 5, 5]]),
        np.zeros(3, np.int64),
        2,
        "padded-32",
        np.array([0.9, 0.5, 0.4]),
    )
    mapped = original_boxes.mapped_back(found, originals.frames)
    assert (
        scores.score_detection(mapped, originals.truth(labels), ("mass",)).metrics
        == scores.score_detection(found, truth, ("mass",)).metrics
    )
