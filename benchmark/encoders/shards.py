"""Weights in several files: an index names the file of each tensor, as transformers writes it.

Read here without torch, because a backbone is planned before anything is built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from benchmark import json_files
from benchmark.errors import CheckpointError

INDEX_SUFFIX = ".index.json"
_MOST_BYTES = 32 * 2**20


def is_index(path: Path) -> bool:
    return path.name.endswith(INDEX_SUFFIX)


def shards_of(index: Path, *, here: bool = True) -> dict[Path, set[str]]:
    """File -> names of the tensors that the index promises in it, files by name.

    Args:
        here: whether every file must be there already.

    Raises:
        CheckpointError: the index is malformed, names a file outside its folder, or one that is not there.
    """
    try:
        if index.stat().st_size > _MOST_BYTES:
            raise CheckpointError(f"{index.name} is larger than any index of weights.")
        where = json_files.read(index)["weight_map"]
        pairs = [(str(name), str(file)) for name, file in where.items()]
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        raise CheckpointError(f"{index.name} is no index of weights: it has no readable `weight_map`. Fetch it again.") from None
    if not pairs:
        raise CheckpointError(f"{index.name} names no tensor. Fetch it again.")
    found: dict[Path, set[str]] = {}
    for name, file in sorted(pairs, key=lambda pair: pair[1]):
        if Path(file).name != file or file in ("", ".", "..") or "\\" in file:
            raise CheckpointError(f"{index.name} names a file outside its folder ({file[:80]!r}); weights lie beside their index.")
        if is_index(Path(file)):
            raise CheckpointError(f"{index.name} names another index ({file[:80]!r}) where weights belong.")
        found.setdefault(index.parent / file, set()).add(name)
    absent = [path.name for path in found if here and not path.is_file()]
    if absent:
        raise CheckpointError(f"{len(absent)} of {len(found)} files that {index.name} names are absent (first: {absent[0]}). Fetch them.")
    return found


def digest_of(path: Path, digest_of_file: Callable[[Path], str]) -> str:
    """SHA-256 of a weights file; of weights in several files, of the digests of the index and of every file it names, in order."""
    if not is_index(path):
        return digest_of_file(path)
    lines = [f"{file.name} {digest_of_file(file)}" for file in (path, *shards_of(path))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
