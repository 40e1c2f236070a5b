"""Pixel data that is not what its header says is an error and never a cropped, sheared or invented picture."""

from __future__ import annotations

import io
from pathlib import Path

import gdcm
import numpy as np
import PIL.Image
import PIL.ImageFile
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from benchmark.errors import ImageError
from benchmark.imaging.dicom import read_dicom
from tests.imaging.dicom_files import assert_named, baseline, dataset_of, gradient, recompressed, write


def test_a_jpeg_whose_tail_was_never_downloaded_is_an_error(tmp_path: Path) -> None:
    dataset = baseline(gradient(200, 300))
    whole = dataset.PixelData
    dataset.PixelData = whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)
    with pytest.raises(ImageError, match="cut off") as error:
        read_dicom(write(tmp_path, dataset), "case-7")
    assert_named(error, tmp_path / "image.dcm")


def test_a_jpeg_of_other_rows_and_columns_than_the_header_is_an_error(tmp_path: Path) -> None:
    dataset = baseline(gradient(24, 40))
    dataset.Rows, dataset.Columns = 40, 24
    with pytest.raises(ImageError, match="40 rows x 24 columns, the codestream inside has 24 x 40"):
        read_dicom(write(tmp_path, dataset), "case-7")


@pytest.mark.parametrize("sides", [(72, 48), (24, 144)])
@pytest.mark.parametrize("name", ["JPEG2000Lossless", "JPEGLosslessProcess14_1", "JPEGLSLossless"])
def test_a_codestream_of_other_rows_and_columns_than_the_header_is_an_error_in_every_syntax(tmp_path: Path, name: str, sides) -> None:
    source = write(tmp_path, dataset_of(gradient()))
    dataset = pydicom.dcmread(recompressed(source, tmp_path / "compressed.dcm", getattr(gdcm.TransferSyntax, name)))
    dataset.Rows, dataset.Columns = sides
    with pytest.raises(ImageError, match=f"{sides[0]} rows x {sides[1]} columns, the codestream inside has 48 x 72"):
        read_dicom(write(tmp_path, dataset), "case-7")


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian, uid.RLELossless])
@pytest.mark.parametrize("header", [{"Columns": 44}, {"Columns": 63}, {"Rows": 33}, {"Rows": 47}])
@pytest.mark.parametrize("bits", [8, 12])
def test_more_pixels_than_the_header_says_are_an_error(tmp_path: Path, syntax: str, header: dict, bits: int) -> None:
    dataset = dataset_of(gradient(48, 64, bits), bits)
    if syntax == uid.RLELossless:
        dataset.compress(syntax)
    dataset.file_meta.TransferSyntaxUID = syntax
    for name, value in header.items():
        setattr(dataset, name, value)
    path = write(tmp_path, dataset)
    with pytest.raises(ImageError, match="it holds more pixels than the header's") as error:
        read_dicom(path, "case-7")
    assert_named(error, path)


@pytest.mark.parametrize("shape", [(5, 7), (5, 1), (1, 1)])
def test_the_byte_that_pads_an_odd_number_of_pixels_is_no_pixel(tmp_path: Path, shape: tuple[int, int]) -> None:
    dataset = dataset_of(gradient(*shape))
    dataset.PixelData += b"\0"
    assert (read_dicom(write(tmp_path, dataset), "a").pixels == gradient(*shape)).all()


def test_a_colour_jpeg_under_a_grey_header_is_an_error(tmp_path: Path) -> None:
    stream = io.BytesIO()
    PIL.Image.fromarray(np.stack([gradient()] * 3, axis=-1)).save(stream, "JPEG")
    dataset = baseline(gradient())
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(ImageError, match="the JPEG inside is RGB"):
        read_dicom(write(tmp_path, dataset), "case-7")
