"""Promises of the Chest ImaGenome reader: corners by name, places by the card, images where MIMIC-CXR lies, and nobody named."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError
from benchmark.readers.base import open_reader

CARD = registry.dataset("chest-imagenome")
ONE, TWO = "0a1b2c3d-00000000-00000000-00000000-00000001", "0a1b2c3d-00000000-00000000-00000000-00000002"
HEADER = "image_id,bbox_name,original_x1,original_x2,original_y1,original_y2"
HEART, LUNG = CARD.classes.index("cardiac silhouette"), CARD.classes.index("right lung")


def path_of(dicom: str, subject: int = 10000001) -> str:
    return f"files/p10/p{subject}/s50000001/{dicom}"


def write(root: Path, rows=None, records=None, size=(300, 200)) -> Path:
    base = root / "chest-imagenome" / "1.0.0"
    rows = [f"{ONE}.dcm,right lung,20,120,30,180", f"{ONE}.dcm,cardiac silhouette,110,210,90,190"] if rows is None else rows
    records = [(ONE, path_of(ONE)), (TWO, path_of(TWO, 10000002))] if records is None else records
    (base / "gold_dataset").mkdir(parents=True)
    (base / "utils").mkdir()
    (base / "gold_dataset" / "gold_bbox_coordinate_annotations_1000images.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    listed = [f"10000001,50000001,{dicom},{path}.dcm,PA" for dicom, path in records]
    (base / "utils" / "cxr-record-list_view.csv").write_text("\n".join(["subject_id,study_id,dicom_id,path,ViewPosition", *listed]) + "\n")
    for _, path in records:
        place = root / "mimic-cxr-jpg" / "2.0.0" / f"{path}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", size, 90).save(place)
    return root


def opened(root: Path):
    return open_reader(CARD, root)


def test_corners_are_read_by_name_not_by_place(tmp_path: Path) -> None:
    sample = opened(write(tmp_path)).sample(ONE)
    assert sample.boxes_xywh.tolist() == [[20, 30, 100, 150], [110, 90, 100, 100]]
    assert sample.box_labels.tolist() == [LUNG, HEART]
    assert (sample.patient_id, sample.positive) == ("10000001", True)
    masks = sample.masks((200, 300))
    assert masks[HEART, 100, 150]
    assert not masks[HEART, 100, 100]


def test_only_images_of_the_gold_table_are_read(tmp_path: Path) -> None:
    reader = opened(write(tmp_path))
    assert reader.ids == (ONE,)


def test_places_that_the_card_does_not_name_and_repeated_rows_are_counted(tmp_path: Path) -> None:
    rows = [f"{ONE}.dcm,right lung,20,120,30,180"] * 2 + [f"{ONE}.dcm,left arm,1,2,3,4"]
    reader = opened(write(tmp_path, rows))
    lines = {check.what: check for check in reader.checks()}
    assert reader.n_boxes(ONE) == 1
    assert (lines["rows that repeat another"].found, lines["rows that repeat another"].verdict) == ("1", "warning")
    assert lines["rows of places that the card does not name"].found == "1"
    assert lines["box rows"].found == "3"


def test_a_resized_copy_shows_in_boxes_that_leave_it(tmp_path: Path) -> None:
    lines = {check.what: check for check in opened(write(tmp_path, size=(150, 100))).checks()}
    assert (lines["images with a box that leaves them"].found, lines["images with a box that leaves them"].verdict) == ("1", "error")


def test_patients_are_kept_apart(tmp_path: Path) -> None:
    ids = [f"{k:08x}-00000000-00000000-00000000-{v:08x}" for k in range(10) for v in (1, 2)]
    records = [(i, path_of(i, 10000000 + k // 2)) for k, i in enumerate(ids)]
    reader = opened(write(tmp_path, [f"{i}.dcm,spine,1,9,1,9" for i in ids], records))
    splits = reader.split(CARD.splits["gold"])
    patients = {name: {reader.patient_of(i) for i in listed} for name, listed in splits.items()}
    assert {name: len(found) for name, found in patients.items()} == {"train": 5, "validation": 1, "test": 4}
    assert sum(map(len, splits.values())) == 20


@pytest.mark.parametrize(
    ("rows", "records", "sentence"),
    [
        ([f"{ONE}.dcm,right lung,120,20,30,180"], None, "line 2: not left < right"),
        ([f"{ONE}.dcm,right lung,20,120,30,x"], None, "line 2.*expected four numbers"),
        ([f"{'f' * 8}.dcm,right lung,20,120,30,180"], None, "1 of 1 images of gold_bbox.* have no row in cxr-record-list_view"),
        (None, [(ONE, "files/elsewhere")], "line 2: the path is none of MIMIC-CXR"),
    ],
)
def test_tables_that_make_no_sense_are_named_by_line_and_name_nobody(tmp_path: Path, rows, records, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as refused:
        opened(write(tmp_path, rows, records))
    assert "0a1b2c3d" not in str(refused.value)


def test_missing_tables_and_images_are_told_with_their_places(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    with pytest.raises(DataError, match=r"gold_bbox_coordinate_annotations_1000images\.csv is missing"):
        opened(tmp_path / "a")
    root = write(tmp_path / "b")
    (root / "mimic-cxr-jpg").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"no images\. Expected the folder files of MIMIC-CXR-JPG"):
        opened(root)
