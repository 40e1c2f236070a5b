from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.readers.kit.own_images import ImageFiles, filled_in


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    for name in ("img/a.png", "img/val/b.jpg", "img/x/twice.png", "img/y/twice.png", "img/case.1.PNG", "img/._a.png", "img/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return ImageFiles(tmp_path, "img", "mine")


@pytest.mark.parametrize(
    ("name", "beside", "place"),
    [
        ("a.png", "", "a.png"),
        ("a", "", "a.png"),
        ("./a.png", "", "a.png"),
        ("img/a.png", "", "a.png"),
        ("val\\b.jpg", "", "val/b.jpg"),
        ("b.jpg", "", "val/b.jpg"),
        ("b", "", "val/b.jpg"),
        ("/elsewhere/img/val/b.jpg", "", "val/b.jpg"),
        ("case.1", "", "case.1.PNG"),
        ("twice.png", "x", "x/twice.png"),
        ("twice.png", "img/x", "x/twice.png"),
        ("twice.png", "", None),  # two could be meant
        ("train/b.jpg", "", None),  # another image of the same name
        ("b.png", "", "val/b.jpg"),  # saved anew in another format
        ("c.png", "", None),
        ("", "", None),
    ],
)
def test_a_name_means_one_image_or_none(files: ImageFiles, name: str, beside: str, place: str | None) -> None:
    assert files.find(name, beside) == place


def test_places_are_in_order_without_litter(files: ImageFiles) -> None:
    assert list(files.paths) == ["a.png", "case.1.PNG", "val/b.jpg", "x/twice.png", "y/twice.png"]


@pytest.mark.parametrize(
    ("pattern", "place", "expected"),
    [
        ("masks/{stem}", "a/b.c.png", "masks/a/b.c"),
        ("{folder}/masks/{name}_m", "train/images/x.png", "train/masks/x_m"),
        ("{folder}/{name}", "x.png", "x"),
        ("{class}/{stem}", "x.png", "heart/x"),
    ],
)
def test_patterns_are_filled_in(pattern: str, place: str, expected: str) -> None:
    assert filled_in(pattern, place, "heart") == expected
