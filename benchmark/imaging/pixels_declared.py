"""Whether the pixel data of a DICOM file is that of its header: decoders take as much of it as the header asks for, and say nothing.

Too few columns in the header shear the picture, too few rows crop it, and a codestream that was cut has a lower part that is invented.
"""

from __future__ import annotations

import io

import PIL.Image
import pydicom
from pydicom import uid
from pydicom.encaps import get_frame

from benchmark.errors import ImageError
from benchmark.imaging import limits

_END_OF_CODESTREAM = b"\xff\xd9"


def require(dataset: pydicom.FileDataset, syntax: uid.UID, size: tuple[int, int], is_jpeg: bool, where: str) -> None:
    """Looks at the pixel data without decoding it.

    Args:
        size: rows and columns of the header.
        is_jpeg: Pillow will decode it.
        where: file and id, for the sentence.

    Raises:
        ImageError: it is cut off, has a colour's channels, or other rows and columns than the header.
    """
    if not syntax.is_encapsulated:
        _require_no_more(len(dataset.PixelData), dataset, size, where)
        return
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if syntax == uid.RLELossless:
        _require_no_more(limits.run_length_bytes(frame), dataset, size, where)
    else:
        _require_codestream(frame, size, is_jpeg, where)


def _require_codestream(frame: bytes, size: tuple[int, int], is_jpeg: bool, where: str) -> None:
    if not frame.rstrip(b"\0").endswith(_END_OF_CODESTREAM):
        raise ImageError(f"{where}: the pixel data is cut off (no end marker). Download it again.")
    inside = limits.codestream_size(frame)
    if inside is not None and (fault := limits.fault_of(*inside)) and inside[0] != 0:  # JPEG may give its height after the scan
        raise ImageError(f"{where}: of its codestream, {fault}. Is this the radiograph?")
    if is_jpeg:
        with PIL.Image.open(io.BytesIO(frame), formats=("JPEG",)) as picture:
            inside = picture.size[::-1]
            if picture.mode != "L":
                raise ImageError(f"{where}: the header says grey, the JPEG inside is {picture.mode}.")
    rows, columns = size
    if inside is not None and inside not in ((rows, columns), (0, columns)):
        raise ImageError(
            f"{where}: the header says {rows} rows x {columns} columns, "
            f"the codestream inside has {inside[0]} x {inside[1]}. Is this an edited copy?"
        )


def _require_no_more(n_bytes: int, dataset: pydicom.FileDataset, size: tuple[int, int], where: str) -> None:
    rows, columns = size
    each = int(dataset.BitsAllocated) // 8
    asked = rows * columns * each
    if n_bytes - asked >= max(min(rows, columns), 2) * each:  # one byte pads an odd number
        raise ImageError(
            f"{where}: it holds more pixels than the header's {rows} rows x {columns} columns "
            f"({n_bytes:,} bytes for {asked:,}). Is this an edited copy?"
        )
