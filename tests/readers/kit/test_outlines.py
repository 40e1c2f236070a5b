"""Promises about where SCR's outlines may lie: folds or none, names with blanks or underscores, GIF or PNG, and never two sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import DataError
from benchmark.readers.kit.outlines import READ, find_outlines, fold_by_number, structure_of


def write(root: Path, folder: str, names: tuple[str, ...] = ("JPCLN001", "JPCNN002"), ending: str = ".gif") -> None:
    """Empty files: only places and names are looked at."""
    for structure in READ:
        path = root / folder / structure.replace(" ", "_")
        path.mkdir(parents=True, exist_ok=True)
        for name in names:
            (path / f"{name}{ending}").touch()


@pytest.mark.parametrize(
    ("folder", "structure"),
    [
        ("left lung", "left lung"),
        ("left_lung", "left lung"),
        ("Right-Lung", "right lung"),
        ("heart_png", "heart"),
        ("left_clavicle", "left clavicle"),
        ("lungs", None),
        ("left lung 2nd", None),
        ("images", None),
    ],
)
def test_folders_are_known_by_their_common_names(folder, structure):
    assert structure_of(folder) == structure


@pytest.mark.parametrize("folders", [("fold1/masks", "fold2/masks"), ("scr/Fold1", "scr/Fold2")])
def test_folders_of_folds_decide(tmp_path, folders):
    write(tmp_path, folders[0], ("JPCLN002",))
    write(tmp_path, folders[1], ("JPCLN001",))
    found = find_outlines(tmp_path, "jsrt")
    assert {stem: set(folds) for stem, folds in found.files.items()} == {"JPCLN002": {"fold1"}, "JPCLN001": {"fold2"}}
    assert (found.split_on_disk, found.layout) == (True, "outlines in two folds")


@pytest.mark.parametrize("folder", ["", "masks", "JSRT/masks/masks"])
def test_without_folds_odd_numbers_are_fold_1(tmp_path, folder):
    write(tmp_path, folder)
    found = find_outlines(tmp_path, "jsrt")
    assert {stem: set(folds) for stem, folds in found.files.items()} == {"JPCLN001": {"fold1"}, "JPCNN002": {"fold2"}}
    assert not found.split_on_disk
    assert (fold_by_number("JPCLN001"), fold_by_number("JPCNN010")) == ("fold1", "fold2")


def test_png_is_read_where_there_is_no_gif(tmp_path):
    write(tmp_path, "masks", ending=".png")
    assert find_outlines(tmp_path, "jsrt").ending == ".png"
    write(tmp_path, "masks", ending=".gif")
    found = find_outlines(tmp_path, "jsrt")
    assert {path.suffix for folds in found.files.values() for files in folds.values() for path in files.values()} == {".gif"}


def test_outlines_of_bones_are_passed_over(tmp_path):
    write(tmp_path, "masks")
    without = find_outlines(tmp_path, "jsrt")
    bone = tmp_path / "masks" / "left clavicle" / "JPCLN001.gif"
    bone.parent.mkdir()
    bone.touch()
    assert find_outlines(tmp_path, "jsrt") == without


def test_a_second_observer_beside_scrs_own_folders_is_not_read(tmp_path):
    for folder in ("fold1/masks", "fold2/masks"):
        write(tmp_path, folder, ("JPCLN001",) if "1" in folder else ("JPCLN002",))
    write(tmp_path, "second observer")
    assert find_outlines(tmp_path, "jsrt").folders == ("fold1/masks", "fold2/masks")


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        ((), "found nothing in"),
        (("fold1/masks",), "found only fold1/masks"),
        (("masks", "copy"), "more than once: in copy, masks"),
        (("fold1", "fold2", "masks"), "found only fold1, fold2, masks"),
        (("fold1/a", "fold1/b", "fold2/a"), "more than once"),
    ],
)
def test_no_set_half_a_set_or_two_sets_are_an_error_that_names_folders_only(tmp_path, folders, sentence):
    for folder in folders:
        write(tmp_path, folder)
    with pytest.raises(DataError) as caught:
        find_outlines(tmp_path, "jsrt")
    assert sentence in str(caught.value)
    assert "JPC" not in str(caught.value)


def test_one_structure_under_two_names_is_an_error(tmp_path):
    write(tmp_path, "masks")
    (tmp_path / "masks" / "left lung").mkdir()
    (tmp_path / "masks" / "left lung" / "JPCLN001.gif").touch()
    with pytest.raises(DataError, match=r"both hold \.gif outlines of the left lung"):
        find_outlines(tmp_path, "jsrt")


def test_a_mask_without_a_number_has_no_fold(tmp_path):
    write(tmp_path, "masks", ("JPCLN_a",))
    with pytest.raises(DataError, match="no number at the end of its name"):
        find_outlines(tmp_path, "jsrt")
