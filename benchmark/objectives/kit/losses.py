"""Losses that several methods share. B pairs of a group, of which a process holds b; D width of the joint space.

Every function returns this process's part: the sum over processes is the loss of the group (`benchmark.objectives.kit.group`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.objectives.kit.group import Group


def contrast(one: Tensor, other: Tensor, scale: float | Tensor, group: Group) -> tuple[Tensor, Tensor]:
    """Cross-entropies of finding each pair's other side among all of the group: `other` of `one`, and `one` of `other`.

    Args:
        one, other: (b, D), not normalised.
        scale: what cosines are multiplied by, the inverse temperature.
    """
    one, other = F.normalize(one, dim=-1), F.normalize(other, dim=-1)
    return among(scale * one @ group.gather(other).T, group), among(scale * other @ group.gather(one).T, group)


def contrast_sum(one: Tensor, other: Tensor, scale: float | Tensor, group: Group) -> Tensor:
    """The sum of both directions of `contrast`."""
    there, back = contrast(one, other, scale, group)
    return there + back


def among(scores: Tensor, group: Group) -> Tensor:
    """Cross-entropy of (b, B) scores whose own column is right."""
    target = torch.arange(group.first, group.first + group.own, device=scores.device)
    return F.cross_entropy(scores, target, reduction="sum") / group.n


def dice_and_bce(logits: Tensor, masks: Tensor, group: Group) -> Tensor:
    """Half the sum of soft Dice loss, of probabilities and image by image, and of binary cross-entropy.

    Args:
        logits: (b, 1, H, W).
        masks: the same shape, 0 or 1.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean(dim=(1, 2, 3))
    return group.mean(dice_loss(logits.sigmoid(), masks) + entropy) / 2


def dice_loss(values: Tensor, masks: Tensor, smoothing: float = 1e-5) -> Tensor:
    """(b,) one minus the soft Dice of each image."""
    places = (1, 2, 3)
    overlap = 2 * (values * masks).sum(places) + smoothing
    return 1 - overlap / (values.sum(places) + masks.sum(places) + smoothing)


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """(b, N, M) cosines of (b, N, D) with (b, M, D)."""
    return F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).transpose(1, 2)


def alike(predictor: nn.Module, one: Tensor, other: Tensor) -> Tensor:
    """(b,) minus the mean cosine of each side's prediction with the other side, which is no path for gradients. No negatives."""
    there = F.cosine_similarity(predictor(one), other.detach(), dim=2)
    back = F.cosine_similarity(predictor(other), one.detach(), dim=2)
    return -(there.mean(dim=1) + back.mean(dim=1)) / 2


def within_report(seen: Tensor, told: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
    """(b,) contrast of what each sentence saw with the sentences of the same report, the mean of both directions."""
    scores = scale * cosines(seen, told)
    smallest = torch.finfo(scores.dtype).min
    right = scores.diagonal(dim1=1, dim2=2)
    rows = scores.masked_fill(~mask[:, None], smallest).logsumexp(dim=2) - right
    columns = scores.masked_fill(~mask[..., None], smallest).logsumexp(dim=1) - right
    return ((rows + columns) * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1) / 2
