"""Promises of ChestX-ray14's whole-image labels: fourteen findings by name, the official lists, and a validation cut by patient."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark import data, registry
from benchmark.errors import DataError, SplitError
from benchmark.readers.base import open_reader
from benchmark.readers.kit.nih_tables import patient_of
from benchmark.readers.kit.splits import prefix, shared_patients
from benchmark.readers.nih_labels import official_split

CARD = registry.dataset("nih-labels")
RULE = CARD.splits["official"]
# docs/sources.md, ChestX-ray14: the header literally, and image counts of the v2020 table.
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
IMAGES = {
    "Infiltration": 19_894,
    "Effusion": 13_317,
    "Atelectasis": 11_559,
    "Nodule": 6_331,
    "Mass": 5_782,
    "Pneumothorax": 5_302,
    "Consolidation": 4_667,
    "Pleural_Thickening": 3_385,
    "Cardiomegaly": 2_776,
    "Emphysema": 2_516,
    "Edema": 2_303,
    "Fibrosis": 1_686,
    "Pneumonia": 1_431,
    "Hernia": 227,
}

TEST = {"00000003_000": "Hernia", "00000004_000": "No Finding", "00000003_001": "Hernia|Infiltration"}
OTHER = {f"{p:08d}_{k:03d}": "Effusion" if p % 3 else "No Finding" for p in range(20, 32) for k in range(p % 4 + 1)}


def write(folder: Path, labels: dict[str, str] | None = None, name: str = "Data_Entry_2017_v2020.csv", end: str = "") -> Path:
    """A release with its lists sorted and its label table not."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {**OTHER, **TEST} if labels is None else labels
    lines = [
        f"{i}.png,{found},0,{int(patient_of(i))},61,M,PA,2700,2800,0.143,0.143{end}" for i, found in sorted(rows.items(), reverse=True)
    ]
    (folder / name).write_text("\n".join([HEADER + end, *lines]) + "\n")
    (folder / "train_val_list.txt").write_text("".join(f"{i}.png\n" for i in OTHER))
    (folder / "test_list.txt").write_text("".join(f"{i}.png\n" for i in TEST))
    for k, sample_id in enumerate([*OTHER, *TEST]):
        place = folder / f"images_00{k % 2 + 1}" / "images"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{sample_id}.png").touch()
    return folder


def opened(root: Path):
    return open_reader(CARD, root)


def test_the_card_counts_what_the_reference_counts():
    assert set(CARD.classes) == set(IMAGES)
    assert {name: CARD.expected[f"labels_{name.lower()}"] for name in IMAGES} == IMAGES
    assert CARD.expected["train_val_list"] + CARD.expected["test_list"] == CARD.expected["images"] == 112_120


@pytest.mark.parametrize(("name", "end"), [("Data_Entry_2017_v2020.csv", ""), ("Data_Entry_2017.csv", ",")])
def test_labels_are_the_named_findings_and_nothing_else(tmp_path, name, end):
    reader = opened(write(tmp_path, name=name, end=end))
    both = reader.sample("00000003_001")
    assert {CARD.classes[k] for k in np.flatnonzero(both.labels)} == {"Hernia", "Infiltration"}
    assert (both.labels.dtype, both.labels.shape, both.positive) == (np.int8, (14,), True)
    assert (both.patient_id, both.view, both.masks) == ("00000003", "PA", None)
    assert (both.sex, both.age_decade) != (None, None)
    normal = reader.sample("00000004_000")
    assert not normal.labels.any()
    assert normal.positive is False


