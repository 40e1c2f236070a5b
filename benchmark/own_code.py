"""Which code computes: one digest of LOBE's own modules. Recorded for provenance, never part of a key (`task_version` is).

Nodes of a cluster are held to it (`execute.nodes`), so it covers no file that stays at home (`execute.ship.LEFT_BEHIND`).
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def digest() -> str:
    """SHA-256 (hex) over names and contents of the package's modules, the same for a checkout, the wheel made of it, and what travels."""
    return digest_of(Path(__file__).parent)


def digest_of(package: Path) -> str:
    """As `digest`, of a package that lies elsewhere."""
    sha = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
        name = path.relative_to(package).as_posix()
        if not name.startswith("content/") and "/." not in f"/{name}":  # such as `._nodes.py`, which a Mac leaves on a share
            sha.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()
