"""Phantom corpora for tests: each plan is drawn once in a test run, whichever process asks first; every caller has a copy of its own.

Drawing a radiograph costs some hundred times what copying one does, and many modules ask for the same plan.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from benchmark.phantom import corpus
from benchmark.phantom.base import CorpusPlan
from tests.made_once import made_once

__all__ = ["CorpusPlan", "write_corpus"]


def write_corpus(plan: CorpusPlan, out: Path) -> None:
    """Puts the corpus of `plan` into the folder `out`, which must not exist: the bytes that `corpus.write_corpus` writes there."""
    name = f"{plan.dataset}-{hashlib.sha256(repr(plan).encode()).hexdigest()[:16]}"
    kept = made_once(name, lambda path: corpus.write_corpus(plan, path))
    shutil.copytree(kept, out, copy_function=shutil.copyfile)  # permissions are those the caller's umask gives


def write_chexpert_and_chexlocalize(root: Path) -> Path:
    """The two releases that share no patient, side by side below `root`: labels of whole images, and masks."""
    write_corpus(CorpusPlan("chexpert", 30, seed=5, images_per_patient=(1, 1), positive_share=0.9), root / "chexpert")
    write_corpus(CorpusPlan("chexlocalize", 14, seed=6, images_per_patient=(1, 1)), root / "chexlocalize")
    return root
