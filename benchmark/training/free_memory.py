"""Memory that a process has freed goes back to the system, where the C library would keep much of it.

What decoding, features or training leave are gaps between what lives on, and the next phase's tensors have other sizes: they would lie
beside the gaps, and the peak of a job be that of its phases together. Within a step the largest maps leave such gaps: glibc keeps pieces
of up to 32 MiB once it has seen one. No digit depends on it. Where the C library is not glibc, nothing is done.
"""

from __future__ import annotations

import ctypes
import functools
import os
import time
from pathlib import Path
from typing import Any

MOST_KEPT_BYTES = 2**26  # less is soon used again, and a page that is given back costs a fault when it is

# Larger than a gradient of the largest layer, which would fault its pages in at every step: a YOLOv3 step of 4 images at 160 px takes
# 0.61 s at 24 MiB, 1.01 s at 16 MiB. One of 64 images at 224 px holds 2.73 GB as glibc decides and 2.46 GB at 24 MiB, in the same time.
APART_BYTES = 24 * 2**20
TOP_KEPT_BYTES = 2**28  # at the end of the heap, within a phase
MOST_GROWN_BYTES, LOOKS_EVERY_S = 2**27, 1.0  # of steps
OWN_PAGES = Path("/proc/self/statm")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def keep_large_apart() -> None:
    """From here on, pieces of `APART_BYTES` and more have pages of their own, which go when the piece is freed."""
    library = _glibc()
    if library is not None:
        library.mallopt(M_MMAP_THRESHOLD, APART_BYTES)
        # Setting the first ends glibc's own growth of the second, which would stay at 128 KiB: every step would ask for its memory anew.
        library.mallopt(M_TRIM_THRESHOLD, TOP_KEPT_BYTES)


def give_back() -> None:
    """Gives free memory back to the system if there may be more than `MOST_KEPT_BYTES` of it."""
    library = _glibc()
    if library is not None and library.mallinfo2().free > MOST_KEPT_BYTES:
        library.malloc_trim(0)


class BetweenSteps:
    """Called after each step of a training or pre-training: gaps that steps leave grow from one to the next, and go when they have grown.

    What a step takes again is not given back each time, since its pages would cost a fault each. It looks once a second, since looking
    would take a share of steps of milliseconds.
    """

    def __init__(self) -> None:
        self._looked = time.monotonic()
        self._held: int | None = None  # bytes when it looked first after giving back

    def __call__(self) -> None:
        if time.monotonic() - self._looked < LOOKS_EVERY_S:
            return
        self._looked = time.monotonic()
        held = _held_bytes()
        if self._held is None:
            self._held = held
        elif held > self._held + MOST_GROWN_BYTES:
            give_back()
            self._held = None


def _held_bytes() -> int:
    """Resident memory of this process without files; 0 where Linux's account is not there."""
    try:
        _, resident, of_files, *_ = OWN_PAGES.read_bytes().split()
    except OSError:
        return 0
    return (int(resident) - int(of_files)) * os.sysconf("SC_PAGE_SIZE")


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
