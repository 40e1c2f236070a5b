"""A file that declares more than a radiograph can have is refused before anything is decoded."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from benchmark.errors import ImageError
from benchmark.imaging import dicom, limits
from benchmark.imaging.dicom import read_dicom
from tests.imaging.dicom_files import assert_named, dataset_of, gradient, write


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless])
@pytest.mark.parametrize("sides", [(60_000, 60_000), (limits.MOST_SIDE + 1, 16), (20_000, 20_000)])
def test_a_declared_size_beyond_the_limit_is_refused_before_decoding(tmp_path: Path, monkeypatch, syntax: str, sides: tuple) -> None:
    monkeypatch.setattr(dicom, "_decode", lambda *_: pytest.fail("decoded"))
    dataset = dataset_of(gradient(), 8, syntax)
    dataset.Rows, dataset.Columns = sides
    if uid.UID(syntax).is_encapsulated:
        dataset.PixelData = encapsulate([b"\0" * 64])
    path = write(tmp_path, dataset)
    with pytest.raises(ImageError, match=rf"declares {sides[0]:,} rows x {sides[1]:,} columns and is not decoded") as error:
        read_dicom(path, "case-7")
    assert_named(error, path)


def _j2k(height: int, width: int) -> bytes:
    return b"\xff\x4f\xff\x51" + bytes.fromhex("0029 0000") + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes(30)


def _jpeg(height: int, width: int, kind: int) -> bytes:
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff" + bytes([kind]) + b"\x00\x0b\x08" + size + b"\x01\x01\x11\x00\xff\xd9"


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        (_j2k(700, 600), (700, 600)),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60) + _j2k(70_000, 600), (70_000, 600)),
        (_jpeg(480, 640, 0xC0), (480, 640)),
        (_jpeg(480, 640, 0xC3), (480, 640)),
        (_jpeg(480, 640, 0xF7), (480, 640)),
        (b"\xff\xd8\xff\xd9", None),
        (b"\xff\xd8\x00" + bytes(20), None),  # no marker where one belongs
        (b"", None),
    ],
)
def test_the_size_of_a_codestream_is_read_from_its_own_header(frame: bytes, size: tuple[int, int] | None) -> None:
    assert limits.codestream_size(frame) == size


@pytest.mark.parametrize(("syntax", "frame"), [(uid.JPEG2000, _j2k(60_000, 60_000)), (uid.JPEGLSLossless, _jpeg(60_000, 60_000, 0xF7))])
def test_a_codestream_that_declares_more_than_its_header_is_refused_before_decoding(tmp_path: Path, syntax: str, frame: bytes) -> None:
    dataset = dataset_of(gradient(), 8, syntax)
    dataset.PixelData = encapsulate([frame + b"\xff\xd9"])
    with pytest.raises(ImageError, match="of its codestream, it declares 60,000 rows x 60,000 columns"):
        read_dicom(write(tmp_path, dataset), "case-7")


def test_a_deflated_data_set_that_unpacks_to_more_than_may_be_is_not_read(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path, dataset_of(gradient(), 8, uid.DeflatedExplicitVRLittleEndian))
    assert (read_dicom(path, "case-7").pixels == gradient()).all()
    monkeypatch.setattr(dicom, "_MOST_INFLATED", 1000)
    with pytest.raises(ImageError, match="deflated data set unpacks to more than") as error:
        read_dicom(path, "case-7")
    assert_named(error, path)
