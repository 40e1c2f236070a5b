"""Which code computes: one digest of LOBE's own modules. Recorded for provenance, never part of a key (`task_version` is)."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def digest() -> str:
    """SHA-256 (hex) over names and contents of the package's modules, the same for a checkout and for the wheel made of it."""
    package = Path(__file__).parent
    sha = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
        name = path.relative_to(package).as_posix()
        if not name.startswith("content/"):
            sha.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()
