"""What `lobe bench growth` runs on, made once for both sides: a corpus of each size, and MIMIC-CXR's list without its pixels."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmark import registry
from benchmark.machine import usable_cores
from benchmark.phantom.base import CorpusPlan
from benchmark.phantom.corpus import write_corpus
from tests.perf import large_lists

IMAGES_A_LIMIT = 1.9  # of RSNA for each training image: 60 % of 6,080 fill a limit of 3,200 and leave 1,216 to test on
WORTH_A_POOL = 100  # fewer images are drawn before a second process is there


def is_made(folder: Path, limit: int) -> bool:
    """Whether `rsna` finds its corpus there."""
    return (folder / f"rsna-{limit}" / registry.dataset("rsna").folder).exists()


def rsna(folder: Path, limit: int, progress: Callable[[int, int], None] | None = None) -> Path:
    """The root that holds an RSNA corpus for one `--limit`, made when it is not there."""
    root = folder / f"rsna-{limit}"
    where = root / registry.dataset("rsna").folder
    if not is_made(folder, limit):
        plan = CorpusPlan(dataset="rsna", n_patients=math.ceil(IMAGES_A_LIMIT * limit), seed=1, images_per_patient=(1, 1))
        write_corpus(plan, where, progress, workers=usable_cores() if limit >= WORTH_A_POOL else 1)
    return root


def mimic_list(folder: Path, n_images: int) -> Path:
    """The root that holds a release with so many images of MIMIC-CXR-JPG, made when it is not there."""
    root = folder / f"mimic-{n_images}"
    if not root.exists():
        making = folder / f".making-mimic-{n_images}"
        shutil.rmtree(making, ignore_errors=True)
        large_lists.mimic_tables(making, n_images)
        making.rename(root)
    return root
