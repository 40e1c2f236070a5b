"""Random streams and identifiers of a phantom corpus, each a pure function of its name.

No global generator and no order of calls: a stream is named by words ("rsna", seed, "patient", 7), so that any worker can draw any part
and different seeds never share an identifier. Streams are NumPy's PCG64; a folder is byte-identical for the same NumPy and Pillow versions.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable

import numpy as np


def stream(*words: str | int) -> np.random.Generator:
    """A generator that depends on `words` alone."""
    return np.random.default_rng(int.from_bytes(_digest(words)[:16], "big"))


def uuid_of(*words: str | int) -> str:
    """A lower-case UUID (version 4 form, 36 characters) that depends on `words` alone."""
    return str(uuid.UUID(bytes=_digest(words)[:16], version=4))


def number_of(*words: str | int, below: int) -> int:
    """An integer in [0, below) that depends on `words` alone."""
    return int.from_bytes(_digest(words)[:8], "big") % below


def apart(numbers: Iterable[int], below: int, distance: int = 1) -> list[int]:
    """The same numbers, none within `distance` of an earlier one: what is too near moves up until it is free, and all others stay.

    Args:
        numbers: in [0, below), in an order that never changes: what comes later moves nothing before it.
        below: where moving starts again at 0; at least two `distance`s for each number.
    """
    taken: dict[int, int] = {}  # place on a grid of steps of `distance` -> the one number there
    found = []
    for number in numbers:
        while any(abs(taken.get(number // distance + step, -below) - number) < distance for step in (-1, 0, 1)):
            number = (number + distance) % below
        taken[number // distance] = number
        found.append(number)
    return found


def _digest(words: tuple[str | int, ...]) -> bytes:
    return hashlib.sha256("\x1f".join(str(word) for word in words).encode()).digest()
