"""GLoRIA's segmentation loss, which MGCA took over: focal loss and the logarithm of a soft Dice, over the whole batch.

Source: GLoRIA's released code (`MixedLoss(alpha 10, gamma 2)`; docs/segmentation.md).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.heads.base import at_least_float32

FOCAL_WEIGHT = 10.0
FOCAL_GAMMA = 2.0
SMOOTH = 1.0


def mixed_sums(logits: Tensor, masks: Tensor) -> Tensor:
    """(4,) float32 (or more): focal loss over pixels, how many pixels, sum(p y), and sum p + sum y.

    A pixel's focal loss is (1 - p_t)^2 x cross-entropy, without class weights.

    Args:
        logits: (B, C, S, S), any float dtype; computed in float32 under any autocast.
        masks: (B, C, S, S) float32 of 0 and 1.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = at_least_float32(logits)
        masks = masks.to(logits.dtype)
        towards_truth = logits * (2 * masks - 1)
        wrong = torch.exp(FOCAL_GAMMA * F.logsigmoid(-towards_truth))
        focal = wrong * F.softplus(-towards_truth)
        probabilities = logits.sigmoid()
        n_pixels = masks.new_tensor(float(masks.numel()))
        return torch.stack([focal.sum(), n_pixels, (probabilities * masks).sum(), probabilities.sum() + masks.sum()])


def mixed_loss_of(sums: Tensor) -> Tensor:
    """10 x focal - log(soft Dice); at least 0, and finite for a batch without any positive pixel.

    Focal is the mean over pixels. Soft Dice is (2 sum(p y) + 1) / (sum p + sum y + 1), one value for all classes, images and pixels.

    Args:
        sums: (4,), `mixed_sums` of the whole batch.
    """
    focal_sum, n_pixels, intersection, total = sums.unbind()
    soft_dice = (2 * intersection + SMOOTH) / (total + SMOOTH)
    return FOCAL_WEIGHT * focal_sum / n_pixels - soft_dice.log()
