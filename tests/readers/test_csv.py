from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import DataError
from tests import own_folders
from tests.own_cards import odd, opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a b.png", "é.jpg", "sub/c.png", "d.png"):
        own_folders.save(tmp_path / "own" / "img" / name, own_folders.picture(len(name)))
    return tmp_path / "own"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_column_for_each_class_blank_is_unknown_and_oddities_have_their_line(folder: Path, separator: str) -> None:
    rows = [
        ("file", "Pneumonia", "nodule", "pid", "part"),
        ("a b.png", 1, 0, "p1", "train"),
        ("é", 0, "", "p1", "train"),
        ("c.png", 0, "maybe", "p2", "TEST"),
        ("a b.png", 0, 0, "p1", "train"),
        ("gone.png", 0, 0, "p3", "train"),
    ]
    own_folders.table(folder / "l.csv", rows, separator)
    given = {"table": "l.csv", "images": "img", "image": "file", "patient": "pid", "labels": {"n": "nodule", "pneumonia": "Pneumonia"}}
    split = {"by": "column", "column": "part", "validation_share": 0.4}
    reader = opened(folder, "csv", given, classes=("pneumonia", "n"), split=split)
    labels = {i: sample.labels.tolist() for i in reader.ids if (sample := reader.sample(i)).labels is not None}
    assert labels == {"a b.png": [1, 0], "é.jpg": [0, -1], "sub/c.png": [0, -1]}
    assert reader.sample("é.jpg").patient_id == "p1"
    assert reader.sample("a b.png").masks is None
    found = odd(reader)
    assert found["rows twice"] == "1: l.csv line 5"
    assert found["rows of an image that is not there"] == "1: l.csv line 6"
    assert found["values that the card does not know"] == "1: l.csv line 4, 'maybe'"
    assert found["image files that nothing lists"] == "1: d.png"
    assert "No image shows n" in next(c.hint for c in reader.checks() if c.what == "images by class")


def test_a_column_that_names_the_finding(folder: Path) -> None:
    own_folders.table(folder / "l.csv", [("f", "x"), ("d", "No finding"), ("a b.png", "Mass|Nod."), ("a b.png", "odd"), ("é.jpg", "Nod.")])
    given = {"table": "l.csv", "images": "img", "image": "f", "finding": "x", "findings": {"Nod.": "nodule", "Mass": "mass"}}
    reader = opened(folder, "csv", given, classes=("mass", "nodule"))
    labels = {i: sample.labels.tolist() for i in reader.ids if (sample := reader.sample(i)).labels is not None}
    assert labels == {"a b.png": [1, 1], "d.png": [0, 0], "é.jpg": [0, 1]}
    assert odd(reader)["values that the card does not know"] == "1: l.csv line 4, 'odd'"


def test_beside_a_finding_that_the_card_does_not_know_no_class_is_certainly_absent(folder: Path) -> None:
    own_folders.table(folder / "l.csv", [("f", "x"), ("d", "Mass|effusion"), ("a b.png", "Nodule"), ("é.jpg", "No finding"), ("c", "tube")])
    given = {"table": "l.csv", "images": "img", "image": "f", "finding": "x", "findings": {"Mass": "mass"}}
    labels = {
        i: reader.sample(i).labels.tolist() for reader in [opened(folder, "csv", given, classes=("mass", "nodule"))] for i in reader.ids
    }
    assert labels == {"a b.png": [-1, -1], "d.png": [1, -1], "sub/c.png": [-1, -1], "é.jpg": [0, 0]}
    passed_over = {**given, "findings": {"Mass": "mass", "Nodule": "nodule"}, "nothing": ["No finding", "effusion", "tube"]}
    labels = {
        i: reader.sample(i).labels.tolist()
        for reader in [opened(folder, "csv", passed_over, classes=("mass", "nodule"))]
        for i in reader.ids
    }
    assert labels == {"a b.png": [0, 1], "d.png": [1, 0], "sub/c.png": [0, 0], "é.jpg": [0, 0]}


