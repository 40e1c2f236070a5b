"""What lies in a data folder is listed, whatever else lies there; a folder that cannot be listed is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import DataError
from benchmark.readers.kit.walk import files_in


def test_a_folder_that_cannot_be_listed_is_named_and_one_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert files_in(tmp_path / "nowhere", ".png") == ()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    assert files_in(tmp_path / "images", ".png") == (tmp_path / "images" / "a.png",)
    assert files_in(tmp_path / "images" / "a.png", ".png") == ()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(DataError, match=r"The folder .*circle cannot be listed: Too many levels of symbolic links\. May you read it"):
        files_in(tmp_path / "circle", ".png")
