"""Promises of the VinDr-CXR reader, on folders written here in PhysioNet's layout (docs/sources.md, VinDr-CXR)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from sklearn.model_selection import train_test_split

from benchmark import registry
from benchmark.errors import DataError, ImageError, SplitError
from benchmark.readers.base import open_reader
from benchmark.readers.vindr_cxr import LEFT_OUT

CARD = registry.dataset("vindr-cxr")
RULE = CARD.splits["benchx"]
HEIGHT, WIDTH = 40, 60  # wider than high so that a swap shows
TRAIN_HEADER, TEST_HEADER = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max", "image_id,class_name,x_min,y_min,x_max,y_max"
CARDIOMEGALY, NODULE = CARD.classes.index("Cardiomegaly"), CARD.classes.index("Nodule/Mass")


def name_of(number: int) -> str:
    return f"{number:032x}"


A, B, TEST = name_of(1), name_of(2), name_of(100)
NORMAL = tuple(f"R{r},No finding,,,," for r in (8, 9, 10))
READ = ("R8,Cardiomegaly,10,20,30,30", "R9,Cardiomegaly,12,20,32,30", "R9,Nodule/Mass,40.5,2,50.5,8", "R10,Cardiomegaly,14,20,34,30")


def write_dicom(path: Path, pixels: np.ndarray, **header: object) -> None:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid.generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
    for name, value in header.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def write(folder: Path, train: dict[str, tuple[str, ...]], test: dict[str, tuple[str, ...]]) -> Path:
    """A release: label rows by image."""
    (folder / "annotations").mkdir(parents=True)
    pixels = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 4096
    for part, header, images in (("train", TRAIN_HEADER, train), ("test", TEST_HEADER, test)):
        lines = [header, *(f"{name},{row}" for name, rows in images.items() for row in rows)]
        (folder / "annotations" / f"annotations_{part}.csv").write_text("\n".join(lines) + "\n")
        for name in images:
            write_dicom(folder / part / f"{name}.dicom", pixels)
    return folder


def small(folder: Path, *rows: str) -> Path:
    """One abnormal and one normal training image, one test image; `rows` take the place of the abnormal one's."""
    return write(folder, {A: rows or READ, B: NORMAL}, {TEST: ("Nodule/Mass,5,6,15,12", "Nodule/Mass,6,6,16,12")})


def opened(root: Path):
    return open_reader(CARD, root)


# ------------------------------------------------------------------------------------------------------------------ reading


def test_boxes_of_three_readers_become_one_set(tmp_path):
    sample = opened(small(tmp_path)).sample(A)
    assert sample.boxes_xywh.tolist() == [[12, 20, 20, 10], [40.5, 2, 10, 6]]
    assert sample.box_labels.tolist() == [CARDIOMEGALY, NODULE]
    assert (sample.positive, sample.patient_id) == (True, None)


def test_consensus_boxes_of_the_test_set_are_taken_as_they_are(tmp_path):
    sample = opened(small(tmp_path)).sample(TEST)
    assert sample.boxes_xywh.tolist() == [[5, 6, 10, 6], [6, 6, 10, 6]]


def test_boxes_of_other_classes_are_never_fused(tmp_path):
    rows = ("R8,Cardiomegaly,10,20,30,30", "R9,Nodule/Mass,10,20,30,30", "R10,ILD,10,20,30,30")
    assert len(opened(small(tmp_path, *rows)).sample(A).boxes_xywh) == 3


def test_masks_are_the_fused_boxes_filled_by_class(tmp_path):
    sample = opened(small(tmp_path)).sample(A)
    masks = sample.masks(sample.image().shape)
    assert masks.shape == (14, HEIGHT, WIDTH)
    assert masks[CARDIOMEGALY, 20:30, 12:32].all()
    assert masks[CARDIOMEGALY].sum() == 20 * 10
    assert masks.any(axis=(1, 2)).sum() == 2


def test_an_image_without_findings_is_a_negative(tmp_path):
    sample = opened(small(tmp_path)).sample(B)
    assert (sample.positive, sample.boxes_xywh.shape) == (False, (0, 4))
    assert not sample.masks((HEIGHT, WIDTH)).any()


