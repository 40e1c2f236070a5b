"""Training augmentation of frames, by albumentations: image and masks of one draw.

A draw depends on the job's seed, the epoch and the image's place in its list, and on nothing else: images and masks may be asked for
separately, in any batch, on any process, and after a restart, and still belong together. albumentations is imported when first used: it
takes seconds, and few jobs augment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import cv2
import numpy as np


def _scale_rotate(albumentations: ModuleType) -> Any:
    """GLoRIA's and MGCA's ShiftScaleRotate without a shift: half of the images turned by up to 10 degrees and scaled by up to 10 %.

    The border is black. Images are interpolated bilinearly, masks by the nearest pixel, so that they stay 0 and 1.
    Source: GLoRIA's and MGCA's released code (docs/segmentation.md).
    """
    moved = albumentations.Affine(
        scale=(0.9, 1.1),
        rotate=(-10, 10),
        p=0.5,
        keep_ratio=True,
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        border_mode=cv2.BORDER_CONSTANT,
        fill=0,
        fill_mask=0,
    )
    return albumentations.Compose([moved])


PIPELINES: dict[str, Callable[[ModuleType], Any]] = {"scale-rotate": _scale_rotate}


@dataclass(frozen=True)
class Augmentation:
    """One epoch's draws.

    Attributes:
        name: of the pipeline in `PIPELINES`.
        seed: of the job.
    """

    name: str
    seed: int
    epoch: int = 0

    def images(self, frames: np.ndarray, index: Sequence[int]) -> np.ndarray:
        """(b, S, S) uint8 frames, moved; `index` are the places of the images in their list."""
        return np.stack([self._drawn(i, image=frame)["image"] for i, frame in zip(index, frames, strict=True)])

    def masks(self, masks: np.ndarray, index: Sequence[int]) -> np.ndarray:
        """(b, C, S, S) bool masks, moved as `images` moves their frames."""
        moved = np.empty_like(masks)
        unseen = np.zeros(masks.shape[2:], np.uint8)  # a draw has an image; this one is not looked at
        for k, i in enumerate(index):
            drawn = self._drawn(i, image=unseen, masks=[mask.astype(np.uint8) for mask in masks[k]])
            moved[k] = np.stack(drawn["masks"]).astype(bool)
        return moved

    def _drawn(self, i: int, **what: Any) -> dict[str, Any]:
        self._pipeline.set_random_seed(int(np.random.SeedSequence((self.seed, self.epoch, int(i))).generate_state(1)[0]))
        return self._pipeline(**what)

    @cached_property
    def _pipeline(self) -> Any:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask a server for its newest version
        import albumentations

        return PIPELINES[self.name](albumentations)
