"""What a test draws from torch's own generator depends on the test's name, never on what ran before it in the process.

NumPy's is used by no test (the linter holds that). Python's stays as it is: libraries draw ports and names of files from it, and two
processes must not draw the same.
"""

from __future__ import annotations

import contextlib
import sys
import zlib
from collections.abc import Iterator


def seed(name: str) -> None:
    """Seeds torch by a name, where it is imported: it is by every test that draws from it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(zlib.crc32(name.encode()))


@contextlib.contextmanager
def apart(name: str) -> Iterator[None]:
    """Draws inside begin at a name; those outside go on as if there had been none."""
    torch = sys.modules.get("torch")
    before = torch.get_rng_state() if torch else None
    seed(name)
    try:
        yield
    finally:
        if torch:
            torch.set_rng_state(before)
