"""A grey picture as the DICOM file RSNA and SIIM published: Secondary Capture, JPEG Baseline, 8 bit, with their header.

Tags and values follow a dump of one real file of each release (docs/sources.md, RSNA and SIIM-ACR). Nothing here knows findings.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import config
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEGBaseline8Bit, SecondaryCaptureImageStorage

from benchmark.phantom.seeds import number_of

JPEG_QUALITY = 80  # gives the 100 to 150 kB of the real files
_ROOT = "1.2.276.0.7230010.3.1"  # the tool chain's own prefix (DCMTK)


@dataclass(frozen=True)
class HeaderValues:
    """Header values that differ from file to file. `pixel_spacing_mm` is row and column spacing."""

    patient_name: str
    sex: str
    age: int
    view: str
    pixel_spacing_mm: float
    study_uid: str
    series_uid: str
    instance_uid: str


def uids(*words: str | int) -> tuple[str, str, str]:
    """Study, series and instance UID in the form of the releases, depending on `words` alone."""
    host, serial = number_of("host", *words, below=32_000), 100_000 + number_of("serial", *words, below=899_997)
    second = 1_517_870_000 + number_of("second", *words, below=9_999)
    study, series, instance = (f"{_ROOT}.{level}.8323329.{host}.{second}.{serial + last}" for level, last in ((2, 1), (3, 0), (4, 2)))
    return study, series, instance


def write_secondary_capture(path: Path, grey: np.ndarray, identity: HeaderValues) -> None:
    """Writes grey, (H, W) uint8, as DICOM with encapsulated JPEG Baseline pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID(identity.instance_uid)
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    meta.ImplementationClassUID = UID("1.2.276.0.7230010.3.0.3.6.0")
    meta.ImplementationVersionName = "OFFIS_DCMTK_360"
    dataset = FileDataset(path, _header(identity), file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = grey.shape
    jpeg = io.BytesIO()
    Image.fromarray(grey).save(jpeg, "JPEG", quality=JPEG_QUALITY)
    dataset.PixelData = encapsulate([jpeg.getvalue()])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    with config.disable_value_validation():
        dataset.save_as(path, enforce_file_format=True)


def _header(identity: HeaderValues) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = UID(identity.instance_uid)
    dataset.StudyDate = "19010101"
    dataset.StudyTime = "000000.00"
    dataset.AccessionNumber = ""
    dataset.Modality = "CR"
    dataset.ConversionType = "WSD"
    dataset.ReferringPhysicianName = ""
    dataset.SeriesDescription = f"view: {identity.view}"
    dataset.PatientName = identity.patient_name
    dataset.PatientID = identity.patient_name
    dataset.PatientBirthDate = ""
    dataset.PatientSex = identity.sex
    with config.disable_value_validation():  # a bare number, as in the releases: the standard wants "062Y"
        dataset.PatientAge = str(identity.age)
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = identity.view
    dataset.StudyInstanceUID = UID(identity.study_uid)
    dataset.SeriesInstanceUID = UID(identity.series_uid)
    dataset.StudyID = ""
    dataset.SeriesNumber = "1"
    dataset.InstanceNumber = "1"
    dataset.PatientOrientation = ""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelSpacing = [identity.pixel_spacing_mm, identity.pixel_spacing_mm]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    return dataset
