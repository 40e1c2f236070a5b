"""Values of a split as a file of columns holds them: a list for each image, in the fewest bits that lose nothing.

What each kind of statistics keeps is in its own module. How columns are written and read is in `kinds.kit.parquet`, which alone knows the
format: here are NumPy arrays and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Lists:
    """A list of values for each of N images.

    Attributes:
        counts: (N,) int64, length of each list.
        values: (sum of counts,) the lists one after another.
    """

    counts: np.ndarray
    values: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """(N,) int64, where each list begins in `values`."""
        start: np.ndarray = np.cumsum(self.counts) - self.counts
        return start

    @property
    def image(self) -> np.ndarray:
        """(sum of counts,) int64, the image of each value."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int64), self.counts)

    def taken(self, images: np.ndarray) -> Lists:
        """The lists of (n,) int images, in their order."""
        counts = self.counts[images]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return Lists(counts, self.values[np.repeat(self.first[images], counts) + within])

    def rows(self, width: int) -> np.ndarray:
        """(N, width) values of lists that are all of one length. Raises ValueError where they are not."""
        if np.any(self.counts != width):
            raise ValueError(f"a list of {int(self.counts[self.counts != width][0])} values where {width} belong")
        return self.values.reshape(len(self.counts), width)


# A column has a value or a list of values for each image: (N,) array, or lists.
Column = np.ndarray | Lists


@dataclass(frozen=True)
class Columns:
    """Statistics of a split, ready for a file.

    Attributes:
        about: what is no property of single images, ready for JSON.
        columns: by name, of one number of images.
    """

    about: dict[str, Any]
    columns: Mapping[str, Column]


def of_rows(values: np.ndarray) -> Lists:
    """(N, k) values as N lists of k."""
    return Lists(np.full(len(values), values.shape[1], np.int64), values.reshape(-1))


def counts_in_order(image: np.ndarray, n_images: int, what: str) -> np.ndarray:
    """(N,) int64 rows of each image. Raises ValueError unless the (n,) rows stand in the order of their images, which a file keeps."""
    if np.any(np.diff(image) < 0):
        raise ValueError(f"{what} do not stand in the order of their images")
    return np.bincount(image, minlength=n_images).astype(np.int64)


def narrow(values: np.ndarray) -> np.ndarray:
    """The same whole numbers as int32 where they fit, else as int64."""
    whole = np.asarray(values, np.int64)
    limits = np.iinfo(np.int32)
    fits = not len(whole) or (whole.min() >= limits.min and whole.max() <= limits.max)
    return whole.astype(np.int32) if fits else whole


def exact(values: np.ndarray) -> np.ndarray:
    """The same numbers as float32 where every one of them is one, to the bit, infinities and NaN included; else as float64."""
    double = np.ascontiguousarray(values, np.float64)
    with np.errstate(over="ignore"):
        single = double.astype(np.float32)
    return single if np.array_equal(single.astype(np.float64).view(np.int64), double.view(np.int64)) else double


def identical(first: Any, second: Any) -> bool:
    """Whether two values are the same to the bit: dataclasses field by field, arrays by type, shape and bytes."""
    if type(first) is not type(second):
        return False
    if is_dataclass(first):
        return all(identical(getattr(first, field.name), getattr(second, field.name)) for field in fields(first))
    if isinstance(first, np.ndarray):
        return (first.dtype, first.shape) == (second.dtype, second.shape) and first.tobytes() == second.tobytes()
    if isinstance(first, tuple):
        return len(first) == len(second) and all(identical(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, float) and np.isnan(first):
        return bool(np.isnan(second))
    return bool(first == second)
