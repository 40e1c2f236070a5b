"""Layers of the methods' image and text sides. Their parameters have the names of the released checkpoints, so that files are exchanged."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.pooling import at_grid, with_mean_first

Counted = Literal["all", "valid"]  # rows that count: padded ones too, as released code does, or what is there alone


class RowNorm(nn.Module):
    """BatchNorm of vectors over all rows of a group, of which some may be padding.

    It has BatchNorm1d's parameters and running statistics. In evaluation mode it exchanges nothing.

    Args:
        width: of a vector.
        counted: whether padded rows enter the statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, width: int, counted: Counted = "valid", *, affine: bool = True, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.counted, self.eps, self.momentum = counted, eps, momentum

    def forward(self, rows: Tensor, group: Group, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            rows: (..., D).
            mask: (...) bool, False on padding; None where there is none.
        """
        if not self.training:
            mean, variance = self.running_mean, self.running_var
            return self._scaled((rows - mean.to(rows.dtype)) * (variance.to(rows.dtype) + self.eps).rsqrt())
        wide = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        there = wide.new_ones(rows.shape[:-1]) if mask is None or self.counted == "all" else mask.to(wide.dtype)
        leading = tuple(range(rows.dim() - 1))
        n = group.total(there.sum())
        mean = group.total((wide * there[..., None]).sum(leading)) / n
        centred = wide - mean
        variance = group.total((centred.square() * there[..., None]).sum(leading)) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((variance * n / (n - 1).clamp(min=1)).to(self.running_var.dtype), self.momentum)
        return self._scaled(centred * (variance + self.eps).rsqrt()).to(rows.dtype)

    def _scaled(self, rows: Tensor) -> Tensor:
        return rows if self.weight is None or self.bias is None else rows * self.weight + self.bias


class Projection(nn.Module):
    """LoVT's way into the joint space, of (b, D) vectors or of (b, N, D) places or sentences.

    Args:
        counted: which rows enter BatchNorm; None: no BatchNorm.
    """

    def __init__(self, width: int, hidden: int, joint: int, counted: Counted | None):
        super().__init__()
        self.projection_before = nn.Linear(width, hidden)
        self.norm = None if counted is None else RowNorm(hidden, counted)
        self.projection_after = nn.Linear(hidden, joint)
        nn.init.kaiming_normal_(self.projection_before.weight, mode="fan_out", nonlinearity="relu")
        nn.init.kaiming_normal_(self.projection_after.weight, mode="fan_out", nonlinearity="linear")
        nn.init.zeros_(self.projection_before.bias)
        nn.init.zeros_(self.projection_after.bias)

    def forward(self, rows: Tensor, group: Group, mask: Tensor | None = None) -> Tensor:
        hidden = self.projection_before(rows)
        return self.projection_after((hidden if self.norm is None else self.norm(hidden, group, mask)).relu())


class NormedHead(nn.ModuleList):
    """MGCA's and G2D's way into the joint space: BatchNorm after the first layer, ReLU, and a last layer that may end in BatchNorm.

    Args:
        bias: of both layers.
        affine: whether the first BatchNorm has a weight and a bias.
        ends_in_norm: a BatchNorm without weight and bias comes last.
    """

    def __init__(self, width: int, hidden: int, joint: int, counted: Counted, *, bias: bool, affine: bool, ends_in_norm: bool):
        layers: list[nn.Module] = [nn.Linear(width, hidden, bias=bias), RowNorm(hidden, counted, affine=affine), nn.ReLU()]
        layers.append(nn.Linear(hidden, joint, bias=bias))
        super().__init__([*layers, *([RowNorm(joint, counted, affine=False)] if ends_in_norm else [])])

    def forward(self, rows: Tensor, group: Group, mask: Tensor | None = None) -> Tensor:
        for layer in self:
            rows = layer(rows, group, mask) if isinstance(layer, RowNorm) else layer(rows)
        return rows


class AttentionMean(nn.Module):
    """LoVT's pool: the mean of the places asks by multi-head attention.

    Args:
        counted: what the mean is divided by, all places or those that are there. Padded places add nothing to it and are no key.
    """

    def __init__(self, width: int, heads: int, counted: Counted):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.counted = counted

    def forward(self, places: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pooled (b, D), and (b, N) weights that sum to 1, the mean over heads.

        Args:
            places: (b, N, D).
            mask: (b, N) bool, False on padding.
        """
        if mask is None:
            asked = places.mean(dim=1, keepdim=True)
        else:
            n = mask.shape[1] if self.counted == "all" else mask.sum(dim=1).clamp(min=1)[:, None, None]
            asked = (places * mask[..., None]).sum(dim=1, keepdim=True) / n
        pooled, weights = self.attention(asked, places, places, key_padding_mask=None if mask is None else ~mask)
        return pooled[:, 0], weights[:, 0]


class MeanFirstPool(nn.Module):
    """G2D's pool: the mean stands before the places, has a position like them, and asks all.

    Args:
        side: of the square grid that the table of positions is made for; another grid's is interpolated.
    """

    def __init__(self, width: int, heads: int, side: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) / width**0.5)
        self.mhsa = nn.MultiheadAttention(width, heads, batch_first=True)
        self.c_proj = nn.Linear(width, width)

    def forward(self, places: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Pooled (b, D), and (b, heads, 1 + N) weights of the mean and the places.

        Args:
            places: (b, side^2, D).
        """
        tokens = with_mean_first(places) + at_grid(self.positional_embedding, side)
        pooled, weights = self.mhsa(tokens[:, :1], tokens, tokens, average_attn_weights=False)
        return self.c_proj(pooled)[:, 0], weights[:, :, 0]


class SigmoidAttention(nn.Module):
    """Places and sentences read each other with weights that need not sum to one. 1 is the image's side, 2 the report's."""

    def __init__(self, joint: int):
        super().__init__()
        self.query1, self.key1, self.value1 = (nn.Linear(joint, joint) for _ in range(3))
        self.query2, self.key2, self.value2 = (nn.Linear(joint, joint) for _ in range(3))

    def forward(self, regions: Tensor, each: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What regions heard, (b, N, D), and what sentences saw, (b, S, D)."""
        root = regions.shape[2] ** 0.5
        hearing = (self.query1(regions) @ self.key2(each).transpose(1, 2) / root).sigmoid() * mask[:, None]
        seeing = (self.query2(each) @ self.key1(regions).transpose(1, 2) / root).sigmoid() * mask[..., None]
        return hearing @ self.value2(each), seeing @ self.value1(regions)


def clipped_weights(attention: Tensor, low: float = 0.1, high: float = 0.9) -> Tensor:
    """(b, N) weights that sum to 1: each row's non-zero values, clipped to their own quantiles. Detached.

    Source: MGCA's released code at 680fe4a.
    """
    weights = torch.zeros_like(attention)
    for row, found in zip(weights, attention.detach(), strict=True):
        there = found != 0
        if there.any():
            values = found[there]
            row[there] = values.clamp(torch.quantile(values, low), torch.quantile(values, high))
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


def softmax_over(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last axis with masked columns left out; a row without any is all zero."""
    if mask is None:
        return scores.softmax(dim=-1)
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return torch.where(mask, weights, torch.zeros_like(weights))
