"""LoVT's soft Dice loss, shared by the segmentation heads.

One value for the whole batch: classes, images and pixels share one numerator and one denominator, so large findings dominate.
Source: segmentation_models_pytorch 0.2.1 `DiceLoss(mode="binary")`, from logits, smooth 0, eps 1e-7 (docs/protocols/lovt.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark import parallel
from benchmark.heads.base import at_least_float32

EPSILON = 1e-7


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - 2 sum(p y) / max(sum(p + y), 1e-7), and 0 for a batch without any positive pixel.

    Args:
        logits: (B, C, S, S), any float dtype; computed in float32 whatever autocast says.
        masks: (B, C, S, S) float32 of 0 and 1.

    Returns:
        Scalar float32 in [0, 1].
    """
    with torch.autocast(logits.device.type, enabled=False):
        probabilities = at_least_float32(logits).sigmoid()
        # One value for the whole batch, also when its images lie in several processes.
        sums = parallel.total(torch.stack([(probabilities * masks).sum(), probabilities.sum(), masks.sum().to(probabilities.dtype)]))
        intersection, predicted, positives = sums.unbind()
        total = predicted + positives
        loss = 1 - 2 * intersection / total.clamp(min=EPSILON)
        return loss * (positives > 0)
