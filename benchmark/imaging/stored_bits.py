"""Grey values out of the cells of a DICOM frame: which bits of a cell are the value, and which pixels are padding.

A cell may be wider than its value. Values may lie at its upper end, and old files keep overlays in the bits that are left.
Source: DICOM PS3.3 C.7.6.3 (Bits Stored, High Bit) and C.7.5.1.1.2 (Pixel Padding Value); PS3.5 8.1 (pixel cells).
"""

from __future__ import annotations

import numpy as np
import pydicom

OVERLAYS = range(0x6000, 0x6020, 2)  # groups
BIT_POSITION = 0x0102


def values_of(cells: np.ndarray, dataset: pydicom.Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """The stored values and the padding.

    Args:
        cells: (H, W) uint8 or uint16, as decoded.
        dataset: the header, for the layout of a cell, overlays kept inside it, and the padding's value.

    Returns:
        (H, W) of the same type, each in [0, 2**BitsStored), padding 0; and (H, W) bool, True on padding, or None where there is none.

    Raises:
        ValueError: header and cells contradict each other; says how.
    """
    bits_allocated, bits_stored = int(dataset.BitsAllocated), int(dataset.get("BitsStored") or 0)
    given = dataset.get("HighBit")
    high_bit = bits_stored - 1 if given is None else int(given)
    if not 1 <= bits_stored <= high_bit + 1 <= bits_allocated:
        raise ValueError(f"{bits_stored} bits stored with high bit {high_bit} do not lie in {bits_allocated} allocated bits")
    padding = _padding(cells, dataset, bits_allocated)
    if padding is not None:
        cells = np.where(padding, cells.dtype.type(0), cells)
    unused = cells >> (high_bit + 1) if high_bit + 1 < 8 * cells.itemsize else np.zeros_like(cells)
    if unused.any():
        cells = _without_unused(cells, unused, dataset, high_bit, bits_stored)
    shift = high_bit + 1 - bits_stored
    if shift:
        below = cells & ((1 << shift) - 1)
        if below.any() and not (cells >> bits_stored).any():
            raise ValueError(f"high bit {high_bit} puts the {bits_stored} bits of a value at the upper end, where no pixel has a bit set")
        cells = cells >> shift
    return cells, padding


def _padding(cells: np.ndarray, dataset: pydicom.Dataset, bits_allocated: int) -> np.ndarray | None:
    first, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if not isinstance(first, int):
        return None
    ends = [value & ((1 << bits_allocated) - 1) for value in (first, limit if isinstance(limit, int) else first)]
    found = (cells >= min(ends)) & (cells <= max(ends))
    return found if found.any() and not found.all() else None


def _without_unused(cells: np.ndarray, unused: np.ndarray, dataset: pydicom.Dataset, high_bit: int, bits_stored: int) -> np.ndarray:
    """Cells without what stands above the value. It is an overlay if the header says so, or if it is one plane that the picture does
    without; a picture that becomes rougher has lost its own upper bits, and then the header says too few of them."""
    for group in OVERLAYS:
        position = dataset.get((group, BIT_POSITION))
        if position is not None and isinstance(position.value, int) and high_bit < position.value < 8 * cells.itemsize:
            unused = unused & (np.iinfo(cells.dtype).max ^ 1 << (position.value - high_bit - 1))
    masked = cells & ((1 << (high_bit + 1)) - 1)
    if unused.any() and (len(np.unique(unused)) > 2 or _steps(masked, unused) > _steps(cells, unused)):
        raise ValueError(
            f"it holds values up to {int(cells.max()):,}, which do not fit the {bits_stored} bits that the header says are stored"
        )
    return masked


def _steps(values: np.ndarray, plane: np.ndarray) -> int:
    """Sum of the differences between neighbours on either side of an edge of `plane`."""
    wide, total = values.astype(np.int64), 0
    for axis in (0, 1):
        edges = np.diff(plane.astype(np.int64), axis=axis) != 0
        total += int(np.abs(np.diff(wide, axis=axis))[edges].sum())
    return total
