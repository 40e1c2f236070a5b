"""Builders of small splits, shared by the tests of this folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from benchmark.metrics.boxes import Boxes, Detections

Split = tuple[Detections, Boxes]


def _split(images: Sequence[tuple[Sequence[tuple], Sequence[tuple]]], frame: str = "padded-224") -> Split:
    """Images as (detections, truths): a detection is (x, y, w, h, confidence[, label]), a truth (x, y, w, h[, label])."""
    detected = [(i, *row, *([0] if len(row) == 5 else [])) for i, (rows, _) in enumerate(images) for row in rows]
    true = [(i, *row, *([0] if len(row) == 4 else [])) for i, (_, rows) in enumerate(images) for row in rows]
    d, t = np.array(detected, float).reshape(-1, 7), np.array(true, float).reshape(-1, 6)
    return (
        Detections(d[:, 0].astype(int), d[:, 1:5], d[:, 6].astype(int), len(images), frame, d[:, 5]),
        Boxes(t[:, 0].astype(int), t[:, 1:5], t[:, 5].astype(int), len(images), frame),
    )


def _random_split(seed: int, n_images: int = 5, n_classes: int = 1, low: float = 0.2, tied: bool = False) -> Split:
    """Up to four truths and eight detections an image, half of them near a truth; a third of the images without truth.

    `tied` draws boxes and confidences from few values, so that equal confidences, equal IoUs and IoUs on a threshold are common.
    """
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(n_images):
        truths = [_box(rng, tied) for _ in range(rng.integers(0, 5) if rng.random() < 0.67 else 0)]
        found = []
        for _ in range(rng.integers(0, 9)):
            if truths and rng.random() < 0.5:
                shift = rng.integers(-2, 3, 4) if tied else rng.normal(0, 3, 4)
                box = np.maximum(truths[rng.integers(len(truths))] + shift, 1)
            else:
                box = _box(rng, tied)
            confidence = rng.choice([0.001, 0.1, 0.2, 0.5, 0.9]) if tied else rng.uniform(low, 1)
            found.append((*box, confidence, rng.integers(n_classes)))
        images.append((found, [(*box, rng.integers(n_classes)) for box in truths]))
    return _split(images)


def _box(rng: np.random.Generator, tied: bool) -> np.ndarray:
    if tied:
        return np.r_[rng.integers(0, 12, 2), rng.integers(4, 12, 2)].astype(float)
    return np.r_[rng.uniform(0, 40, 2), rng.uniform(10, 40, 2)]


def _repeat_images(detections: Detections, truth: Boxes, weights: np.ndarray) -> Split:
    """The split in which image i stands weights[i] times, copies next to each other."""
    first = np.cumsum(weights) - weights

    def repeated(boxes):
        copies = weights[boxes.image]
        nth = np.arange(copies.sum()) - np.repeat(np.cumsum(copies) - copies, copies)
        arrays = {"image": np.repeat(first[boxes.image], copies) + nth}
        names = ("xywh", "label", "confidence") if hasattr(boxes, "confidence") else ("xywh", "label")
        arrays |= {name: np.repeat(getattr(boxes, name), copies, axis=0) for name in names}
        return dataclasses.replace(boxes, n_images=int(weights.sum()), **arrays)

    return repeated(detections), repeated(truth)


@pytest.fixture(scope="session")
def split() -> Callable[..., Split]:
    return _split


@pytest.fixture(scope="session")
def random_split() -> Callable[..., Split]:
    return _random_split


@pytest.fixture(scope="session")
def repeat_images() -> Callable[..., Split]:
    return _repeat_images