def test_images_keep_the_order_of_the_tables(tmp_path):
    assert opened(small(tmp_path)).ids == (A, B, TEST)


def test_columns_are_read_by_name(tmp_path):
    root = small(tmp_path)
    before = opened(root).sample(A).boxes_xywh
    path = root / "annotations" / "annotations_train.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("".join(",".join([*row[::-1], "more"]) + "\n" for row in rows))
    assert np.array_equal(opened(root).sample(A).boxes_xywh, before)


def test_the_order_of_rows_does_not_change_boxes(tmp_path):
    one, other = opened(small(tmp_path / "one")), opened(small(tmp_path / "other", *READ[::-1]))
    assert np.array_equal(one.sample(A).boxes_xywh, other.sample(A).boxes_xywh)


def test_a_repeated_row_counts_once_and_is_named(tmp_path):
    reader = opened(small(tmp_path, *READ, READ[2]))
    assert len(reader.sample(A).boxes_xywh) == 2
    line = next(c for c in reader.checks() if c.what == "label rows that repeat another")
    assert (line.found, line.verdict) == ("1", "warning")


def test_rare_local_labels_are_left_out_and_counted(tmp_path):
    rows = (*READ, "R8,Rib fracture,1,1,5,5", "R10,Edema,1,1,5,5")
    reader = opened(small(tmp_path, *rows))
    assert len(reader.sample(A).boxes_xywh) == 2
    line = next(c for c in reader.checks() if c.what == "boxes of classes that are not scored")
    assert (line.found, line.verdict) == ("2", "ok")
    assert not LEFT_OUT & set(CARD.classes)
    assert len(LEFT_OUT | set(CARD.classes)) == 22


def test_an_image_with_rare_labels_only_is_no_positive_but_abnormal_to_the_split(tmp_path):
    train = {name_of(k): tuple(f"R{r},Edema,1,1,5,5" for r in (1, 2, 3)) if k % 2 else NORMAL for k in range(1, 21)}
    reader = opened(write(tmp_path, train, {TEST: ("No finding,,,,",)}))
    assert not any(reader.sample(i).positive for i in reader.ids)
    assert [int(i, 16) % 2 for i in reader.split(RULE)["validation"]].count(1) == 2


def test_inverted_and_windowed_files_give_brighter_for_larger(tmp_path):
    root = small(tmp_path)
    ramp = np.tile(np.arange(WIDTH) * 60, (HEIGHT, 1))
    write_dicom(root / "train" / f"{A}.dicom", ramp, PhotometricInterpretation="MONOCHROME1", WindowCenter=1800.0, WindowWidth=1000.0)
    image = opened(root).sample(A).image()
    assert image.dtype == np.uint16
    assert image[0, 0] == 65535
    assert image[0, -1] == 0
    assert (np.diff(image[0].astype(int)) <= 0).all()
    assert (image[0] == 65535).sum() > 10  # the window clips


# ------------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("rows", "sentences"),
    [
        (("R8,Pneumonitis,1,1,5,5",), ["line 2", "class 'Pneumonitis'", "Cardiomegaly"]),
        (("R8,cardiomegaly,1,1,5,5",), ["class 'cardiomegaly'"]),
        (("R8,Cardiomegaly,5,1,1,5",), ["not x_min < x_max"]),
        (("R8,Cardiomegaly,1,5,5,5",), ["y_min < y_max"]),
        (("R8,Cardiomegaly,-1,1,5,5",), ["starts outside the image"]),
        (("R8,Cardiomegaly,1,1,5,nan",), ["four finite numbers"]),
        (("R8,Cardiomegaly,1,1,5,five",), ["four numbers"]),
        (("R8,Cardiomegaly,,,,",), ["four numbers"]),
        (("R8,No finding,1,1,5,5",), ["with coordinates 1, 1, 5, 5"]),
        ((",Cardiomegaly,1,1,5,5",), ["rad_id is empty"]),
        (("R8,Cardiomegaly,1,1,5",), ["6 cells, expected 7"]),
        (("R8,No finding,,,,", "R8,Cardiomegaly,1,1,5,5"), ["line 3", "reader R8 says 'No finding' and a finding", "line 2"]),
        (("R8,Cardiomegaly,1,1,5,5", "R8,No finding,,,,"), ["line 3", "reader R8 says"]),
    ],
)
def test_a_damaged_label_row_is_an_error_with_file_and_line(tmp_path, rows, sentences):
    with pytest.raises(DataError) as caught:
        opened(small(tmp_path, *rows))
    assert "annotations_train.csv" in str(caught.value)
    assert [s for s in sentences if s not in str(caught.value)] == []


