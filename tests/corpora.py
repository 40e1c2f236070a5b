"""Phantom corpora for tests: each plan is drawn once in a test run, whichever process asks first; every caller has a copy of its own.

Drawing a radiograph costs some hundred times what copying one does, and many modules ask for the same plan.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from filelock import FileLock

from benchmark.phantom import corpus
from benchmark.phantom.base import Plan

__all__ = ["Plan", "keep_in", "write_corpus"]

_kept: Path | None = None  # folder of the corpora of this test run, one of each plan


def keep_in(folder: Path) -> None:
    """Names the folder where all processes of a test run keep what they drew. Called once, before any test."""
    global _kept
    folder.mkdir(exist_ok=True)
    _kept = folder


def write_corpus(plan: Plan, out: Path) -> None:
    """Puts the corpus of `plan` into the folder `out`, which must not exist: the bytes that `corpus.write_corpus` writes there."""
    assert _kept is not None
    name = f"{plan.dataset}-{hashlib.sha256(repr(plan).encode()).hexdigest()[:16]}"
    with FileLock(_kept / f"{name}.lock"):  # one process draws, others wait for it
        if not (_kept / name).exists():  # it is renamed into place when it is whole
            corpus.write_corpus(plan, _kept / name)
    shutil.copytree(_kept / name, out, copy_function=shutil.copyfile)  # permissions are those the caller's umask gives
