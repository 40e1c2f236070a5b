"""Features of a frozen encoder, computed once per image and shared by every job of a unit.

No LoVT task augments, so the features are constants. They are computed in batches of one fixed size, the last one padded: whichever job
asks first and in whatever order, an image gets the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from benchmark.encoders.sealed import SealedEncoder
from benchmark.training.data import Part

BATCH = 16


class FeatureBank:
    """Frozen features of one encoder on one cache, on the encoder's device and in the precision it runs in.

    Args:
        encoder: in frozen mode.
        strides: pyramid levels kept.
        budget_bytes: features are kept while they fit; beyond, they are recomputed for every batch.
        autocast: the job's precision, under which the plain path would run the encoder as well (LoVT 1.2: all but the loss in fp16).
    """

    def __init__(
        self,
        encoder: SealedEncoder,
        strides: tuple[int, ...],
        budget_bytes: int,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ):
        self.encoder, self.strides, self.budget_bytes, self.autocast = encoder, strides, budget_bytes, autocast
        self._slot: dict[int, int] = {}
        self._levels: dict[int, list[torch.Tensor]] = {s: [] for s in strides}
        self._bytes = 0

    def prepare(self, part: Part) -> bool:
        """Computes what is missing of the part. False when the budget is spent: `pyramid` will recompute."""
        missing = [i for i, row in enumerate(part.rows) if int(row) not in self._slot]
        for start in range(0, len(missing), BATCH):
            if self._bytes > self.budget_bytes:
                return False
            index = np.array(missing[start : start + BATCH])
            levels = self._compute(part, index)
            for stride, level in levels.items():
                self._levels[stride].extend(level.unbind())
                self._bytes += level.nbytes
            for i in index:
                self._slot[int(part.rows[i])] = len(self._slot)
        return True

    def pyramid(self, part: Part, index: np.ndarray) -> Mapping[int, torch.Tensor]:
        """stride -> (b, C, S/stride, S/stride) for the given images of the part."""
        rows = part.rows[index]
        if all(int(row) in self._slot for row in rows):
            slots = [self._slot[int(row)] for row in rows]
            return {stride: torch.stack([kept[s] for s in slots]) for stride, kept in self._levels.items()}
        pieces = [self._compute(part, index[start : start + BATCH]) for start in range(0, len(index), BATCH)]
        return {stride: torch.cat([piece[stride] for piece in pieces]) for stride in self.strides}

    def _compute(self, part: Part, index: np.ndarray) -> dict[int, torch.Tensor]:
        padded = np.concatenate([index, np.repeat(index[-1:], BATCH - len(index))])
        with torch.no_grad(), self.autocast():
            pyramid = self.encoder.pyramid(part.images(padded).to(self.encoder.mean.device), self.strides)
        # A copy frees the padded rows; contiguous maps make every later batch of one layout.
        return {stride: pyramid[stride][: len(index)].contiguous().clone() for stride in self.strides}
