"""Promises about Pascal VOC's files: sizes, corners and difficult objects as written, and nothing doubtful."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import DataError
from benchmark.readers.kit.voc import read_voc


def write(folder: Path, content: str, name: str = "tb0001.xml") -> Path:
    path = folder / name
    path.write_text(content)
    return path


def voc(filename: str = "tb0001", size: tuple[object, object] = (2840, 2827), box: tuple[object, ...] = (1446, 250, 2007, 1017)) -> str:
    corners = "".join(f"<{name}>{value}</{name}>" for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return (
        f"<annotation><filename>{filename}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"<object><name>ActiveTuberculosis</name><difficult>1</difficult><bndbox>{corners}</bndbox></object>"
        f"<object><name>Other</name><bndbox>{corners}</bndbox></object></annotation>"
    )


@pytest.mark.parametrize("filename", ["tb0001", "tb0001.png"])
def test_sizes_corners_and_marks_are_as_written(tmp_path, filename):
    found = read_voc(write(tmp_path, voc(filename)), "tbx11k")
    assert found.size == (2840, 2827)
    assert [(o.name, o.corners, o.difficult) for o in found.objects] == [
        ("ActiveTuberculosis", (1446, 250, 2007, 1017), True),
        ("Other", (1446, 250, 2007, 1017), False),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (voc("tb0002"), "is of the image 'tb0002'"),
        (voc(size=(0, 512)), "0 x 512 pixels"),
        (voc(size=("", 512)), "no number"),
        (voc(box=("", 1, 2, 3)), "no number"),
        ("<annotation>", "not a readable annotation"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares a document type"),
    ],
)
def test_a_doubtful_file_is_an_error_with_its_name(tmp_path, content, sentence):
    with pytest.raises(DataError) as caught:
        read_voc(write(tmp_path, content), "tbx11k")
    assert sentence in str(caught.value)
    assert "tb0001.xml" in str(caught.value)