def test_a_box_of_a_finding_that_the_card_does_not_know_is_left_out_and_told_as_such(folder: Path) -> None:
    own_folders.table(folder / "l.csv", [("f", "x", "1", "2", "3", "4"), ("d", "mass", 8, 8, 30, 30), ("c", "tube", 8, 8, 30, 30)])
    given = {"table": "l.csv", "images": "img", "image": "f", "finding": "x", "boxes": {"columns": ["1", "2", "3", "4"]}}
    reader = opened(folder, "csv", given, classes=("mass",))
    assert {i: len(reader.sample(i).boxes_xywh) for i in reader.ids} == {"d.png": 1, "sub/c.png": 0}
    assert odd(reader)["annotations of an unknown category"] == "1: l.csv line 3, 'tube'"


def test_of_rows_that_contradict_each_other_the_first_split_counts_and_no_patient(folder: Path) -> None:
    rows = [
        ("f", "x", "pid", "part"),
        ("d", "mass", "p1", "test"),
        ("d", "nodule", "p1", "train"),
        ("d", "", "", ""),
        ("c", "mass", "p2", "TRAIN"),
    ]
    rows += [
        ("c", "nodule", "p2", "train"),
        ("a b.png", "mass", "p3", "train"),
        ("a b.png", "nodule", "p4", "train"),
        ("é", "mass", "p5", "train"),
    ]
    own_folders.table(folder / "l.csv", rows)
    given = {"table": "l.csv", "images": "img", "image": "f", "finding": "x", "patient": "pid"}
    split = {"by": "column", "column": "part", "validation_share": 0.5}
    reader = opened(folder, "csv", given, classes=("mass", "nodule"), split=split)
    assert set(reader.ids) == {"d.png", "sub/c.png", "é.jpg"}
    assert reader.split(reader.card.splits["own"])["test"] == ("d.png",)
    assert reader.sample("d.png").labels.tolist() == [1, 1]
    found = odd(reader)
    assert (found["images in two splits"], found["images of two patients"]) == ("1: d.png", "1: a b.png")


def test_what_a_rule_decides_of_contradicting_rows_is_in_the_digest_and_other_tables_keep_theirs(folder: Path) -> None:
    given = {"table": "l.csv", "images": "img", "image": "f", "finding": "x"}
    decided = {}
    for name in ("mass", "tube"):
        own_folders.table(folder / "l.csv", [("f", "x"), ("d", name), ("c", "nodule")])
        decided[name] = opened(folder, "csv", given, classes=("mass", "nodule")).decided()
    assert "doubted" not in decided["mass"]
    assert decided["tube"] != decided["mass"]


def test_a_missing_cell_is_no_patient_and_a_patient_of_two_spellings_one(folder: Path) -> None:
    rows = [("d", 1, "nan"), ("c", 0, "NULL"), ("a b.png", 0, "12"), ("é", 1, "12.0")]
    given = {"table": "l.csv", "images": "img", "image": "f", "labels": {"a": "x"}, "patient": "pid"}
    own_folders.table(folder / "l.csv", [("f", "x", "pid"), *rows])
    reader = opened(folder, "csv", given, classes=("a",))
    assert [reader.sample(i).patient_id for i in ("d.png", "sub/c.png", "a b.png", "é.jpg")] == [None, None, "12", "12"]
    assert odd(reader)["images without a patient"] == "2: d.png; sub/c.png"


@pytest.mark.parametrize(
    ("patients", "anew"), [(("1", "2", "", "10"), False), (("1.0", "2.0", "", "10.0"), False), (("1", "nan"), True), (("1", "1.0"), True)]
)
def test_patients_that_are_read_anew_are_in_the_digest_and_other_tables_keep_theirs(
    folder: Path, patients: tuple[str, ...], anew: bool
) -> None:
    rows = [(name, 1, patient) for name, patient in zip(("d", "c", "a b.png", "é"), patients, strict=False)]
    own_folders.table(folder / "l.csv", [("f", "x", "pid"), *rows])
    given = {"table": "l.csv", "images": "img", "image": "f", "labels": {"a": "x"}, "patient": "pid"}
    assert ("read_anew" in opened(folder, "csv", given, classes=("a",)).decided()) == anew


@pytest.mark.parametrize("form", ["xywh", "xyxy", "cxcywh"])
def test_fractions_that_the_card_calls_pixels_are_refused(folder: Path, form: str) -> None:
    own_folders.table(folder / "l.csv", [("f", "1", "2", "3", "4"), ("d", 0.25, 0.125, 0.75, 0.5), ("c", 0.5, 0.5, 0.9, 0.9)])
    given = {"table": "l.csv", "images": "img", "image": "f", "boxes": {"columns": ["1", "2", "3", "4"], "form": form}}
    with pytest.raises(DataError, match=r"all 2 boxes of l\.csv end within .* fractions .* Say `unit: fractions` under `csv\.boxes`"):
        opened(folder, "csv", given, classes=("nodule",))


