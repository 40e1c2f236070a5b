"""One image of somebody's own data, whatever holds it: DICOM, or a picture that Pillow reads. The ending of the name decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.imaging.dicom import read_dicom, size_of_dicom
from benchmark.imaging.picture import read_grey, size_of

DICOM_ENDINGS = (".dcm", ".dicom")
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", *DICOM_ENDINGS)


def is_dicom(path: Path) -> bool:
    return path.suffix.lower() in DICOM_ENDINGS


def read_image(path: Path, sample_id: str) -> np.ndarray:
    """(H, W) uint8 or uint16, larger is brighter; colour becomes grey by Pillow's luma. Raises ImageError as its two readers do."""
    return read_dicom(path, sample_id).pixels if is_dicom(path) else read_grey(path, sample_id)


def size_of_image(path: Path, sample_id: str) -> tuple[int, int]:
    """(height, width) in pixels as the image is shown, from the file's header. Raises ImageError."""
    return size_of_dicom(path, sample_id) if is_dicom(path) else size_of(path, sample_id)
