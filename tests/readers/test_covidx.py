"""Promises of the COVIDx reader: official lists read from the right, and every listed image there once."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.errors import DataError, PartialRelease
from benchmark.readers.base import open_reader
from benchmark.readers.covidx import read_list

CARD = registry.dataset("covidx")


def release(root: Path, train: str = "1 a.png normal rsna\n2 b.png COVID-19 cohen\n", test: str = "3 c d c.png pneumonia rsna\n") -> Path:
    for subset, lines in (("train", train), ("test", test)):
        (root / subset).mkdir(parents=True)
        (root / f"{subset}.txt").write_text(lines)
        for line in lines.splitlines():
            (root / subset / line.rsplit(" ", 3)[1]).touch()
    return root


def test_images_are_those_of_both_lists_with_patient_and_class(tmp_path: Path) -> None:
    reader = open_reader(CARD, release(tmp_path))
    assert reader.ids == ("a.png", "b.png", "c.png")
    assert [reader.patient_of(i) for i in reader.ids] == ["1", "2", "3 c d"]
    assert [reader.labels_of(i).tolist() for i in reader.ids] == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_an_image_that_is_listed_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 file names stand in both lists or twice in one"):
        open_reader(CARD, release(tmp_path, test="3 a.png pneumonia rsna\n"))


def test_a_missing_image_is_named_as_a_part_of_the_release(tmp_path: Path) -> None:
    (release(tmp_path) / "train" / "b.png").unlink()
    with pytest.raises(PartialRelease, match=r"1 of 3 listed images are not in train/ and test/, for example b\.png"):
        open_reader(CARD, tmp_path)


@pytest.mark.parametrize(
    ("lines", "said"),
    [("a.png normal rsna\n", r"train\.txt line 1 has 3 fields, expected patient, file, class and source"), ("", r"train\.txt is empty")],
)
def test_a_list_that_is_cut_off_is_named(tmp_path: Path, lines: str, said: str) -> None:
    (tmp_path / "train.txt").write_text(lines)
    with pytest.raises(DataError, match=said):
        read_list(tmp_path / "train.txt", "covidx", CARD.classes)
