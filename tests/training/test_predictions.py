"""Predictions written and read again are the predictions, with their frame and their images."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.errors import FrameMismatch, UsageError
from benchmark.heads import yolov3
from benchmark.imaging.geometry import Frame
from benchmark.metrics.boxes import Detections
from benchmark.metrics.scores import score_detection
from benchmark.training import data, evaluate, predictions


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
    predictions.write(folder, job, part, evaluate.Tested({}, {"values": [1]}, masks, found, ()), with_examples=with_examples)


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


def test_a_box_that_overflowed_comes_back_and_scores_the_same(detection, tmp_path: Path):
    job, part = detection
    given = detections(part)
    given.xywh[4, [0, 2]], given.xywh[7, [1, 3]] = (-math.inf, math.inf), (-math.inf, math.inf)
    given.xywh[9, 0] = 1e30  # large is not infinite
    write(tmp_path, job, part, found=given)
    text = (tmp_path / predictions.DETECTIONS_FILE).read_text()
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["annotations"]
    assert [k for k, row in enumerate(rows) if row.get("overflowed")] == [4, 7]
    assert rows[4]["bbox"] == [None, given.xywh[4, 1], None, given.xywh[4, 3]]
    found, _ = predictions.read_detections(tmp_path / predictions.DETECTIONS_FILE)
    assert np.array_equal(found.xywh, given.xywh)
    one, other = (score_detection(each, part.truth(), ("opacity",)) for each in (given, found))
    assert (one.metrics, one.statistics) == (other.metrics, other.statistics)
    json.dumps(one.statistics, allow_nan=False)


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
    found, _ = predictions.read_detections(tmp_path / "produced" / predictions.DETECTIONS_FILE)
    assert found.overflowed.any()
    part = data.load_part(job.experiment, place, "test")
    assert score_detection(found, part.truth(), ("opacity",)).metrics == record.metrics


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
        assert np.array_equal(example.box_labels, part.labels[example.index])
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


# A predictions file made by hand: two images, two classes, one box and one mask each.
def by_hand(folder: Path, **changes) -> Path:
    rows = [
        {"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, "segmentation": {"size": [4, 4], "counts": [3, 2, 11]}},
        {"image_id": 9, "category_id": 1, "bbox": [5, 6, 7, 8], "score": 0.25, "segmentation": {"size": [4, 4], "counts": [0, 16]}},
    ]
    content = {
        "frame": "padded-4",
        "images": [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}],
        "categories": [{"id": 1, "name": "mass"}, {"id": 2, "name": "nodule"}],
        "annotations": rows,
    }
    for place, value in changes.items():
        table, _, field = place.partition("__")
        if field:
            content[table][1][field] = value
        else:
            content[table] = value
    path = folder / "by-hand.json"
    path.write_text(json.dumps(content))
    return path


def test_classes_are_matched_by_name_and_never_by_their_place_in_the_file(tmp_path: Path):
    path = by_hand(tmp_path)
    assert predictions.read_detections(path)[0].label.tolist() == [1, 0]
    assert predictions.read_detections(path, ("nodule", "mass"))[0].label.tolist() == [0, 1]
    as_listed, turned = predictions.read_masks(path)[0], predictions.read_masks(path, classes=("nodule", "mass"))[0]
    assert as_listed.sum(axis=(2, 3)).tolist() == [[0, 2], [16, 0]]
    assert np.array_equal(turned, as_listed[:, ::-1])


@pytest.mark.parametrize("read", [predictions.read_detections, predictions.read_masks])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"annotations": None}, "no list `annotations`"),
        ({"images": {}}, "no list `images`"),
        ({"categories": "x"}, "no list `categories`"),
        ({"images__id": 7}, r"row 2 of its table `images` \(b\) has id 7, which row 1 has"),
        ({"images__name": None}, 'row 2 of its table `images` needs an "id" and the "name"'),
        ({"categories__id": 1}, "an id stands twice in its table `categories`"),
        ({"categories__name": 4}, "a row of its table `categories` lacks"),
        ({"categories__name": "effusion"}, "its categories are mass, effusion; the task's classes are mass, nodule"),
        ({"annotations__image_id": 8}, "annotation 2: image_id 8 is not in its table `images`"),
        ({"annotations__image_id": [7]}, r"annotation 2: image_id \[7\] is not"),
        ({"annotations__category_id": 3}, "annotation 2: category_id 3 is not in its table `categories`"),
        ({"annotations": ["x"]}, "annotation 1: found str"),
    ],
)
def test_a_damaged_file_names_its_row(tmp_path: Path, read, changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        read(by_hand(tmp_path, **changes), classes=("mass", "nodule"))


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
def test_a_damaged_box_names_its_row(tmp_path: Path, field, value, sentence):
    with pytest.raises(UsageError, match=sentence):
        predictions.read_detections(by_hand(tmp_path, **{f"annotations__{field}": value}))


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
def test_a_damaged_mask_names_its_row(tmp_path: Path, changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        predictions.read_masks(by_hand(tmp_path, **changes))


def test_a_second_mask_of_an_image_and_class_names_both_rows(tmp_path: Path):
    path = by_hand(tmp_path, annotations__image_id=7, annotations__category_id=2)
    with pytest.raises(UsageError, match=r"annotation 2 \(a\): a second mask of category 2, first in annotation 1"):
        predictions.read_masks(path)


@pytest.mark.parametrize("frame", ["original", "padded-", "padded-0", 224])
def test_masks_need_a_square_frame(tmp_path: Path, frame):
    with pytest.raises(FrameMismatch, match="padded-224"):
        predictions.read_masks(by_hand(tmp_path, frame=frame))