@pytest.mark.parametrize(
    ("form", "unit", "cells"),
    [
        ("xywh", "pixels", (16, 8, 32, 24)),
        ("xyxy", "pixels", (16, 8, 48, 32)),
        ("cxcywh", "pixels", (32, 20, 32, 24)),
        ("xyxy", "fractions", (0.25, 0.125, 0.75, 0.5)),
        ("cxcywh", "fractions", (0.5, 0.3125, 0.5, 0.375)),
    ],
)
def test_boxes_of_every_form_and_unit_are_the_same_box(folder: Path, form: str, unit: str, cells: tuple[float, ...]) -> None:
    rows = [("f", "1", "2", "3", "4"), ("d.png", *cells), ("é.jpg", "", "", "", ""), ("d.png", *cells)]
    own_folders.table(folder / "l.csv", rows)
    given = {"table": "l.csv", "images": "img", "image": "f", "boxes": {"columns": ["1", "2", "3", "4"], "form": form, "unit": unit}}
    reader = opened(folder, "csv", given, classes=("nodule",))
    assert {i: reader.sample(i).boxes_xywh.tolist() for i in reader.ids} == {"d.png": [[16, 8, 32, 24]], "é.jpg": []}
    assert odd(reader)["rows twice"] == "1: l.csv line 4"
    masks = reader.sample("d.png").masks
    assert masks is not None
    assert masks((64, 64)).sum() == 32 * 24


@pytest.mark.parametrize(
    ("given", "classes", "sentence"),
    [
        (
            {"image": "id", "labels": {"a": "x"}},
            ("a",),
            r"l.csv line 1 has no column 'id', which the card names under `csv`. Columns: f, x",
        ),
        ({"image": "f", "labels": {"a": "x"}}, ("a", "b"), "`csv.labels` has columns for a, and the card's classes are a, b"),
        ({"image": "f", "boxes": {"columns": ["x"] * 4}}, ("a", "b"), "`csv.finding` names no column"),
        ({"image": "f", "boxes": {"columns": ["x"] * 4}}, ("a",), "l.csv line 2: x, x, x, x are one, one, one, one; expected four numbers"),
        (
            {"image": "f", "labels": {"a": "x"}, "table": "m.csv"},
            ("a",),
            "no file m.csv in .* which the card names in `csv.table`. There: img, l.csv",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(folder: Path, given: dict[str, Any], classes: tuple[str, ...], sentence: str) -> None:
    own_folders.table(folder / "l.csv", [("f", "x"), ("d.png", "one")])
    with pytest.raises(DataError, match=sentence):
        opened(folder, "csv", {"table": "l.csv", "images": "img", **given}, classes=classes)


def test_lists_are_followed_in_their_order_and_what_they_lack_is_drawn(folder: Path) -> None:
    rows = [("f", "x"), *[(name, 1) for name in ("a b.png", "é.jpg", "sub/c.png", "d.png")]]
    own_folders.table(folder / "l.csv", rows)
    (folder / "train.txt").write_text("é.jpg\nd\nimg/a b.png\nnone.png\n", encoding="utf-8")
    (folder / "test.txt").write_text("sub/c.png\nd.png\n", encoding="utf-8")
    split = {"by": "lists", "lists": {"train": "train.txt", "test": "test.txt"}, "validation_share": 0.25}
    reader = opened(folder, "csv", {"table": "l.csv", "images": "img", "image": "f", "labels": {"a": "x"}}, classes=("a",), split=split)
    splits = reader.split(reader.card.splits["own"])
    assert splits["test"] == ("sub/c.png",)
    assert len(splits["validation"]) == 1
    assert set(splits["train"]) | set(splits["validation"]) == {"é.jpg", "d.png", "a b.png"}
    found = odd(reader)
    assert found["names in a list without an image"] == "1: train.txt line 4"
    assert found["images in two splits"] == "1: test.txt line 2"
    assert {path.name for path in reader.label_files()} == {"l.csv", "train.txt", "test.txt"}
