"""Promises of the CANDID-PTX reader: masks by union, patients kept apart, and errors that name a line and quote no cell."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmark import registry
from benchmark.errors import DataError, ImageError, SplitError
from benchmark.phantom.secondary_capture import HeaderValues, write_secondary_capture
from benchmark.phantom.siim import relative_run_lengths
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("candid-ptx")
RULE = CARD.splits["by-patient"]
HEADER = ("filename", "SOPInstanceUID", "EncodedPixels", "Report")
REPORT = "No pneumothorax,\nsays Dr Nobody."  # over two lines: a row is named by the line it ends in


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((1024, 1024), bool)
    mask[top:bottom, left:right] = True
    return mask


FIRST, SECOND = box(0, 300, 0, 40), box(200, 600, 20, 50)
ROWS = [
    ("P7001_1", "9.8.3", "-1", REPORT),
    ("P7001_2", "9.8.1", relative_run_lengths(FIRST), REPORT),
    ("P7002_1", "9.8.2", "-1", REPORT),
    ("P7001_2", "9.8.1", relative_run_lengths(SECOND), REPORT),
]
SECRETS = ("9.8.", "P7001", "P7002", "Nobody", "pneumothorax,")


def release(root: Path, rows=ROWS, header=HEADER, folder: str = "dataset") -> Path:
    root.mkdir(exist_ok=True)
    with (root / "Pneumothorax_reports.csv").open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    (root / folder).mkdir(exist_ok=True)
    for row in ROWS:
        (root / folder / row[1]).touch()
    return root


def write_dicom(path: Path, pixels: np.ndarray) -> None:
    write_secondary_capture(path, pixels, HeaderValues("x", "F", 50, "PA", 0.168, "1.2.3", "1.2.4", path.name))


def says_nothing(error: BaseException | str) -> bool:
    return not [secret for secret in SECRETS if secret in str(error)]


def test_masks_of_one_image_are_united_and_run_down_the_columns(tmp_path: Path) -> None:
    reader = open_reader(CARD, release(tmp_path))
    assert reader.ids == ("9.8.3", "9.8.1", "9.8.2")
    assert [reader.sample(i).positive for i in reader.ids] == [False, True, False]
    assert [reader.sample(i).patient_id for i in reader.ids] == ["P7001", "P7001", "P7002"]
    masks = reader.sample("9.8.1").masks((1024, 1024))
    assert np.array_equal(masks[0], FIRST | SECOND)
    assert not masks[0, 49, 599]  # the transpose
    assert not reader.sample("9.8.2").masks((1024, 1024)).any()
    assert any("not verified" in warning for warning in reader.warnings)


def test_either_folder_and_further_columns_are_read(tmp_path: Path) -> None:
    rows = [(k, *row) for k, row in enumerate(ROWS)]
    assert len(open_reader(CARD, release(tmp_path, rows, ("", *HEADER), "chest_radiographs")).ids) == 3


def test_the_image_is_the_file_of_its_id_and_another_size_is_refused(tmp_path: Path) -> None:
    root = release(tmp_path)
    write_dicom(root / "dataset" / "9.8.1", np.full((1024, 1024), 77, np.uint8))
    write_dicom(root / "dataset" / "9.8.2", np.zeros((512, 1024), np.uint8))
    reader = open_reader(CARD, root)
    assert (reader.sample("9.8.1").image() == 77).all()
    with pytest.raises(ImageError, match="line 7: the image has 512 rows x 1,024 columns") as raised:
        reader.sample("9.8.2").image()
    assert says_nothing(raised.value)
    with pytest.raises(ImageError, match="512 rows"):
        reader.sample("9.8.1").masks((512, 512))


def test_a_damaged_image_is_named_by_its_line(tmp_path: Path) -> None:
    root = release(tmp_path)
    (root / "dataset" / "9.8.1").write_bytes(b"cut off")
    with pytest.raises(ImageError, match=r"Pneumothorax_reports\.csv line 5: .*not a DICOM file") as raised:
        open_reader(CARD, root).sample("9.8.1").image()
    assert says_nothing(raised.value)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (("P7009_1", "9.8.9", REPORT, "5 3"), "neither -1 nor whole numbers"),
        (("P7009_1", "9.8.9", "", REPORT), "neither -1 nor whole numbers"),
        (("P7009_1", "9.8.9", "5 -3", REPORT), "neither -1 nor whole numbers"),
        (("P7009_1", "", "-1", REPORT), "SOPInstanceUID is empty or no file name"),
        (("P7009_1", "../9.8.9", "-1", REPORT), "SOPInstanceUID is empty or no file name"),
        (("P7009", "9.8.9", "-1", REPORT), "does not begin with a patient"),
        (("P7002_1", "9.8.2", "-1", REPORT), "the same image and EncodedPixels as in line 7"),
        (ROWS[1], "the same image and EncodedPixels as in line 5"),
        (("P7002_1", "9.8.2", "5 3", REPORT), "-1 here and a mask of the same image in line 11"),
        (("P7009_1", "9.8.9"), "has 2 cells"),
        (("P7009_1", "9.8.9", "-1", REPORT), r"1 of 4 images of Pneumothorax_reports\.csv are not in dataset"),
    ],
)
def test_a_damaged_row_is_an_error_that_quotes_nothing(tmp_path: Path, row: tuple, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as raised:
        open_reader(CARD, release(tmp_path, [*ROWS, row]))
    assert says_nothing(raised.value)


def test_absolute_codes_are_an_error_and_show_in_verify(tmp_path: Path) -> None:
    """A standard code of a mask in the right half: starts counted from the first pixel, each run with its own."""
    starts = [1024 * column + 200 for column in range(700, 760)]
    absolute = " ".join(f"{start} 150" for start in starts)
    reader = open_reader(CARD, release(tmp_path, [*ROWS[:1], ("P7001_2", "9.8.1", absolute, REPORT), *ROWS[2:3]]))
    with pytest.raises(DataError, match="absolute starts") as raised:
        reader.sample("9.8.1").masks((1024, 1024))
    assert says_nothing(raised.value)
    line = next(c for c in reader.checks() if c.what == "run-length codes")
    assert line.verdict == "error"
    assert says_nothing(line.found)


def test_an_odd_code_is_an_error(tmp_path: Path) -> None:
    reader = open_reader(CARD, release(tmp_path, [("P7001_2", "9.8.1", "5 3 2", REPORT)]))
    with pytest.raises(DataError, match=r"line 3: .*odd count"):
        reader.sample("9.8.1").masks((1024, 1024))


@pytest.mark.parametrize(
    ("header", "rows", "sentence"),
    [
        (HEADER[:2], [row[:2] for row in ROWS], "one column EncodedPixels"),
        ((*HEADER, "filename"), [(*row, "x") for row in ROWS], "one column filename"),
        (HEADER, [], "a header and no rows"),
        (ROWS[0], ROWS[1:], "one column filename"),
    ],
)
def test_a_damaged_table_is_named_without_its_content(tmp_path: Path, header, rows, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as raised:
        open_reader(CARD, release(tmp_path, rows, header))
    assert says_nothing(raised.value)


def test_a_folder_without_table_or_images_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    with pytest.raises(DataError, match=r"Pneumothorax_reports\.csv is missing"):
        open_reader(CARD, tmp_path)
    release(tmp_path, folder="elsewhere")
    (tmp_path / "dataset").rmdir()
    with pytest.raises(DataError, match="no folder dataset or chest_radiographs"):
        open_reader(CARD, tmp_path)


def test_an_image_of_two_patients_is_left_out_and_counted(tmp_path: Path) -> None:
    reader = open_reader(CARD, release(tmp_path, [*ROWS, ("P7002_2", "9.8.3", "-1", REPORT)]))
    assert "9.8.3" not in reader.ids
    assert any("1 images stand under two patients" in warning for warning in reader.warnings)
    assert all(says_nothing(warning) for warning in reader.warnings)
    lines = {c.what: c for c in reader.checks()}
    assert lines["images of two patients, left out"].verdict == "warning"
    assert lines["images"].found == "3"  # of the release
    assert lines["variant of the run-length codes"].verdict == "unknown"


def test_the_split_keeps_patients_apart_and_is_the_same_again(tmp_path: Path) -> None:
    rows = [(f"P{k // 2:04d}_{k}", f"1.{k}", "-1", "") for k in range(40)]
    root = release(tmp_path, rows)
    for row in rows:
        (root / "dataset" / row[1]).touch()
    reader = open_reader(CARD, root)
    splits = reader.split(RULE)
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [24, 8, 8]
    assert sorted(i for ids in splits.values() for i in ids) == sorted(reader.ids)
    patients = {name: {reader.sample(i).patient_id for i in ids} for name, ids in splits.items()}
    assert not patients["train"] & patients["test"]
    assert not patients["validation"] & (patients["train"] | patients["test"])
    release(root, rows[::-1])
    again = open_reader(CARD, root).split(RULE)
    assert {name: set(ids) for name, ids in again.items()} == {name: set(ids) for name, ids in splits.items()}
    with pytest.raises(SplitError, match="patients permuted"):
        reader.split(RULE.model_copy(update={"rule": "permutation"}))


def test_a_phantom_comes_back_as_it_was_drawn(tmp_path: Path) -> None:
    root = tmp_path / "candid-ptx"
    write_corpus(CorpusPlan(dataset="candid-ptx", n_patients=5, seed=5, images_per_patient=(1, 2), positive_share=0.6), root)
    reader = open_reader(CARD, root)
    assert [check for check in reader.verify().checks if check.verdict != "ok"] == []
    positive = next(s for s in map(reader.sample, reader.ids) if s.positive)
    assert positive.masks(positive.image().shape).any()
    manifest = json.loads((root / "PHANTOM.json").read_text())
    assert manifest["counts"]["images_of_two_patients"] == 1
    table = root / "Pneumothorax_reports.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(positive.id, "9.9.9"), encoding="utf-8")
    (root / "dataset" / positive.id).rename(root / "dataset" / "9.9.9")
    assert not open_reader(CARD, root).verify().ok
