"""Memory that one phase of a job has freed goes back to the system before the next, where the C library would keep much of it.

What decoding, features or training leave are gaps between what lives on, and the next phase's tensors have other sizes: they would lie
beside the gaps, and the peak of a job be that of its phases together. No digit depends on it. Where the C library is not glibc, nothing
is done.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

MOST_KEPT_BYTES = 2**26  # less is soon used again, and a page that is given back costs a fault when it is


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
    if not hasattr(library, "mallinfo2") or not hasattr(library, "malloc_trim"):
        return None
    library.mallinfo2.restype = _Account
    return library
