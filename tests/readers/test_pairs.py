from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import DataError
from tests import own_folders
from tests.own_cards import odd, opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abcdef":
        own_folders.save(tmp_path / "own" / f"{name}.png", own_folders.picture(ord(name)))
    return tmp_path / "own"


def test_captions_of_a_table(folder: Path) -> None:
    rows = [
        ("img", "text", "who"),
        ("a.png", " Clear\n lungs. ", "1"),
        ("b", "A nodule.", "2"),
        ("b.png", "Again.", "2"),
        ("z", "x", "3"),
        ("c.png", " ", ""),
    ]
    own_folders.table(folder / "t.csv", rows)
    reader = opened(folder, "pairs", {"table": "t.csv", "image": "img", "caption": "text", "patient": "who"})
    assert {i: (s.report, s.patient_id) for i in reader.ids for s in [reader.sample(i)]} == {
        "a.png": ("Clear lungs.", "1"),
        "b.png": ("A nodule.", "2"),
    }
    found = odd(reader)
    assert found["rows twice"] == "1: t.csv line 5"
    assert found["rows of an image that is not there"] == "1: t.csv line 6"
    assert found["images without a caption"].startswith("4: c.png; d.png")


def test_captions_in_files_are_read_and_their_bytes_are_in_the_identity(folder: Path) -> None:
    for name in "abc":
        (folder / f"{name}.txt").write_text(f"Report {name}.", encoding="utf-8")
    reader = opened(folder, "pairs", {"texts": "{stem}"})
    assert reader.sample("c.png").report == "Report c."
    assert [path.name for path in reader.texts_of("c.png")] == ["c.txt"]
    assert reader.card.targets == ("reports",)


@pytest.mark.parametrize("columns", [{"caption": "text"}, {"sections": {"findings": "text", "impression": "more"}}])
def test_a_tools_word_for_a_missing_cell_is_no_caption(folder: Path, columns: dict[str, object]) -> None:
    given = {"table": "t.csv", "image": "img", **columns}
    rows = [("img", "text", "more"), ("a", "nan", ""), ("b", "Clear lungs.", "NaN"), ("c", "None", "null")]
    own_folders.table(folder / "t.csv", rows)
    reader = opened(folder, "pairs", given)
    assert [reader.sample(i).report for i in reader.ids] == ["Clear lungs."]
    assert "read_anew" in reader.decided()
    own_folders.table(folder / "t.csv", [rows[0], ("b", "Clear lungs.", "")])
    assert "read_anew" not in opened(folder, "pairs", given).decided()


def test_a_text_file_of_such_a_word_is_no_caption(folder: Path) -> None:
    for name, text in (("a", "nan\n"), ("b", "Clear lungs.")):
        (folder / f"{name}.txt").write_text(text)
    assert opened(folder, "pairs", {"texts": "{stem}"}).ids == ("b.png",)


def test_one_picture_in_two_formats_does_not_share_a_caption(folder: Path) -> None:
    own_folders.save(folder / "a.jpg", own_folders.picture(1))
    (folder / "a.txt").write_text("Clear lungs.")
    with pytest.raises(DataError, match=r"a\.jpg and a\.png have one label file between them"):
        opened(folder, "pairs", {"texts": "{stem}"})


def test_no_caption_at_all_is_said(folder: Path) -> None:
    with pytest.raises(DataError, match="has a caption"):
        opened(folder, "pairs", {"texts": "texts/{stem}"})
