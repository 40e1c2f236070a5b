"""Rows of a report that are as good as they are told to be: pixel counts of 40 images, which a store holds as those of a run."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmark.cards import Record
from benchmark.kinds.kit.stored import STATISTICS_FILE, ByImage, write_statistics
from benchmark.metrics.dice import DiceCounts
from benchmark.metrics.lesions import Lesions
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.store import Store

N_IMAGES = 40
COUNTS = {"test": {"images": N_IMAGES, "positives": N_IMAGES}}
IMAGES, PATIENTS = tuple(f"i{i}" for i in range(N_IMAGES)), tuple(f"P{i}" for i in range(N_IMAGES))
NONE: tuple[np.ndarray, ...] = (np.zeros(0, np.int64),) * 4


def statistics(label: str, skill: float, seed: tuple[int, ...]) -> SegmentationStatistics:
    """Pixel counts of images that are the same for every row; a row misses less the more skill it has, and each run errs by itself."""
    size = np.random.default_rng(7).integers(100, 400, (N_IMAGES, 1))
    share = np.clip(0.5 - skill + np.random.default_rng(seed).normal(0, 0.05, (N_IMAGES, 1)), 0, 1)
    missed = (size * share).astype(np.int64)
    return SegmentationStatistics((label,), DiceCounts(size - missed, missed, missed), Lesions(*NONE), None)


def put(store: Store, record: Record, made: SegmentationStatistics) -> None:
    """Stores a record with its statistics, an image a patient."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / STATISTICS_FILE
        write_statistics(path, ByImage(IMAGES, PATIENTS, made), {})
        store.put(record, {STATISTICS_FILE: path.read_bytes()})
