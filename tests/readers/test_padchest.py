"""Promises of the PadChest reader: label lists with blanks, frontal images only, physicians in the test, and errors that quote nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError, ImageError, SplitError
from benchmark.readers.base import open_reader
from benchmark.readers.padchest import COLUMNS, TABLE
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("padchest")
RULE = CARD.splits["by-patient"]
HEADER = ("", *COLUMNS[:4], "PatientBirth", *COLUMNS[4:], "Report")


def row(number: int, **changes: str) -> dict[str, str]:
    """Image `number` of patient number // 2, without a finding, by a physician where the number is even."""
    values = {"ImageID": f"secret{number}.png", "ImageDir": str(number % 3), "StudyID": f"s{number}", "PatientID": f"hidden{number // 2}"}
    values |= {"Projection": "PA", "MethodLabel": "RNN_model" if number % 2 else "Physician", "Labels": "['normal']", "Report": "dolor"}
    return values | changes


def write(folder: Path, rows: list[dict[str, str]], header=HEADER, *, missing: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as handle:
        table = csv.DictWriter(handle, header, restval="", extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    for one in rows[missing:]:
        (folder / one["ImageDir"]).mkdir(exist_ok=True)
        (folder / one["ImageDir"] / one["ImageID"]).touch()
    return folder


def many(n: int = 60) -> list[dict[str, str]]:
    return [row(k, Labels="['cardiomegaly']" if k % 3 else "['pleural effusion', 'normal']") for k in range(n)]


def opened(root: Path):
    return open_reader(CARD, root)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("['cardiomegaly', 'pleural effusion']", [1, 1]),
        ("['', ' pleural effusion ', '']", [0, 1]),
        ("['cardiomegaly', 'cardiomegaly']", [1, 0]),
        ("['chronic cardiomegaly']", [0, 0]),  # another label, not a part of a word
        ("[]", [0, 0]),
    ],
)
def test_labels_are_whole_names_without_blanks_around_them(tmp_path, cell, expected):
    sample = opened(write(tmp_path, [row(0, Labels=cell)])).sample("secret0.png")
    assert sample.labels.tolist() == expected
    assert (sample.labels.dtype, sample.positive) == (np.int8, any(expected))
    assert (sample.patient_id, sample.masks, sample.report) == ("hidden0", None, None)


def test_only_frontal_images_with_labels_and_a_file_are_used_and_the_rest_is_counted(tmp_path):
    rows = [row(0), row(1, Projection="L"), row(2, Projection="COSTAL"), row(3, Projection="AP_horizontal"), row(4, Labels=""), row(5)]
    reader = opened(write(tmp_path, rows, missing=1))
    assert reader.ids == ("secret3.png", "secret5.png")
    assert [reader.sample(i).view for i in reader.ids] == ["AP", "PA"]
    assert "1 frontal images have no label list" in reader.warnings[0]
    assert "1 of 3 frontal images have no file" in reader.warnings[1]
    line = next(c for c in reader.checks() if c.what == "frontal images without a file")
    assert (line.found, line.verdict) == ("1", "warning")


def test_columns_are_read_by_name_wherever_they_stand(tmp_path):
    header = tuple(reversed(HEADER))
    assert opened(write(tmp_path, [row(0, Labels="['cardiomegaly']")], header)).sample("secret0.png").labels.tolist() == [1, 0]


def test_sixteen_bits_are_kept(tmp_path):
    write(tmp_path, [row(0)])
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1_000
    PIL.Image.fromarray(pixels).save(tmp_path / "0" / "secret0.png")
    assert np.array_equal(opened(tmp_path).sample("secret0.png").image(), pixels)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"Labels": "cardiomegaly"}, "Labels is no list of texts"),
        ({"Labels": "['cardiomegaly'"}, "Labels is no list of texts"),
        ({"Labels": "['cardiomegaly', 3]"}, "Labels is no list of texts"),
        ({"Labels": "__import__('os').getcwd()"}, "Labels is no list of texts"),
        ({"ImageDir": "secretdir"}, "ImageDir no number"),
        ({"ImageID": "../secret.png"}, "ImageID is no name of a PNG file"),
        ({"ImageID": "secret0.png"}, "the same ImageID as in line 2"),
        ({"PatientID": ""}, "the PatientID is empty"),
    ],
)
def test_a_damaged_row_is_an_error_with_its_line_and_none_of_its_cells(tmp_path, changes, sentence):
    write(tmp_path, [row(0)])
    with (tmp_path / TABLE).open("a", encoding="utf-8", newline="") as handle:
        csv.DictWriter(handle, HEADER, restval="", lineterminator="\n").writerow(row(1, **changes))
    with pytest.raises(DataError, match=rf"line 3: .*{sentence}") as caught:
        opened(tmp_path)
    assert not any(word in str(caught.value) for word in ("secret", "hidden", "dolor", "cardiomegaly", "getcwd"))


