"""Promises of the Object-CXR reader, on folders written here in the public layout and on LoVT's committed lists where they are present."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from sklearn.model_selection import train_test_split

from benchmark import registry
from benchmark.errors import DataError, ImageError, SplitError, TooFewImages
from benchmark.readers.base import SPLITS, ids_digest, open_reader
from benchmark.readers.kit.shapes import parse_annotation, released_masks, true_masks
from benchmark.readers.kit.splits import check_digests, lovt_csv

CARD = registry.dataset("object-cxr")
RULE = CARD.splits["lovt"]
LOVT = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "lovt_splits" / "object-cxr"

HEIGHT, WIDTH = 40, 60
RECTANGLE, ELLIPSE, POLYGON = "0 5 10 25 16", "1 30 4 50 14", "2 10 20 40 20 10 35"


def write(folder: Path, train: dict[str, str], dev: dict[str, str], header: str = "image_name", test: dict[str, str] | None = None) -> Path:
    """A release: annotation by image number, JPEGs of 40 x 60 pixels, wider than high so that a swap shows."""
    for part, rows in (("train", train), ("dev", dev), ("test", test)):
        if rows is None:
            continue
        (folder / part).mkdir(parents=True)
        lines = [f"{part + '/' if part == 'test' else ''}{number}.jpg,{annotation}" for number, annotation in rows.items()]
        column = "image_path" if part == "test" else header
        (folder / f"{part}.csv").write_text("\n".join([f"{column},annotation", *lines]) + "\n", encoding="utf-8")
        for k, number in enumerate(rows):
            PIL.Image.new("L", (WIDTH, HEIGHT), 40 + k).save(folder / part / f"{number}.jpg")
    return folder


def small(folder: Path, **changes: str) -> Path:
    rows = {f"{k:05d}": "" for k in range(1, 11)}
    rows |= {"00001": f"{RECTANGLE};{ELLIPSE};{POLYGON}", "00003": ELLIPSE} | changes
    return write(folder, rows, {"08001": RECTANGLE, "08002": ""})


# ---------------------------------------------------------------------------------------------------------------- annotations


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("3 1 2 3 4", "kind 3; expected 0"),
        ("0 1 2 3", "rectangle with 3 numbers"),
        ("1 1 2 3 4 5", "ellipse with 5 numbers"),
        ("0 1.5 2 3 4", "not a list of whole numbers"),
        ("0 9 2 3 4", "not x1 < x2"),
        ("0 1 2 3 2", "not x1 < x2 and y1 < y2"),
        ("2 1 1 5 5 9", "polygon of 5 numbers"),
        ("2 1 1 5 5", "polygon of 4 numbers"),
        ("2 1 1 5 1 9 1", "the polygon has no area"),
        ("0 1 2 3 4;", "object 2: '' is not a list"),
    ],
)
def test_a_malformed_annotation_names_file_and_line(tmp_path, text, sentence):
    small(tmp_path, **{"00002": text})
    with pytest.raises(DataError) as caught:
        open_reader(CARD, tmp_path)
    assert "train.csv line 3 (00002), object" in str(caught.value)
    assert sentence in str(caught.value)


# ----------------------------------------------------------------------------------------------------------------- the reader


@pytest.mark.parametrize(("shapes", "box"), [("true", [5, 10, 20, 6]), ("released", [5, 10, 6, 20])])
def test_a_sample_has_image_boxes_and_masks_of_the_asked_reading(tmp_path, shapes, box):
    reader = open_reader(CARD, small(tmp_path), shapes)
    sample = reader.sample("00001")
    image = sample.image()
    assert image.shape == (HEIGHT, WIDTH)
    assert image.dtype == np.uint8
    assert sample.boxes_xywh[0].tolist() == box
    assert sample.box_labels.tolist() == [0, 0, 0]
    expected = true_masks if shapes == "true" else released_masks
    drawn = sample.masks(image.shape)
    assert drawn.shape == (1, HEIGHT, WIDTH)
    assert drawn.dtype == bool
    assert np.array_equal(drawn, expected(parse_annotation(f"{RECTANGLE};{ELLIPSE};{POLYGON}"), image.shape))
    assert sample.files == (tmp_path / "train" / "00001.jpg",)
    assert sample.patient_id is None


def test_images_without_objects_stay_as_negatives(tmp_path):
    reader = open_reader(CARD, small(tmp_path))
    sample = reader.sample("00002")
    assert sample.boxes_xywh.shape == (0, 4)
    assert not sample.masks((HEIGHT, WIDTH)).any()
    assert {i for i in reader.ids if reader.sample(i).positive} == {"00001", "00003", "08001"}


def test_colour_files_are_read_as_grey(tmp_path):
    small(tmp_path)
    PIL.Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(tmp_path / "train" / "00002.jpg")
    assert (open_reader(CARD, tmp_path).sample("00002").image() == 90).all()


def test_ids_follow_the_files(tmp_path):
    reader = open_reader(CARD, small(tmp_path))
    assert reader.ids == (*tuple(f"{k:05d}" for k in range(1, 11)), "08001", "08002")


@pytest.mark.parametrize(("place", "release"), [("", "original train and dev files"), ("input", "LoVT's layout (input folder)")])
def test_known_layouts_are_recognised(tmp_path, place, release):
    small(tmp_path / place)
    assert open_reader(CARD, tmp_path).release == release


def test_the_mirror_with_test_set_is_recognised_and_its_path_column_read(tmp_path):
    rows = {f"{k:05d}": "" for k in range(1, 6)}
    write(tmp_path, rows, {"08001": ""}, header="image_path", test={"09001": ELLIPSE})
    reader = open_reader(CARD, tmp_path)
    assert reader.release == "Kaggle mirror with test.csv"
    assert reader.ids[-1] == "09001"
    assert len(reader.sample("09001").boxes_xywh) == 1
    assert "09001" not in {i for ids in reader.split(RULE).values() for i in ids}


def test_a_missing_table_says_what_is_expected(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"train\.csv is missing"):
        open_reader(CARD, tmp_path)


def test_a_missing_dev_table_is_named(tmp_path):
    small(tmp_path)
    (tmp_path / "dev.csv").unlink()
    with pytest.raises(DataError, match=r"dev\.csv is missing"):
        open_reader(CARD, tmp_path)


def test_other_columns_are_refused(tmp_path):
    small(tmp_path)
    (tmp_path / "train.csv").write_text("image,boxes\n00001.jpg,\n")
    with pytest.raises(DataError, match="expected image_name"):
        open_reader(CARD, tmp_path)


def test_a_label_row_without_image_names_the_image(tmp_path):
    small(tmp_path)
    (tmp_path / "train" / "00004.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 10 images listed in train\.csv .* 00004"):
        open_reader(CARD, tmp_path)


def test_an_image_without_label_row_is_left_out_with_a_warning(tmp_path):
    small(tmp_path)
    shutil.copy(tmp_path / "train" / "00001.jpg", tmp_path / "train" / "00099.jpg")
    reader = open_reader(CARD, tmp_path)
    assert "00099" not in reader.ids
    assert any("1 images in train have no row" in warning for warning in reader.warnings)
    line = next(c for c in reader.verify().checks if c.what == "images without a label row")
    assert (line.found, line.verdict) == ("1", "error")


@pytest.mark.parametrize(("part", "where"), [("train", "line 12"), ("dev", "line 4")])
def test_a_repeated_image_names_both_rows(tmp_path, part, where):
    small(tmp_path)
    with (tmp_path / f"{part}.csv").open("a") as handle:
        handle.write("00001.jpg,\n")
    with pytest.raises(DataError, match=rf"{part}\.csv {where} \(00001\): the image is already listed in train\.csv line 2"):
        open_reader(CARD, tmp_path)


def test_a_row_without_an_image_name_is_named_by_its_line(tmp_path):
    table = small(tmp_path) / "dev.csv"
    table.write_text(table.read_text().replace("08002.jpg", " "))
    with pytest.raises(DataError, match=r"dev\.csv line 3 \(no image name\): the image name is empty"):
        open_reader(CARD, tmp_path)


def test_an_object_wholly_outside_its_image_stops_that_sample_only(tmp_path):
    small(tmp_path, **{"00002": "0 500 10 520 20"})
    reader = open_reader(CARD, tmp_path)
    with pytest.raises(ImageError, match=r"object 1 of 00002 .* outside the image of 40 rows x 60 columns, train\.csv line 3"):
        reader.sample("00002").masks((HEIGHT, WIDTH))
    assert reader.sample("00001").masks((HEIGHT, WIDTH)).any()


def test_a_resized_copy_shows_in_verify(tmp_path):
    small(tmp_path, **{"00002": "0 10 10 200 200"})
    lines = {c.what: c for c in open_reader(CARD, tmp_path).checks()}
    assert (lines["boxes that end outside the image"].found, lines["boxes that end outside the image"].verdict) == ("1 of 6", "error")
    small(tmp_path / "whole")
    lines = {c.what: c for c in open_reader(CARD, tmp_path / "whole").checks()}
    assert lines["boxes that end outside the image"].verdict == "ok"


def test_a_cut_off_jpeg_names_file_and_id(tmp_path):
    small(tmp_path)
    path = tmp_path / "train" / "00005.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ImageError, match="00005"):
        open_reader(CARD, tmp_path).sample("00005").image()


# --------------------------------------------------------------------------------------------------------- splits and verify


def test_the_rule_on_the_published_file_names_gives_lovts_lists_by_digest():
    """No file is needed: ids are 00001 to 09000 in order (docs/sources.md, Object-CXR)."""
    train = [f"{k:05d}" for k in range(1, 8001)]
    training, validation = train_test_split(train, test_size=RULE.validation_share, random_state=RULE.seed)
    splits = {"train": tuple(training), "validation": tuple(validation), "test": tuple(f"{k:05d}" for k in range(8001, 9001))}
    checks = check_digests(splits, RULE.expected)
    assert len(checks) == 9
    assert all(c.verdict == "ok" for c in checks)


def test_the_rule_on_the_published_file_names_gives_mgcas_lists_by_digest():
    """MGCA's digests were computed for rows in file-name order; positives need the label file and are not checked here."""
    rule = registry.dataset("object-cxr-plain").splits["mgca"]
    assert rule.rule == RULE.rule
    train = [f"{k:05d}" for k in range(1, 8001)]
    training, validation = train_test_split(train, test_size=rule.validation_share, random_state=rule.seed)
    splits = {"train": tuple(training), "validation": tuple(validation), "test": tuple(f"{k:05d}" for k in range(8001, 9001))}
    checks = check_digests(splits, rule.expected)
    assert len(checks) == 6
    assert all(c.verdict == "ok" for c in checks)


