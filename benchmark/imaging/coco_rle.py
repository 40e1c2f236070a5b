"""COCO's run-length code of a mask, read with every check: a file of annotations or predictions may come from anywhere.

pycocotools decodes a code that ends early without complaint and makes up the rest. SIIM-ACR's own code is another one (`readers.kit.rle`).
"""

from __future__ import annotations

import numpy as np

from benchmark.errors import UsageError

_FIRST, _LAST = 48, 111  # characters of the compressed form: six bits each, counted from "0"
_LONGEST = 6  # characters of one number: 30 bits, far beyond any image


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
    runs = checked_runs(segmentation, (rows, columns), where)
    # Runs of background and foreground in turn, counted down the columns.
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(columns, rows).T


def checked_runs(segmentation: object, size: tuple[int, int], where: str) -> np.ndarray:
    """(k,) int64 lengths of the runs of a code, without drawing them. Arguments and errors as of `decode`."""
    rows, columns = size
    given, counts = parts(segmentation, rows, where)
    if given != [rows, columns]:
        raise UsageError(f"{where}: the mask is {' x '.join(map(str, given))} pixels, its frame {rows} x {columns}. Map the mask first.")
    runs = _runs(counts, where)
    if len(runs) == 0 or runs.min() < 0 or runs.sum() != rows * columns:
        ends = f"ends at pixel {runs.sum():,} of {rows * columns:,}" if len(runs) and runs.min() >= 0 else "has a run of negative length"
        raise UsageError(f"{where}: the run-length code {ends if len(runs) else 'is empty'}. Was the file cut off or edited?")
    return runs


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
    runs: np.ndarray = numbers.copy()
    runs[1::2] = np.cumsum(numbers[1::2])
    runs[2::2] = np.cumsum(numbers[2::2])
    return runs