def test_another_reader_may_find_nothing(tmp_path):
    reader = opened(small(tmp_path, "R8,No finding,,,,", "R9,Cardiomegaly,1,1,5,5", "R10,No finding,,,,"))
    assert reader.sample(A).boxes_xywh.tolist() == [[1, 1, 4, 4]]


def test_a_consensus_that_contradicts_itself_is_an_error(tmp_path):
    with pytest.raises(DataError, match="the consensus says 'No finding' and a finding"):
        opened(write(tmp_path, {A: NORMAL}, {TEST: ("No finding,,,,", "ILD,1,1,5,5")}))


def test_an_image_in_both_tables_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"annotations_test\.csv line 2: the image is also in annotations/annotations_train\.csv, line 2"):
        opened(write(tmp_path, {A: NORMAL}, {A: ("No finding,,,,",)}))


@pytest.mark.parametrize("name", ["a", "", "G" * 32, "0" * 31, "0" * 33])
def test_a_name_that_is_no_id_is_an_error(tmp_path, name):
    with pytest.raises(DataError, match="32 hexadecimal digits"):
        opened(write(tmp_path, {name: NORMAL}, {TEST: ("No finding,,,,",)}))


@pytest.mark.parametrize(
    "header", ["image_id,class_name,x_min,y_min,x_max,y_max", TRAIN_HEADER + ",rad_id", TRAIN_HEADER.replace("x_max", "w")]
)
def test_other_columns_are_an_error_naming_the_expected(tmp_path, header):
    root = small(tmp_path)
    path = root / "annotations" / "annotations_train.csv"
    path.write_text(path.read_text().replace(TRAIN_HEADER, header))
    with pytest.raises(DataError, match=r"does not have one column .* Expected image_id, class_name, x_min, y_min, x_max, y_max, rad_id"):
        opened(root)


def test_a_missing_image_is_an_error_without_its_id(tmp_path):
    root = small(tmp_path)
    (root / "train" / f"{A}.dicom").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images listed in annotations/annotations_train\.csv") as caught:
        opened(root)
    assert A not in str(caught.value)


def test_an_image_that_exists_twice_is_an_error(tmp_path):
    root = small(tmp_path)
    (root / "train" / "copy").mkdir()
    shutil.copy(root / "train" / f"{A}.dicom", root / "train" / "copy")
    with pytest.raises(DataError, match="1 of 2 images exist twice") as caught:
        opened(root)
    assert A not in str(caught.value)


def test_an_image_without_a_row_is_left_out_with_a_warning(tmp_path):
    root = small(tmp_path)
    shutil.copy(root / "train" / f"{A}.dicom", root / "train" / f"{name_of(9)}.dicom")
    reader = opened(root)
    assert name_of(9) not in reader.ids
    assert "1 images in train have no row" in reader.warnings[0]


@pytest.mark.parametrize(
    ("row", "fits"), [("R8,ILD,1,1,60,40", True), ("R8,ILD,1,1,61,40", True), ("R8,ILD,1,1,62,40", False), ("R8,Edema,1,1,60,42", False)]
)
def test_a_box_outside_its_image_stops_that_image_and_shows_in_verify(tmp_path, row, fits):
    reader = opened(small(tmp_path, row, "R9,No finding,,,,", "R10,No finding,,,,"))
    line = next(c for c in reader.checks() if c.what == "images with a box that leaves them")
    assert line.verdict == ("ok" if fits else "error")
    if fits:
        reader.sample(A).image()
        return
    for read in (reader.sample(A).image, lambda: reader.sample(A).masks((HEIGHT, WIDTH))):
        with pytest.raises(ImageError, match=r"box .* leaves the image of 40 rows x 60 columns, .* line 2"):
            read()
    assert reader.sample(B).image().shape == (HEIGHT, WIDTH)