def test_the_reader_applies_that_rule_to_the_rows_in_file_order(tmp_path):
    reader = open_reader(CARD, small(tmp_path))
    splits = reader.split(RULE)
    order = np.random.RandomState(123).permutation(10)
    names = np.array([f"{k:05d}" for k in range(1, 11)])
    assert splits["validation"] == tuple(names[order[:2]])
    assert splits["train"] == tuple(names[order[2:]])
    assert splits["test"] == ("08001", "08002")


def test_too_few_images_to_split_is_an_error_with_the_number(tmp_path):
    write(tmp_path, {"00001": ""}, {"08001": ""})
    with pytest.raises(TooFewImages, match="lists 1 images"):
        open_reader(CARD, tmp_path).split(RULE)


def test_another_rule_is_refused(tmp_path):
    with pytest.raises(SplitError, match="train-file-holdout"):
        open_reader(CARD, small(tmp_path)).split(RULE.model_copy(update={"rule": "permutation"}))


def test_verify_of_an_incomplete_release_shows_counts_and_digests_as_errors(tmp_path):
    verification = open_reader(CARD, small(tmp_path)).verify()
    lines = {c.what: c for c in verification.checks}
    assert not verification.ok
    assert not verification.phantom
    assert (lines["train images"].expected, lines["train images"].found, lines["train images"].verdict) == ("8,000", "10", "error")
    assert lines["lovt train: order of ids"].verdict == "error"
    assert "test images" not in lines  # only the mirror has them


