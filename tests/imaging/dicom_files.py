"""Small DICOM files of every kind, for the tests of what reads them."""

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


def gradient(height: int = 48, width: int = 72, bits: int = 8) -> np.ndarray:
    """Every pixel differs from its mirror images, so that a swap or a flip shows."""
    values = np.arange(height * width).reshape(height, width) * 7 % (1 << bits)
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def dataset_of(pixels: np.ndarray, bits: int = 8, syntax: str = uid.ExplicitVRLittleEndian, **header: object) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid.generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 if bits == 8 else 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, 0
    dataset.PixelData = pixels.tobytes()
    for name, value in header.items():
        setattr(dataset, name, value)
    return dataset


def write(folder: Path, dataset: pydicom.Dataset) -> Path:
    path = folder / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def baseline(pixels: np.ndarray, **header: object) -> pydicom.Dataset:
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    dataset = dataset_of(pixels, syntax=uid.JPEGBaseline8Bit, **header)
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    return dataset


def recompressed(source: Path, target: Path, syntax: int) -> Path:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(target))
    assert writer.Write()
    return target


def assert_named(error: pytest.ExceptionInfo[Exception], path: Path) -> None:
    assert str(path) in str(error.value)
    assert "case-7" in str(error.value)
