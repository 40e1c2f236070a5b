"""COCO's run-length code of a mask: written by pycocotools, read with every check, since a file of predictions may come from anywhere.

pycocotools decodes a code that ends early without complaint and makes up the rest. SIIM-ACR's own code is another one (`readers.kit.rle`).
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from benchmark.errors import UsageError

_FIRST, _LAST = 48, 111  # characters of the compressed form: six bits each, counted from "0"
_LONGEST = 6  # characters of one number: 30 bits, far beyond any image


def encode(masks: np.ndarray) -> list[bytes]:
    """COCO's compressed text of each class of one image; `masks`: (C, S, S) bool."""
    return [code["counts"] for code in coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))]


def decode(segmentation: object, size: int | tuple[int, int], where: str) -> np.ndarray:
    """Mask of one image and class.

    Args:
        segmentation: `{"size": [S, S], "counts": ...}` with COCO's compressed text, or its plain list of numbers.
        size: rows and columns, or one number for those of a square frame.
        where: file and row, for the error message.

    Returns:
        Bool of that size.

    Raises:
        UsageError: another size, text that is no such code, or runs that do not fill the frame exactly.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    counted = runs(segmentation, (rows, columns), where)
    # Runs of background and foreground in turn, counted down the columns.
    return np.repeat(np.arange(len(counted)) % 2 == 1, counted).reshape(columns, rows).T


def runs(segmentation: object, size: tuple[int, int], where: str) -> np.ndarray:
    """(k,) int64 lengths of background and foreground in turn, counted down the columns, as a code is checked before its mask is drawn.

    Arguments and errors are those of `decode`.
    """
    rows, columns = size
    given, counts = parts(segmentation, rows, where)
    if given != [rows, columns]:
        raise UsageError(f"{where}: the mask is {' x '.join(map(str, given))} pixels, its frame {rows} x {columns}. Map the mask first.")
    found = _runs(counts, where)
    if len(found) == 0 or found.min() < 0 or found.sum() != rows * columns:
        ends = f"ends at pixel {found.sum():,} of {rows * columns:,}" if len(found) and found.min() >= 0 else "has a run of negative length"
        raise UsageError(f"{where}: the run-length code {ends if len(found) else 'is empty'}. Was the file cut off or edited?")
    return found


def extent(counted: np.ndarray, rows: int) -> tuple[float, float, float, float] | None:
    """Box of a mask, x, y, width, height in pixels, from the lengths that `runs` gives; None of an empty mask."""
    ends = np.cumsum(counted)
    starts, ends = ends[0::2][: len(counted) // 2], ends[1::2]  # of foreground
    there = ends > starts
    starts, last = starts[there], ends[there] - 1
    if len(starts) == 0:
        return None
    across = bool((starts // rows != last // rows).any())  # a run over the foot of a column goes on at the head of the next
    top, bottom = (0, rows - 1) if across else (int((starts % rows).min()), int((last % rows).max()))
    left, right = int(starts[0] // rows), int(last[-1] // rows)
    return float(left), float(top), float(right - left + 1), float(bottom - top + 1)


def parts(segmentation: object, size: int, where: str) -> tuple[list[int], object]:
    """Rows and columns that a code says, and the code itself; arguments as of `decode`. Raises UsageError for what is no code at all."""
    try:
        if isinstance(segmentation, dict):
            return [int(side) for side in segmentation["size"]], segmentation["counts"]
    except (TypeError, KeyError, ValueError, OverflowError):
        pass
    raise UsageError(f'{where}: no COCO run-length code; expected "segmentation": {{"size": [{size}, {size}], "counts": ...}}.')


def _runs(counts: object, where: str) -> np.ndarray:
    """(k,) int64 lengths of the runs."""
    if isinstance(counts, list):
        if not all(isinstance(run, int) and not isinstance(run, bool) and abs(run) < 2**31 for run in counts):
            raise UsageError(f"{where}: the run-length code holds something that is no whole number.")
        return np.array(counts, np.int64)
    if not isinstance(counts, str):
        raise UsageError(f"{where}: the run-length code is a {type(counts).__name__}; expected text or a list of numbers.")
    codes = np.array([ord(character) for character in counts], np.int64)
    if len(codes) == 0:
        return codes
    if codes.min() < _FIRST or codes.max() > _LAST:
        strange = counts[int(np.argmax((codes < _FIRST) | (codes > _LAST)))]
        raise UsageError(f"{where}: the run-length code holds the character {strange!r}, which COCO's code never uses.")
    bits = codes - _FIRST
    ends = np.flatnonzero((bits & 0x20) == 0)  # the sixth bit says that the number goes on
    starts = np.r_[0, ends[:-1] + 1] if len(ends) else ends
    if len(ends) == 0 or ends[-1] != len(bits) - 1 or (ends - starts).max() >= _LONGEST:
        raise UsageError(f"{where}: the run-length code breaks off within a number. Was the file cut off?")
    place = np.arange(len(bits)) - np.repeat(starts, ends - starts + 1)
    numbers: np.ndarray = np.add.reduceat((bits & 0x1F) << (5 * place), starts)
    negative = (bits[ends] & 0x10) != 0
    numbers = numbers - (negative.astype(np.int64) << (5 * (ends - starts + 1)))
    # From the fourth run on, the text holds the difference to the run before the last.
    lengths: np.ndarray = numbers.copy()
    lengths[1::2] = np.cumsum(numbers[1::2])
    lengths[2::2] = np.cumsum(numbers[2::2])
    return lengths
