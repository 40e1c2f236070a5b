"""Memory that a process has freed goes back to the system, where the C library would keep much of it.

What decoding, features or training leave are gaps between what lives on, and the next phase's tensors have other sizes: they would lie
beside the gaps, and the peak of a job be that of its phases together. Within a step the largest maps leave such gaps: glibc keeps pieces
of up to 32 MiB once it has seen one. No digit depends on it. Where the C library is not glibc, nothing is done.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

MOST_KEPT_BYTES = 2**26  # less is soon used again, and a page that is given back costs a fault when it is

# Steps of a YOLOv3 head at 224 px on one thread: at 64 images 2.73 GB at their peak as glibc decides, 2.46 GB at 16 MiB in the same time,
# 2.20 GB at 4 MiB in 6 % more; at 16 images 4.3 s a step as glibc decides, 3.9 s at 16 MiB, 4.6 s at 4 MiB.
APART_BYTES = 2**24
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def keep_large_apart() -> None:
    """From here on, pieces of `APART_BYTES` and more have pages of their own, which go when the piece is freed."""
    library = _glibc()
    if library is not None:
        library.mallopt(M_MMAP_THRESHOLD, APART_BYTES)
        # Setting the first ends glibc's own growth of the second, which would stay at 128 KiB: every step would ask for its memory anew.
        library.mallopt(M_TRIM_THRESHOLD, MOST_KEPT_BYTES)


def give_back() -> None:
    """Gives free memory back to the system if there may be more than `MOST_KEPT_BYTES` of it."""
    library = _glibc()
    if library is not None and library.mallinfo2().free > MOST_KEPT_BYTES:
        library.malloc_trim(0)


class _Account(ctypes.Structure):
    """glibc's `struct mallinfo2`: sizes in bytes but for some counts; `free` is its `fordblks`."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (*(f"_{number}" for number in range(8)), "free", "at_the_top"))


@functools.cache
def _glibc() -> Any:
    library = ctypes.CDLL(None)
    if not all(hasattr(library, name) for name in ("mallinfo2", "mallopt", "malloc_trim")):
        return None
    library.mallinfo2.restype = _Account
    return library
