"""How large a radiograph may say it is before anything is decoded.

A file of a few kilobytes can declare a picture of gigabytes, and decoders reserve what is declared. The largest radiographs (film read at
0.05 mm, 35 x 43 cm) have 60 megapixels; those of the datasets here have 25 at most.
"""

from __future__ import annotations

MOST_SIDE = 20_000  # pixels
MOST_PIXELS = 100_000_000

_J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ (ISO/IEC 15444-1, A.4.1 and A.5.1)
_JPEG_START = b"\xff\xd8"
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # among 0xC0 to 0xCF: tables and extensions (ISO/IEC 10918-1, table B.1)
_JPEG_LS_FRAME = 0xF7  # ISO/IEC 14495-1, C.1.1


def fault_of(height: int, width: int) -> str | None:
    """What is wrong with a declared size, for a sentence that names the file; None if it may be decoded."""
    if height < 1 or width < 1:
        return f"it declares {height:,} rows x {width:,} columns, which is no picture"
    if max(height, width) <= MOST_SIDE and height * width <= MOST_PIXELS:
        return None
    return (
        f"it declares {height:,} rows x {width:,} columns and is not decoded; at most {MOST_SIDE:,} a side and "
        f"{MOST_PIXELS // 10**6} megapixels are"
    )


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """(height, width) that a JPEG, JPEG-LS or JPEG 2000 codestream declares, which its decoder goes by; None where it says none."""
    at = frame.find(_J2K_START)
    if 0 <= at < 512 and not frame.startswith(_JPEG_START):  # alone, or after the boxes of a JP2 file
        x, y, x_offset, y_offset = (int.from_bytes(frame[at + 8 + 4 * k : at + 12 + 4 * k], "big") for k in range(4))
        return y - y_offset, x - x_offset
    at = 2 if frame.startswith(_JPEG_START) else len(frame)
    while at + 9 <= len(frame):
        if frame[at] != 0xFF:
            return None
        kind = frame[at + 1]
        if kind == 0xFF:  # padding
            at += 1
        elif (0xC0 <= kind <= 0xCF and kind not in _NO_FRAME) or kind == _JPEG_LS_FRAME:
            return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(frame[at + 7 : at + 9], "big")
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def run_length_bytes(frame: bytes) -> int:
    """Bytes that a frame of DICOM's run lengths decodes to (PS3.5, annex G); its planes are as long as the first. 0 where it says none."""
    n_planes, first, second = (int.from_bytes(frame[4 * k : 4 * k + 4], "little") for k in range(3))
    at, end, length = first, second if n_planes > 1 else len(frame), 0
    while 64 <= at < end:
        code = frame[at]
        if code < 128:
            length, at = length + code + 1, at + code + 2
        elif code > 128:
            length, at = length + 257 - code, at + 2
        else:
            at += 1
    return n_planes * length
