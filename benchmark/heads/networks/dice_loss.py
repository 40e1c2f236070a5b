"""LoVT's soft Dice loss, shared by the segmentation heads, and the same of each class.

LoVT has one value for the whole batch: classes, images and pixels share one numerator and one denominator, so large findings dominate.
Source: segmentation_models_pytorch 0.2.1 `DiceLoss(mode="binary")`, from logits, smooth 0, eps 1e-7 (docs/protocols/lovt.md). That of each
class: the same library's `mode="multilabel"`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.cards import Switches
from benchmark.heads.base import at_least_float32

EPSILON = 1e-7


@dataclass(frozen=True)
class DiceLoss:
    """The loss that a protocol asks for, as a head needs it: sums over images, and the loss of the sums of a batch.

    Attributes:
        n_groups: of classes that share numerator and denominator: one of all, or each class on its own.
    """

    n_groups: int

    @classmethod
    def asked_by(cls, switches: Switches, n_classes: int) -> DiceLoss:
        return cls(n_classes if switches.dice_loss == "per-class" else 1)

    def sums(self, logits: Tensor, masks: Tensor) -> Tensor:
        """(3 * n_groups,) of `dice_sums`; arguments as there."""
        return dice_sums(logits, masks) if self.n_groups == 1 else class_dice_sums(logits, masks)

    def loss_of(self, sums: Tensor) -> Tensor:
        return dice_loss_of(sums) if self.n_groups == 1 else class_dice_loss_of(sums)


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
        sums: (3,), `dice_sums` of the whole batch; (3, C) gives the loss of each class.

    Returns:
        In [0, 1], scalar or (C,).
    """
    intersection, predicted, positives = sums.unbind()
    total = predicted + positives
    loss = 1 - 2 * intersection / total.clamp(min=EPSILON)
    return loss * (positives > 0)


def class_dice_sums(logits: Tensor, masks: Tensor) -> Tensor:
    """(3 C,) as `dice_sums`: sum(p y) of each class, then sum p of each, then sum y."""
    with torch.autocast(logits.device.type, enabled=False):
        probabilities, pixels = at_least_float32(logits).sigmoid(), (0, 2, 3)
        of_truth = masks.sum(dim=pixels).to(probabilities.dtype)
        return torch.cat([(probabilities * masks).sum(dim=pixels), probabilities.sum(dim=pixels), of_truth])


def class_dice_loss_of(sums: Tensor) -> Tensor:
    """Mean over all classes of `dice_loss_of` of each; a class without any positive pixel in the batch adds 0.

    Args:
        sums: (3 C,), `class_dice_sums` of the whole batch.
    """
    return dice_loss_of(sums.view(3, -1)).mean()