def test_a_mean_of_boxes_does_not_hide_one_that_leaves_the_image(tmp_path):
    reader = opened(small(tmp_path, "R8,ILD,1,1,63,40", "R9,ILD,1,1,50,40", "R10,ILD,1,1,50,40"))
    assert reader.sample(A).boxes_xywh[0, :1] + reader.sample(A).boxes_xywh[0, 2:3] < WIDTH
    with pytest.raises(ImageError, match="leaves the image"):
        reader.sample(A).image()


def test_an_unknown_id_is_an_error(tmp_path):
    with pytest.raises(DataError, match="not among the 3 images"):
        opened(small(tmp_path)).sample(name_of(77))


def test_the_kaggle_variant_is_refused_by_name(tmp_path):
    (tmp_path / "train.csv").write_text("image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n")
    with pytest.raises(DataError, match=r"Kaggle variant .* whose test images have no labels"):
        opened(tmp_path)


def test_a_missing_table_says_what_is_expected(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"annotations/annotations_train\.csv or .* is missing"):
        opened(tmp_path)


# --------------------------------------------------------------------------------------------------------- splits and verify


def many(folder: Path, n: int = 20) -> Path:
    """Training images in falling order of their ids, every fourth abnormal."""
    return write(folder, {name_of(k): READ if k % 4 == 0 else NORMAL for k in range(n, 0, -1)}, {TEST: ("No finding,,,,",)})


def test_the_split_is_the_official_test_set_and_a_stratified_holdout_of_sorted_ids(tmp_path):
    splits = opened(many(tmp_path)).split(RULE)
    ids = [name_of(k) for k in range(1, 21)]
    train, validation = train_test_split(ids, test_size=4, stratify=[k % 4 == 0 for k in range(1, 21)], random_state=42)
    assert splits == {"train": tuple(train), "validation": tuple(validation), "test": (TEST,)}
    assert sum(int(i, 16) % 4 == 0 for i in validation) == 1


def test_too_few_images_of_a_kind_are_an_error_with_the_numbers(tmp_path):
    with pytest.raises(SplitError, match=r"too few training images \(1 normal, 1 with a finding\)"):
        opened(small(tmp_path)).split(RULE)


def test_another_rule_is_refused(tmp_path):
    with pytest.raises(SplitError, match="official test, stratified holdout"):
        opened(many(tmp_path)).split(RULE.model_copy(update={"rule": "permutation"}))


def test_verify_of_an_incomplete_release_shows_counts_as_errors_and_doubtful_digests_as_warnings(tmp_path):
    verification = opened(many(tmp_path)).verify()
    lines = {c.what: c for c in verification.checks}
    assert not verification.ok
    assert (lines["train images"].expected, lines["train images"].found, lines["train images"].verdict) == ("15,000", "20", "error")
    assert lines["benchx train: images"].verdict == "error"
    assert lines["benchx train: ids"].verdict == "warning"
    assert "not known" in lines["benchx train: ids"].hint
    assert lines["benchx test: ids"].verdict == "error"  # the official list: no rule to doubt


def test_an_image_that_not_three_read_is_an_error_in_verify(tmp_path):
    reader = opened(small(tmp_path, *READ[:3]))
    line = next(c for c in reader.checks() if c.what == "training images not read by 3 readers")
    assert (line.found, line.verdict) == ("1", "error")


def test_verify_of_a_phantom_compares_with_its_own_file(tmp_path):
    root = small(tmp_path)
    manifest = {"counts": {"images": 3, "box_rows": 6, "positives": 2, "train_readers": 3}}
    (root / "PHANTOM.json").write_text(json.dumps(manifest))
    verification = opened(root).verify()
    assert verification.ok
    assert verification.phantom
    manifest["counts"]["box_rows"] = 7
    (root / "PHANTOM.json").write_text(json.dumps(manifest))
    assert next(c for c in opened(root).verify().checks if c.what == "box rows").verdict == "error"


def test_the_agreement_lets_nothing_out():
    assert CARD.redistribution == "none"
