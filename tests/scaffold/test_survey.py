from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.scaffold.survey import survey


def test_files_are_told_apart_by_their_endings_and_litter_is_passed_over(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/ü n.jpg", "a/._b.png", "Thumbs.db", "__MACOSX/c.png", "labels.csv", "coco.json", "read me.txt", "x.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    found = survey(tmp_path)
    assert [path.as_posix() for path in found.images] == ["a/ü n.jpg", "b.PNG"]
    assert [list(map(str, paths)) for paths in (found.tables, found.documents, found.texts, found.others)] == [
        ["labels.csv"],
        ["coco.json"],
        ["read me.txt"],
        ["x.zip"],
    ]


@pytest.mark.parametrize(("made", "sentence"), [((), "no such folder"), (("a.txt",), "holds 1 files and no image")])
def test_a_folder_without_an_image_is_refused(tmp_path: Path, made: tuple[str, ...], sentence: str) -> None:
    folder = tmp_path / "own"
    for name in made:
        folder.mkdir()
        (folder / name).touch()
    with pytest.raises(UsageError, match=sentence):
        survey(folder)
