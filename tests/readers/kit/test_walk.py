"""What lies in a data folder is listed, whatever else lies there; a folder that cannot be listed is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark.errors import DataError
from benchmark.readers.kit.walk import files_in, walk


def test_a_folder_that_cannot_be_listed_is_named_and_one_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert files_in(tmp_path / "nowhere", ".png") == ()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    assert files_in(tmp_path / "images", ".png") == (tmp_path / "images" / "a.png",)
    assert files_in(tmp_path / "images" / "a.png", ".png") == ()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(DataError, match=r"The folder .*circle cannot be listed: Too many levels of symbolic links\. May you read it"):
        files_in(tmp_path / "circle", ".png")


def test_a_folder_below_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images" / "closed").mkdir(parents=True)
    scandir = os.scandir

    def refused(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match=r"The folder .*closed cannot be listed: Permission denied\. May you read it"):
        list(walk(tmp_path))
