"""Predictions in columns are held to what COCO-style JSON is held to, and a damaged file names its row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.errors import FrameMismatch, UsageError
from benchmark.kinds.detection import read_detections
from benchmark.kinds.kit import columnar
from benchmark.kinds.segmentation import encode, read_masks
from benchmark.metrics.boxes import Detections

CLASSES = ("mass", "nodule")
BOXES = {
    "id": ["a", "b"],
    "x": [[1.0], [5.0, 1.0]],
    "y": [[2.0], [6.0, 1.0]],
    "width": [[3.0], [7.0, 1.0]],
    "height": [[4.0], [8.0, 1.0]],
    "confidence": [[0.5], [0.25, 0.125]],
    "class": [[1], [0, 1]],
}
EMPTY, FULL, TWO = b"`0", b"0`0", b"32;"  # codes of 4 x 4: nothing, everything, the fourth and fifth pixel down the columns


@pytest.fixture
def boxes(tmp_path: Path) -> Callable[..., Path]:
    """A file of boxes by hand; a change is a column, or with `header__` before its name a text of the header; None leaves it out."""
    return lambda **changes: written(tmp_path / "boxes.parquet", BOXES, changes)


@pytest.fixture
def masks(tmp_path: Path) -> Callable[..., Path]:
    """The same of masks."""
    return lambda **changes: written(tmp_path / "masks.parquet", {"id": ["a", "b"], "counts": [[EMPTY, TWO], [FULL, EMPTY]]}, changes)


def written(path: Path, columns: dict, changes: dict) -> Path:
    header = {"frame": "padded-4", "classes": json.dumps(CLASSES), "split": "lovt"}
    header |= {name.removeprefix("header__"): value for name, value in changes.items() if name.startswith("header__")}
    columns = {**columns, **{name: value for name, value in changes.items() if not name.startswith("header__")}}
    table = pa.table({name: pa.array(values) for name, values in columns.items() if values is not None})
    pq.write_table(table.replace_schema_metadata({name: text for name, text in header.items() if text is not None}), path)
    return path


def test_a_file_made_by_hand_needs_ids_boxes_frame_and_classes_alone(boxes):
    found, ids = read_detections(boxes())
    assert (ids, found.n_images, found.frame) == (("a", "b"), 2, "padded-4")
    assert found.image.tolist() == [0, 1, 1]
    assert found.xywh.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [1, 1, 1, 1]]
    assert (found.label.tolist(), found.confidence.tolist()) == ([1, 0, 1], [0.5, 0.25, 0.125])
    assert columnar.made_for(boxes()) == ("lovt", "")
    assert columnar.made_for(boxes(header__split=None)) is None


def test_masks_made_by_hand_are_read(masks):
    found, ids, frame = read_masks(masks())
    assert (ids, frame) == (("a", "b"), "padded-4")
    assert found.sum(axis=(2, 3)).tolist() == [[0, 2], [16, 0]]
    assert found[0, 1].T.ravel().tolist() == [False] * 3 + [True] * 2 + [False] * 11


def test_classes_are_matched_by_name_and_never_by_their_place(boxes, masks):
    assert read_detections(boxes(), ("nodule", "mass"))[0].label.tolist() == [0, 1, 0]
    turned = read_masks(masks(), classes=("nodule", "mass"))[0]
    assert np.array_equal(turned, read_masks(masks())[0][:, ::-1])


def test_the_file_is_known_by_what_it_holds_and_not_by_its_name(boxes, tmp_path: Path):
    other = boxes().rename(tmp_path / "predictions.dat")
    assert read_detections(other)[1] == ("a", "b")
    other.rename(tmp_path / "a.parquet").write_text('{"frame": "padded-4"}')
    with pytest.raises(UsageError, match="Is it a whole Parquet file"):
        read_detections(tmp_path / "a.parquet")


def test_a_box_without_end_is_infinite_and_never_no_number(boxes):
    found, _ = read_detections(boxes(x=[[-math.inf], [5.0, 1.0]], width=[[math.inf], [7.0, 1.0]]))
    assert found.overflowed.tolist() == [True, False, False]
    with pytest.raises(UsageError, match=r"row 2 \(b\): its x holds nan, expected a number"):
        read_detections(boxes(x=[[1.0], [5.0, math.nan]]))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"id": None}, "has no column 'id'"),
        ({"id": [1, 2]}, "its column 'id' holds int64, expected a text"),
        ({"id": ["a", None]}, "row 2: its id is missing"),
        ({"width": None}, "has no column 'width'"),
        ({"x": [["1"], ["5", "1"]]}, "its column 'x' holds lists of string, expected a list of numbers"),
        ({"x": [1.0, 5.0]}, "its column 'x' holds double, expected a list of numbers"),
        ({"x": [[1.0], None]}, r"row 2 \(b\): its x is missing"),
        ({"x": [[1.0], [5.0, None]]}, r"row 2 \(b\): a value of its x is missing"),
        ({"y": [[2.0], [6.0]]}, r"row 2 \(b\): 2 values of x and 1 of y"),
        ({"confidence": [[0.5], []]}, r"row 2 \(b\): 2 values of x and 0 of confidence"),
        ({"confidence": [[0.5], [math.inf, 0.1]]}, r"row 2 \(b\): its confidence holds inf, expected a number in \[0, 1\]"),
        ({"confidence": [[math.nan], [0.5, 0.1]]}, r"row 1 \(a\): its confidence holds nan"),
        ({"class": [[1], [0, 2]]}, r"row 2 \(b\): its class holds 2, expected a number from 0 to 1"),
        ({"class": [[-1], [0, 1]]}, r"row 1 \(a\): its class holds -1"),
        ({"class": [[1.0], [0.0, 1.0]]}, "its column 'class' holds float64, expected whole numbers"),
        ({"class": [["mass"], ["mass", "mass"]]}, "its column 'class' holds lists of string"),
    ],
)
def test_damaged_boxes_name_column_and_row(boxes, changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        read_detections(boxes(**changes), CLASSES)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"counts": None}, "has no column 'counts'"),
        ({"counts": [[1, 2], [3, 4]]}, "holds lists of int64, expected a list of byte strings"),
        ({"counts": [[EMPTY, TWO], None]}, r"row 2 \(b\): its counts is missing"),
        ({"counts": [[EMPTY, TWO], [FULL, None]]}, r"row 2 \(b\): a value of its counts is missing"),
        ({"counts": [[EMPTY, TWO], [FULL]]}, r"row 2 \(b\): 1 run-length codes for 2 classes"),
        ({"counts": [[EMPTY, TWO], [FULL, b"32"]]}, r"row 2 \(b\), class nodule: the run-length code ends at pixel 5 of 16"),
        ({"counts": [[EMPTY, TWO], [FULL, b"\xff"]]}, r"row 2 \(b\), class nodule: .* which COCO's code never uses"),
        ({"counts": [[EMPTY, TWO], [FULL, b"o" * 500]]}, "breaks off within a number"),
        ({"counts": [[EMPTY, TWO], [FULL, b""]]}, "is empty"),
    ],
)
def test_damaged_masks_name_row_and_class(masks, changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        read_masks(masks(**changes), classes=CLASSES)


@pytest.mark.parametrize(("make", "read"), [("boxes", read_detections), ("masks", read_masks)])
@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"header__frame": None}, FrameMismatch, "does not say in which frame .*padded-224"),
        ({"header__classes": None}, UsageError, "its header needs `classes`"),
        ({"header__classes": "mass"}, UsageError, "its header needs `classes`"),
        ({"header__classes": "[" * 100_000}, UsageError, "its header needs `classes`"),
        ({"header__classes": "[1, 2]"}, UsageError, "its header needs `classes`"),
        ({"header__classes": '["mass", "mass"]'}, UsageError, "a list of different names"),
        ({"header__classes": '["mass", "lung"]'}, UsageError, "its classes are mass, lung; the task's classes are mass, nodule"),
        ({"header__schema_version": "99"}, UsageError, "written by a newer LOBE"),
    ],
)
def test_a_header_that_says_too_little_is_a_sentence(request, make, read, changes, kind, sentence):
    with pytest.raises(kind, match=sentence):
        read(request.getfixturevalue(make)(**changes), classes=CLASSES)


@pytest.mark.parametrize("frame", ["original", "padded-", "padded-0", "padded-99999", "padded-" + "9" * 5000, "padded-٣"])
def test_masks_need_a_square_frame_that_fits_a_memory(masks, frame):
    with pytest.raises(FrameMismatch, match="padded-224"):
        read_masks(masks(header__frame=frame))


def test_names_of_a_file_are_those_of_its_images_in_either_form(boxes, by_hand):
    assert columnar.names_in(boxes()) == {"a", "b"}
    assert columnar.names_in(by_hand()) >= {"a", "b"}


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path):
    for read in (read_detections, read_masks, columnar.made_for):
        with pytest.raises(UsageError, match=r"Cannot read the predictions .*none\.parquet"):
            read(tmp_path / "none.parquet")


PAGE = Path(__file__).parents[3] / "docs" / "results-format.md"


def test_the_example_of_the_page_is_a_file_that_can_be_scored(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write = PAGE.read_text(encoding="utf-8").split("```python\n")[2].split("```")[0]
    exec(write)
    found, ids = read_detections(tmp_path / "mine.parquet", ("opacity",))
    assert (ids, found.xywh.tolist(), found.confidence.tolist(), found.frame) == (("a", "b"), [[10.5, 20, 30, 40]], [0.9], "padded-224")
    assert columnar.made_for(tmp_path / "mine.parquet") == ("lovt", "")


def test_the_page_names_every_column_and_text_of_the_header_that_is_written(detection, segmentation, write):
    page = PAGE.read_text(encoding="utf-8")
    for (job, part), predictions in ((detection, nothing), (segmentation, lambda part: encode(np.zeros((len(part), 1, 64, 64), bool)))):
        for path in write(job, part, predictions(part)).glob("*.parquet"):
            schema = pq.read_schema(path)
            said = [name.decode() for name in schema.metadata]
            assert [name for name in (*schema.names, *said) if f"`{name}`" not in page] == []


def nothing(part) -> Detections:
    return Detections(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), len(part), part.frame_name, np.zeros(0))


def test_sizes_that_are_no_whole_numbers_are_a_sentence(boxes):
    placed = {column: [1, 2] for column in columnar.PLACED.values()} | {columnar.PLACED["height"]: [1.5, 2.0]}
    with pytest.raises(UsageError, match="sizes and paddings of its images are no whole numbers"):
        columnar.heading_of(boxes(**placed))
