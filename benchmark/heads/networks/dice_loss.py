"""LoVT's soft Dice loss, shared by the segmentation heads.

One value for the whole batch: classes, images and pixels share one numerator and one denominator, so large findings dominate.
Source: segmentation_models_pytorch 0.2.1 `DiceLoss(mode="binary")`, from logits, smooth 0, eps 1e-7 (docs/protocols/lovt.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.heads.base import at_least_float32

EPSILON = 1e-7


def dice_sums(logits: Tensor, masks: Tensor) -> Tensor:
    """(3,) float32 (or more): sum(p y), sum p and sum y.

    Args:
        logits: (B, C, S, S), any float dtype; computed in float32 under any autocast.
        masks: (B, C, S, S) float32 of 0 and 1.
    """
    with torch.autocast(logits.device.type, enabled=False):
        probabilities = at_least_float32(logits).sigmoid()
        return torch.stack([(probabilities * masks).sum(), probabilities.sum(), masks.sum().to(probabilities.dtype)])


def dice_loss_of(sums: Tensor) -> Tensor:
    """1 - 2 sum(p y) / max(sum(p + y), 1e-7), and 0 for a batch without any positive pixel.

    Args:
        sums: (3,), `dice_sums` of the whole batch.

    Returns:
        Scalar in [0, 1].
    """
    intersection, predicted, positives = sums.unbind()
    total = predicted + positives
    loss = 1 - 2 * intersection / total.clamp(min=EPSILON)
    return loss * (positives > 0)
