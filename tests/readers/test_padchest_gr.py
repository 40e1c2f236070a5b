"""Promises of the PadChest-GR reader: shares of the sides become pixels, sentences become phrases, and errors quote nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError
from benchmark.readers.base import open_reader

CARD = registry.dataset("padchest-gr")
# docs/sources.md, PadChest-GR: the entry of public code, but for its numbers.
POSITIVE = {
    "sentence_en": "Cardiomegaly.",
    "sentence_es": "Cardiomegalia.",
    "abnormal": True,
    "boxes": [[0.25, 0.5, 0.75, 0.875], [0.0, 0.0, 0.5, 0.125]],
    "extra_boxes": [[0.2, 0.5, 0.7, 0.8]],
    "labels": ["cardiomegaly"],
    "locations": ["cardiac"],
    "progression": None,
}
NEGATIVE = {"sentence_en": "No pleural effusion.", "sentence_es": "Sin derrame pleural.", "abnormal": False}
HEIGHT, WIDTH = 16, 40


def write(root: Path, entries=None, rows=None) -> Path:
    entries = [("1_a.png", [POSITIVE, NEGATIVE]), ("2_b.png", [NEGATIVE])] if entries is None else entries
    rows = [("1_a.png", "P1", "test"), ("1_a.png", "P1", "test"), ("2_b.png", "P2", "train")] if rows is None else rows
    listed = [{"StudyID": name[:1], "ImageID": name, "findings": findings} for name, findings in entries]
    (root / "grounded_reports_20240819.json").write_text(json.dumps(listed))
    table = ["StudyID,ImageID,PatientID,PatientSex_DICOM,label_group,split", *(f"1,{n},{p},F,Heart,{s}" for n, p, s in rows)]
    (root / "master_table.csv").write_text("\n".join(table) + "\n")
    (root / "PadChest_GR").mkdir(exist_ok=True)
    for name, _ in entries:
        PIL.Image.fromarray(np.full((HEIGHT, WIDTH), 40_000, np.uint16)).save(root / "PadChest_GR" / name)
    return root


def write_groups(root: Path, rows: list[tuple[str, str, str]]) -> Path:
    """The release with a table that says the group of each label: image, label, group."""
    write(root)
    table = ["StudyID,ImageID,label,PatientID,PatientSex_DICOM,label_group,split"]
    table += [f"1,{image},{label},P{image[0]},F,{group},{'test' if image[0] == '1' else 'train'}" for image, label, group in rows]
    (root / "master_table.csv").write_text("\n".join(table) + "\n")
    return root


def opened(root: Path):
    return open_reader(CARD, root)


def test_boxes_are_shares_of_the_sides_and_become_pixels(tmp_path: Path) -> None:
    sample = opened(write(tmp_path)).sample("1_a.png")
    (phrase,) = sample.phrases
    assert phrase.text == "Cardiomegaly."
    assert phrase.boxes_xywh.tolist() == [[10, 8, 20, 6], [0, 0, 20, 2]]
    assert np.array_equal(sample.boxes_xywh, phrase.boxes_xywh)
    assert (sample.positive, sample.patient_id, sample.sex, sample.image().dtype) == (True, "P1", "F", np.uint16)


def test_a_negative_sentence_is_no_phrase(tmp_path: Path) -> None:
    sample = opened(write(tmp_path)).sample("2_b.png")
    assert (sample.positive, sample.phrases, len(sample.boxes_xywh)) == (False, (), 0)


def test_the_split_is_the_releases_own(tmp_path: Path) -> None:
    assert opened(write(tmp_path)).split(CARD.splits["official"]) == {"train": ("2_b.png",), "validation": (), "test": ("1_a.png",)}


def test_what_is_counted_without_being_read_is_told(tmp_path: Path) -> None:
    lines = {check.what: check for check in opened(write(tmp_path)).verify().checks}
    assert (lines["sentences"].found, lines["positive sentences"].found, lines["boxes"].found) == ("3", "1", "2")
    assert lines["images"].verdict == "warning"  # stated, not compared with the files


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"boxes": [[0.75, 0.5, 0.25, 0.875]]}, "boxes 1: not 0 <= left < right <= 1"),
        ({"boxes": [[10, 8, 30, 14]]}, "boxes 1: .*turned into pixels"),
        ({"boxes": [[0.1, 0.2, 0.3]]}, "boxes 1"),
        ({"boxes": "none"}, "boxes is no list"),
        ({"extra_boxes": [[0, 0, 2, 2]]}, "extra_boxes 1"),
        ({"abnormal": "yes"}, "abnormal is neither true nor false"),
        ({"sentence_en": None}, "no sentence_en"),
        ({"labels": "cardiomegaly"}, "labels is no list of texts"),
    ],
)
def test_a_damaged_finding_is_named_by_its_place_and_quotes_nothing(tmp_path: Path, change: dict, sentence: str) -> None:
    write(tmp_path, entries=[("2_b.png", [NEGATIVE]), ("1_a.png", [NEGATIVE, POSITIVE | change])])
    with pytest.raises(DataError, match=rf"padchest-gr: grounded_reports, entry 2, finding 2.*{sentence}") as refused:
        opened(tmp_path)
    assert "Cardiomegal" not in str(refused.value)
    assert "1_a" not in str(refused.value)


@pytest.mark.parametrize(
    ("entries", "rows", "sentence"),
    [
        ([("1_a.png", []), ("1_a.png", [])], None, "entry 2: the same image as in entry 1"),
        ([("3_c.png", [])], None, "entry 1: master_table.csv has no row of the image"),
        ([("../1_a.png", [])], None, "entry 1: no ImageID that names a PNG file"),
        (None, [("1_a.png", "P1", "test"), ("1_a.png", "P2", "test")], "line 3: another patient or split of the image than in line 2"),
        (None, [("1_a.png", "P1", "val")], "line 2: the split is none of train, validation, test"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, entries, rows, sentence: str) -> None:
    (tmp_path / "PadChest_GR").mkdir()
    with pytest.raises(DataError, match=sentence):
        opened(write(tmp_path, entries, rows))


def test_a_sentence_is_in_the_groups_of_its_labels_wherever_the_table_says_them(tmp_path: Path) -> None:
    rows = [("1_a.png", "aortic elongation", "Aorta"), ("2_b.png", "Cardiomegaly ", "Heart"), ("2_b.png", "cardiomegaly", "Mediastinum")]
    reader = opened(write_groups(tmp_path, rows))
    (phrase,) = reader.sample("1_a.png").phrases
    assert phrase.groups == ("Heart", "Mediastinum")
    lines = {check.what: check.found for check in reader.verify().checks}
    assert lines["label groups"] == "3"


def test_a_table_without_labels_puts_no_sentence_into_a_group(tmp_path: Path) -> None:
    (phrase,) = opened(write(tmp_path)).sample("1_a.png").phrases
    assert phrase.groups == ()


@pytest.mark.parametrize("group", ["The patient has an enlarged heart, compared with the study of last year", "123456", "P1: x"])
def test_a_group_that_is_no_name_is_refused_without_quoting_it(tmp_path: Path, group: str) -> None:
    with pytest.raises(DataError, match=r"master_table\.csv line 2: the label_group is no name of a few words") as refused:
        opened(write_groups(tmp_path, [("1_a.png", "cardiomegaly", f'"{group}"')]))
    assert group not in str(refused.value)