def test_verify_of_a_phantom_compares_with_its_own_file(tmp_path):
    small(tmp_path)
    reader = open_reader(CARD, tmp_path)
    manifest = {
        "counts": {"images": 12, "boxes": 5, "positives": 3},
        "digests": {"ids_sha256_ordered": ids_digest(reader.ids, ordered=True)},
    }
    (tmp_path / "PHANTOM.json").write_text(json.dumps(manifest))
    verification = open_reader(CARD, tmp_path).verify()
    assert verification.ok
    assert verification.phantom
    manifest["counts"]["boxes"] = 6
    (tmp_path / "PHANTOM.json").write_text(json.dumps(manifest))
    lines = {c.what: c for c in open_reader(CARD, tmp_path).verify().checks}
    assert (lines["boxes"].expected, lines["boxes"].found, lines["boxes"].verdict) == ("6", "5", "error")


@pytest.mark.skipif(not LOVT.is_dir(), reason="LoVT's committed lists are not beside the checkout")
def test_committed_lists_come_back_from_annotations_rebuilt_from_them(tmp_path):
    """Rectangles are rebuilt from LoVT's swapped boxes; `released` must give the committed numbers back, in the committed order."""
    lists = lovt_csv(LOVT)
    rebuilt = {}
    for sample_id, boxes in lists.boxes_xywh.items():
        corners = [(int(x), int(y), int(x + third), int(y + fourth)) for x, y, fourth, third in boxes]
        rebuilt[sample_id] = ";".join(f"0 {' '.join(map(str, c))}" for c in corners)
    for part, first, last in (("train", 1, 8000), ("dev", 8001, 9000)):
        (tmp_path / part).mkdir()
        names = [f"{k:05d}" for k in range(first, last + 1)]
        for name in names:
            (tmp_path / part / f"{name}.jpg").touch()
        with (tmp_path / f"{part}.csv").open("w", newline="") as handle:
            csv.writer(handle).writerows([("image_name", "annotation"), *((f"{n}.jpg", rebuilt[n]) for n in names)])
    reader = open_reader(CARD, tmp_path)
    assert reader.split(RULE) == lists.splits
    for sample_id, boxes in lists.boxes_xywh.items():
        assert np.array_equal(reader.sample(sample_id).boxes_xywh, boxes)
    lines = {c.what: c for c in reader.checks()}
    # The image files are empty here; everything else is as in the release.
    assert {what for what, c in lines.items() if c.verdict == "error"} == {"boxes that end outside the image", "first image with a finding"}
    assert [lines[f"lovt {split}: boxes"].found for split in SPLITS] == ["6,506", "1,717", "1,015"]
    assert (lines["boxes that start outside the image"].found, lines["boxes that start outside the image"].verdict) == ("16", "warning")
