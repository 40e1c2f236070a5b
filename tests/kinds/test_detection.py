"""Detection: boxes written and read again are the same boxes, and a file with a row that makes no sense names it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.errors import UsageError
from benchmark.heads import yolov3
from benchmark.kinds.base import Part
from benchmark.kinds.detection import DETECTIONS_FILE, KIND, read_detections
from benchmark.metrics.boxes import Detections
from benchmark.metrics.columns import identical
from benchmark.metrics.scores import score_detection
from benchmark.training.data import load_part


def detections(part: Part) -> Detections:
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


def test_detections_come_back_exactly(detection, write):
    job, part = detection
    given = detections(part)
    folder = write(job, part, given)
    found, ids = read_detections(folder / DETECTIONS_FILE)
    assert ids == part.ids
    assert (found.n_images, found.frame) == (len(part), "padded-64")
    for name in ("image", "xywh", "label", "confidence"):
        assert np.array_equal(getattr(found, name), getattr(given, name)), name


def test_no_detection_at_all_comes_back_as_none(detection, write):
    job, part = detection
    nothing = Detections(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), len(part), part.frame_name, np.zeros(0))
    folder = write(job, part, nothing)
    found, ids = read_detections(folder / DETECTIONS_FILE)
    assert (len(found.xywh), found.n_images, len(ids)) == (0, len(part), len(part))


def test_a_box_that_overflowed_comes_back_and_scores_the_same(detection, write, tmp_path: Path):
    job, part = detection
    given = detections(part)
    given.xywh[4, [0, 2]], given.xywh[7, [1, 3]] = (-math.inf, math.inf), (-math.inf, math.inf)
    given.xywh[9, 0] = 1e30  # large is not infinite
    folder = write(job, part, given)
    name, text = part.kind.export(folder / DETECTIONS_FILE, "task")
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["annotations"]
    assert [k for k, row in enumerate(rows) if row.get("overflowed")] == [4, 7]
    assert rows[4]["bbox"] == [None, given.xywh[4, 1], None, given.xywh[4, 3]]
    (tmp_path / name).write_bytes(text)
    one = score_detection(given, part.truth(), ("opacity",))
    for file in (folder / DETECTIONS_FILE, tmp_path / name):
        found, _ = read_detections(file)
        assert np.array_equal(found.xywh, given.xywh)
        other = score_detection(found, part.truth(), ("opacity",))
        assert one.metrics == other.metrics
        assert identical(one.statistics, other.statistics)


def test_a_detector_whose_boxes_overflow_is_validated_tested_and_stored(small, tiny, tmp_path: Path, monkeypatch):
    """A width logit of 95 from the first step on, as an untrained head on phantoms gave: the released evaluation goes on."""
    made = yolov3.build

    def build(request):
        head = made(request)
        with torch.no_grad():
            head.bbox_head.convs_pred[0].bias[2] = 95.0
        return head

    monkeypatch.setattr(yolov3, "build", build)
    job, place = small.one("rsna-yolov3-frozen-100", tiny(), limit=10, batch_size=4, max_steps=2)
    record = small.fit(job, place, produced=tmp_path / "produced", learning_rate=1e-3)
    assert (record.status, record.failure) == ("ok", None)
    found, _ = read_detections(tmp_path / "produced" / DETECTIONS_FILE)
    assert found.overflowed.any()
    part = load_part(job.experiment, place, "test")
    assert score_detection(found, part.truth(), ("opacity",)).metrics == record.metrics


def test_a_prediction_that_is_not_a_number_cannot_be_written(detection, write):
    job, part = detection
    given = detections(part)
    given.confidence[3] = np.nan
    with pytest.raises(UsageError, match="a confidence is not finite"):
        write(job, part, given)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("bbox", [1, 2, 3], r"annotation 2: bbox is \[1, 2, 3\], expected four numbers"),
        ("bbox", None, "annotation 2: bbox is None"),
        ("bbox", [1, None, 3, 4], r"annotation 2: bbox is \[1, None, 3, 4\]"),  # only a row that says it overflowed may have a null
        ("bbox", [1, 2, 3, "x"], "annotation 2: bbox is"),
        ("score", None, "annotation 2: score is None, expected a number"),
        ("score", [0.5], "annotation 2: score is"),
        ("score", math.nan, "annotation 2: score is nan"),
    ],
)
def test_a_damaged_box_names_its_row(by_hand, field, value, sentence):
    with pytest.raises(UsageError, match=sentence):
        read_detections(by_hand(**{f"annotations__{field}": value}))


def test_a_part_without_a_box_has_no_example(detection):
    _, part = detection
    assert KIND.examples(part, detections(part)) is not None
    nothing = replace(part, boxes=(np.zeros((0, 4), np.float32),) * len(part))
    assert KIND.examples(nothing, detections(nothing)) is None
