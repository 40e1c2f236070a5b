"""SIIM-ACR's run-length code: relative, column-major, counted from pixel 0.

Pairs `gap run gap run ...`: a gap is the number of background pixels since the end of the previous run, and pixels are numbered down the
columns. A standard decoder (absolute, row-major, from 1) reads the same text without complaint and gives garbage: nothing else decodes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from benchmark.errors import DataError
from benchmark.readers.base import Check
from benchmark.readers.kit.splits import compare

EMPTY = "-1"

_WHOLE_NUMBER = re.compile(r"-?[0-9]+")


def decode_relative(text: str, height: int, width: int, where: str = "run-length code") -> np.ndarray:
    """Mask of one instance.

    Args:
        text: `-1` for an empty mask, else whole numbers separated by blanks; blanks at either end are ignored.
        height: rows of the image in pixels.
        width: columns of the image in pixels.
        where: file, line and id, for the error message.

    Returns:
        (height, width) bool.

    Raises:
        DataError: as `runs_relative`.

    Source: docs/sources.md, SIIM-ACR.
    """
    counts = runs_relative(text, height * width, where)
    flat = np.zeros(height * width, dtype=bool)
    covered = np.repeat(np.arange(counts.size) % 2 == 1, counts)
    flat[: covered.size] = covered
    return flat.reshape(width, height).T


def runs_relative(text: str, n_pixels: int, where: str = "run-length code") -> np.ndarray:
    """The checked numbers of a code, without drawing it: (2k,) int64, gap and run alternating; empty for `-1`.

    Raises:
        DataError: nothing in the field, something that is no whole number, an odd count, a negative number, or runs beyond the last pixel.
    """
    tokens = text.split()
    if tokens == [EMPTY]:
        return np.zeros(0, dtype=np.int64)
    if not tokens:
        raise DataError(f"{where}: the run-length code is empty. Images without a finding carry -1; is the file cut off?")
    for position, token in enumerate(tokens, start=1):
        if not _WHOLE_NUMBER.fullmatch(token):
            raise DataError(f"{where}: number {position} of the run-length code is {_short(token)!r}, not a whole number.")
    numbers = [int(token) for token in tokens]
    if min(numbers) < 0:
        position = next(i for i, number in enumerate(numbers, start=1) if number < 0)
        raise DataError(f"{where}: number {position} of the run-length code is {numbers[position - 1]}; gaps and runs are never negative.")
    if len(numbers) % 2:
        raise DataError(f"{where}: the run-length code has {len(numbers):,} numbers, an odd count; it is made of pairs (gap, run).")
    if sum(numbers) > n_pixels:
        raise DataError(
            f"{where}: the run-length code ends at pixel {sum(numbers):,}, but the image has {n_pixels:,}. "
            "The numbers are relative (gap since the previous run, run): is this a file with absolute starts?"
        )
    return np.asarray(numbers, dtype=np.int64)


def union_of(codes: Iterable[tuple[str, str]], side: int) -> np.ndarray:
    """(side, side) bool: the masks of one image together. Masks of an image may overlap: union, never a sum.

    Args:
        codes: where a code stands, and the code.
    """
    union = np.zeros((side, side), dtype=bool)
    for where, code in codes:
        union |= decode_relative(code, side, side, where)
    return union


def code_check(codes: Sequence[tuple[str, str]], side: int) -> Check:
    """A line of `lobe data verify`: whether every code of a table is one, without drawing masks. Arguments as for `union_of`."""
    try:
        for where, code in codes:
            runs_relative(code, side * side, where)
    except DataError as error:
        return Check("run-length codes", f"{len(codes):,} readable", str(error), "error", "Fetch the label table again.")
    return compare("run-length codes readable", len(codes), len(codes))


def _short(token: str) -> str:
    return token if len(token) <= 20 else token[:17] + "..."
