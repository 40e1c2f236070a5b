"""What augmentation makes of a frame, by albumentations. A view depends on its key alone: in any batch, on any process, after a restart."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from types import ModuleType
from typing import Any

import cv2
import numpy as np


def _lovt(a: ModuleType, size: int, flips: float = 0.5) -> list[Any]:
    """LoVT, CLIP and ConVIRT at f548985. The blur's kernel is 23 pixels at 224 and shrinks with the frame."""
    kernel = max(3, round(23 * size / 224) // 2 * 2 + 1)
    return [
        a.RandomResizedCrop((size, size), scale=(0.6, 1.0), ratio=(3 / 4, 4 / 3), interpolation=cv2.INTER_LINEAR),
        a.HorizontalFlip(p=flips),
        _affine(a, rotate=(-20, 20), translate_percent=(-0.1, 0.1), scale=(0.95, 1.05), interpolation=cv2.INTER_NEAREST),
        a.ColorJitter(brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(1, 1), hue=(0, 0), p=1.0),
        a.GaussianBlur(blur_limit=(kernel, kernel), sigma_limit=(0.1, 3.0), p=1.0),
    ]


def _crop(a: ModuleType, size: int) -> list[Any]:
    """GLoRIA and MGCA: a random crop of seven eighths, back at the frame's size."""
    return [*_cropped(a, size), a.Resize(size, size, interpolation=cv2.INTER_LINEAR)]


def _cropped(a: ModuleType, size: int) -> list[Any]:
    """GLoRIA and MGCA at 416466a and 680fe4a: a view is smaller than its frame, 224 of 256 pixels."""
    return [a.RandomCrop(cropped(size), cropped(size))]


def _centre(a: ModuleType, size: int) -> list[Any]:
    return [a.CenterCrop(cropped(size), cropped(size))]


def _prior(a: ModuleType, size: int, flips: float = 0.5) -> list[Any]:
    """PRIOR at 086bf2e."""
    return [_affine(a, rotate=(-5, 5)), a.HorizontalFlip(p=flips)]


def _g2d(a: ModuleType, size: int) -> list[Any]:
    """G2D at 30364bd."""
    jitter = a.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(1, 1), hue=(0, 0), p=1.0)
    return [_affine(a, rotate=(-15, 15), shear={"x": (-15, 15), "y": (0, 0)}), jitter]


def _moved(a: ModuleType, size: int) -> list[Any]:
    """LOBE's for comparisons: moved and turned a little, brighter or darker, never mirrored, as reports say left and right."""
    jitter = a.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(1, 1), hue=(0, 0), p=1.0)
    return [_affine(a, rotate=(-5, 5), translate_percent=(-0.06, 0.06), scale=(0.95, 1.05)), jitter]


PIPELINES: dict[str, Callable[[ModuleType, int], list[Any]]] = {
    "lovt": _lovt,
    "lovt-unmirrored": partial(_lovt, flips=0.0),
    "crop": _crop,
    "cropped": _cropped,
    "centre": _centre,
    "prior": _prior,
    "prior-unmirrored": partial(_prior, flips=0.0),
    "g2d": _g2d,
    "moved": _moved,
    "none": lambda a, size: [],
}


STILL = {"cropped": "centre"}  # what held-out pairs are shown by, where it is not the frame itself
SMALLER = ("cropped", "centre")


def cropped(size: int) -> int:
    """Side of a crop of seven eighths, in pixels."""
    return round(size * 7 / 8)


def still(name: str) -> str:
    """The pipeline that draws nothing and gives views as large as those of `name`."""
    return STILL.get(name, "none")


class Views:
    """
    Args:
        name: in `PIPELINES`.
        size: side of a frame in pixels.

    Attributes:
        side: of a view in pixels, seven eighths of a frame's where the pipeline crops.
    """

    def __init__(self, name: str, size: int):
        self.name, self.size = name, size
        self.side = cropped(size) if name in SMALLER else size

    def of(self, frames: np.ndarray, keys: Sequence[int]) -> np.ndarray:
        """(b, V, V) uint8 views of (b, S, S) uint8 frames."""
        views = np.empty((len(frames), self.side, self.side), np.uint8)
        for k, (frame, key) in enumerate(zip(frames, keys, strict=True)):
            self._pipeline.set_random_seed(int(np.random.SeedSequence((key, 2)).generate_state(1)[0]))
            views[k] = self._pipeline(image=frame)["image"]
        return views

    @cached_property
    def _pipeline(self) -> Any:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask a server for its newest version
        import albumentations

        return albumentations.Compose(PIPELINES[self.name](albumentations, self.size))


def _affine(a: ModuleType, **moves: Any) -> Any:
    return a.Affine(border_mode=cv2.BORDER_CONSTANT, fill=0, p=1.0, keep_ratio=True, **{"interpolation": cv2.INTER_LINEAR, **moves})