def test_ids_are_those_of_both_lists_and_a_row_in_neither_is_left_out_with_a_warning(tmp_path):
    reader = opened(write(tmp_path, {**OTHER, **TEST, "00000099_000": "Mass"}))
    assert reader.ids == (*OTHER, *TEST)
    assert "1 images of Data_Entry_2017_v2020.csv are in no official list" in reader.warnings[0]
    with pytest.raises(DataError, match="no image '00000099_000'"):
        reader.sample("00000099_000")


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        ("Infiltrate", "Infiltrate"),
        ("Pleural Thickening", "Pleural Thickening"),
        ("No Finding|Mass", "No Finding"),
        ("", ""),
        ("Mass|", ""),
    ],
)
def test_a_label_that_is_none_of_the_fourteen_is_an_error_with_its_line(tmp_path, labels, wrong):
    write(tmp_path, {**OTHER, **TEST, "00000004_000": labels})
    n_line = 2 + sorted({**OTHER, **TEST}, reverse=True).index("00000004_000")
    with pytest.raises(DataError, match=rf"Data_Entry_2017_v2020\.csv line {n_line} \(00000004_000\): the label '{wrong}' of .*expected"):
        opened(tmp_path)


def test_an_image_in_both_lists_is_refused(tmp_path):
    write(tmp_path)
    with (tmp_path / "train_val_list.txt").open("a") as handle:
        handle.write("00000003_000.png\n")
    with pytest.raises(DataError, match=r"1 images are in train_val_list\.txt and in test_list\.txt, for example 00000003_000"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["train_val_list.txt", "test_list.txt"])
def test_a_list_that_is_missing_empty_or_of_another_release_is_named(tmp_path, name):
    write(tmp_path)
    (tmp_path / name).write_text("")
    with pytest.raises(DataError, match=f"{name} lists no image"):
        opened(tmp_path)
    (tmp_path / name).write_text("00000777_000.png\n")
    with pytest.raises(DataError, match=rf"1 of 1 images of {name} have no row in Data_Entry_2017_v2020\.csv, for example 00000777_000"):
        opened(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        opened(tmp_path)


def test_a_missing_label_table_says_what_is_expected(tmp_path):
    write(tmp_path)
    (tmp_path / "Data_Entry_2017_v2020.csv").unlink()
    with pytest.raises(DataError, match=r"Data_Entry_2017_v2020\.csv or Data_Entry_2017\.csv is missing"):
        opened(tmp_path)


def test_a_label_table_with_other_columns_is_named_with_them(tmp_path):
    table = write(tmp_path) / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("Image Index,Finding Labels", "Image,Labels"))
    with pytest.raises(
        DataError, match=r"Data_Entry_2017_v2020\.csv starts with the columns Image, Labels; expected Image Index, Finding Labels"
    ):
        opened(tmp_path)


def test_a_missing_image_is_named(tmp_path):
    write(tmp_path)
    next(tmp_path.rglob("00000004_000.png")).unlink()
    with pytest.raises(DataError, match=r"1 of \d+ images listed in train_val_list\.txt and test_list\.txt .* 00000004_000"):
        opened(tmp_path)


# ------------------------------------------------------------------------------------------------------------------- splits


def test_the_test_list_is_kept_and_whole_patients_validate(tmp_path):
    reader = opened(write(tmp_path))
    splits = reader.split(RULE)
    assert splits["test"] == tuple(TEST)
    assert set(splits["train"]) | set(splits["validation"]) == set(OTHER)
    assert not any(shared_patients(splits, patient_of).values())


def test_validation_stops_with_the_patient_that_fills_its_share():
    listed = [f"{p:08d}_{k:03d}" for p in range(300) for k in range(p % 7 + 1)]
    splits = official_split(listed, ["99999999_000"], 42, 0.1)
    n, wanted = len(splits["validation"]), round(0.1 * len(listed))
    last = [i for i in splits["validation"] if patient_of(i) == patient_of(splits["validation"][-1])]
    assert n - len(last) < wanted <= n
    order = [f"{p:08d}" for p in np.random.RandomState(42).permutation(300)]
    assert list(dict.fromkeys(map(patient_of, splits["validation"]))) == order[: len({patient_of(i) for i in splits["validation"]})]


def test_fractions_are_nested_and_drawn_over_all_patients():
    listed = [f"{p:08d}_{k:03d}" for p in range(2_000) for k in range(3)]
    train = official_split(listed, ["99999999_000"], 42, 0.1)["train"]
    one, ten = prefix(train, 0.01), prefix(train, 0.1)
    assert (len(one), len(ten)) == (round(len(train) * 0.01), round(len(train) * 0.1))
    assert ten[: len(one)] == one
    assert np.std([int(patient_of(i)) for i in ten]) > 400  # not the head of the file