def test_a_damaged_picture_or_an_unknown_id_names_nobody(tmp_path):
    reader = opened(write(tmp_path, [row(0)]))
    with pytest.raises(ImageError, match="line 2") as caught:
        reader.sample("secret0.png").image()
    assert "secret" not in str(caught.value)
    with pytest.raises(DataError, match="not among the 1 images") as unknown:
        reader.sample("secret9.png")
    assert "secret" not in str(unknown.value)


@pytest.mark.parametrize("header", [tuple(name for name in HEADER if name != "MethodLabel"), (*HEADER, "Labels")])
def test_a_missing_or_doubled_column_is_an_error(tmp_path, header):
    with pytest.raises(DataError, match=r"does not have one column (MethodLabel|Labels)"):
        opened(write(tmp_path, [row(0)], header))


def test_a_folder_without_table_or_without_images_says_what_is_expected(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"PADCHEST_chest_x_ray_images_labels_160K_01\.02\.19\.csv is missing"):
        opened(tmp_path)
    with pytest.raises(DataError, match="none of the 1 frontal images"):
        opened(write(tmp_path / "b", [row(0)], missing=1))


# --------------------------------------------------------------------------------------------------------- splits and verify


def test_a_table_without_a_frontal_image_is_to_be_fetched_again(tmp_path):
    with pytest.raises(DataError, match=rf"{TABLE} has no frontal image with labels\. Fetch the file again"):
        opened(write(tmp_path, [row(0, Projection="L"), row(1, Labels="")]))


def test_patients_are_never_shared_and_only_physicians_test(tmp_path):
    reader = opened(write(tmp_path, many()))
    splits = reader.split(RULE)
    patients = {split: {reader.sample(i).patient_id for i in ids} for split, ids in splits.items()}
    assert not patients["train"] & (patients["validation"] | patients["test"])
    assert not patients["validation"] & patients["test"]
    assert (len(patients["test"]), len(patients["validation"]), len(patients["train"])) == (6, 6, 18)
    numbers = {split: [int(i.removeprefix("secret").removesuffix(".png")) for i in ids] for split, ids in splits.items()}
    assert all(n % 2 == 0 for split in ("validation", "test") for n in numbers[split])
    assert {n % 2 for n in numbers["train"]} == {0, 1}


def test_a_patient_whom_only_the_model_labelled_trains(tmp_path):
    rows = [{**one, "MethodLabel": "RNN_model"} if k < 40 else one for k, one in enumerate(many())]
    reader = opened(write(tmp_path, rows))
    splits = reader.split(RULE)
    assert {len(splits["test"]), len(splits["validation"])} == {2}
    assert {f"secret{k}.png" for k in range(40)} <= set(splits["train"])


def test_a_split_does_not_depend_on_the_order_of_rows(tmp_path):
    one, other = opened(write(tmp_path / "one", many())), opened(write(tmp_path / "other", many()[::-1]))
    assert {k: set(v) for k, v in one.split(RULE).items()} == {k: set(v) for k, v in other.split(RULE).items()}


def test_a_split_without_physicians_or_with_another_rule_is_refused(tmp_path):
    rows = [{**one, "MethodLabel": "RNN_model"} for one in many()]
    with pytest.raises(SplitError, match=r"no image is left for test and validation: of 30 patients 0 have"):
        opened(write(tmp_path / "a", rows)).split(RULE)
    with pytest.raises(SplitError, match="patients permuted, held out by physicians"):
        opened(write(tmp_path / "b", many())).split(RULE.model_copy(update={"rule": "permutation"}))


def test_recalled_numbers_and_values_warn_and_an_unknown_spelling_is_an_error(tmp_path):
    rows = [{**one, "Labels": "['Cardiomegaly', 'pleural effusion']"} for one in many(6)]
    rows[0]["MethodLabel"] = "Nurse"
    lines = {c.what: c for c in opened(write(tmp_path, rows)).verify().checks}
    assert (lines["rows"].expected, lines["rows"].found, lines["rows"].verdict) == ("160,868", "6", "warning")
    assert lines["images with cardiomegaly"].verdict == "error"
    assert lines["images with pleural effusion"].verdict == "ok"
    assert lines["MethodLabel is Physician or RNN_model"].found == "1 rows are not"


def test_the_agreement_lets_nothing_out():
    assert CARD.redistribution == "none"


def test_a_generated_folder_is_learnt_from(small, tiny, tmp_path):
    write_corpus(CorpusPlan("padchest", 20, seed=3, images_per_patient=(2, 2), positive_share=0.7), tmp_path / "padchest")
    job, place = small.one("padchest-linear-frozen-100-lobe", tiny(), root=tmp_path, limit=12)
    record = small.fit(job, place)
    assert (record.status, record.redistribution) == ("ok", "none")
    assert record.leakage["shared_patients_train_test"] == 0