def test_a_small_corpus_validates_on_a_third_and_the_release_on_its_share():
    few = official_split([f"{p:08d}_000" for p in range(24)], ["99999999_000"], 42, 0.1)
    assert (len(few["validation"]), len(few["train"])) == (8, 16)
    some = official_split([f"{p:08d}_000" for p in range(200)], ["99999999_000"], 42, 0.1)
    assert len(some["validation"]) == 32
    many = official_split([f"{p:08d}_000" for p in range(1_000)], ["99999999_000"], 42, 0.1)
    assert len(many["validation"]) == 100


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_leaves_an_empty_split_is_an_error(share):
    with pytest.raises(SplitError, match="leaves"):
        official_split(["00000001_000", "00000002_000"], ["00000003_000"], 42, share)


@pytest.mark.parametrize("update", [{"rule": "patients-and-normals"}, {"seed": None}, {"validation_share": None}])
def test_another_rule_is_refused(tmp_path, update):
    with pytest.raises(SplitError, match="official test, validation by patient"):
        opened(write(tmp_path)).split(RULE.model_copy(update=update))


# ------------------------------------------------------------------------------------------------------------------- verify


def test_verify_counts_labels_and_patients_of_both_lists(tmp_path):
    write(tmp_path)
    shared = "00000020_009"
    (tmp_path / "test_list.txt").write_text("".join(f"{i}.png\n" for i in (*TEST, shared)))
    labels = {**OTHER, **TEST, shared: "Mass"}
    lines = [f"{i}.png,{found},0,{int(patient_of(i))},61,M,PA,2700,2800,0.143,0.143" for i, found in labels.items()]
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    (tmp_path / "images_001" / "images" / f"{shared}.png").touch()
    checks = {c.what: c for c in opened(tmp_path).verify().checks}
    assert (checks["labels hernia"].expected, checks["labels hernia"].found, checks["labels hernia"].verdict) == ("227", "2", "error")
    assert checks["labels several"].found == "1"
    assert (checks["patients in both official lists"].found, checks["patients in both official lists"].verdict) == ("1", "error")
    assert checks["official test: images"].verdict == "error"


def test_verify_of_a_phantom_compares_with_its_own_file(tmp_path):
    write(tmp_path)
    n_normal = sum(found == "No Finding" for found in {**OTHER, **TEST}.values())
    manifest = {"counts": {"images": len(OTHER) + len(TEST), "labels_no_finding": n_normal, "labels_hernia": 2, "boxes": 5}}
    (tmp_path / "PHANTOM.json").write_text(json.dumps(manifest))
    lines = {c.what: c.verdict for c in opened(tmp_path).verify().checks}
    assert (lines["labels hernia"], lines["labels no finding"]) == ("ok", "ok")
    assert "boxes" not in lines  # the other reader's
    manifest["counts"]["labels_hernia"] = 3
    (tmp_path / "PHANTOM.json").write_text(json.dumps(manifest))
    assert {c.what: c.verdict for c in opened(tmp_path).verify().checks}["labels hernia"] == "error"


def test_a_folder_with_the_images_of_the_boxes_alone_can_still_be_verified(tmp_path):
    root = write(tmp_path / "nih-cxr")
    boxes = ("00000003_001.png,Infiltrate", "00000020_000.png,Effusion", "00000022_000.png,Effusion")
    lines = ["Image Index,Finding Label,Bbox [x,y,w,h],,,", *(f"{box},1,2,30,40" for box in boxes)]
    (root / "BBox_List_2017.csv").write_text("\n".join(lines) + "\n")
    assert {found.dataset for found in data.verify([], [str(tmp_path)])} == {"nih-cxr", "nih-labels"}
    next(root.rglob("00000031_003.png")).unlink()
    assert {found.dataset for found in data.verify([], [str(tmp_path)])} == {"nih-cxr"}
    with pytest.raises(DataError, match=r"1 of \d+ images"):
        data.verify(["nih-labels"], [str(tmp_path)])
