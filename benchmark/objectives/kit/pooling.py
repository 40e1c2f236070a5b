"""Attention pooling as CLIP has it: the mean of all places asks, every place answers. Shared by PRIOR and G2D."""

from __future__ import annotations

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torch.nn import functional as F


def with_mean_first(places: Tensor) -> Tensor:
    """(B, 1 + P, D): the mean of (B, P, D) before them."""
    return torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)


def at_grid(table: Tensor, side: int) -> Tensor:
    """A (1 + S^2, D) table of positions for another grid, its first row kept."""
    return resample_abs_pos_embed(table[None], [side, side], num_prefix_tokens=1)[0]


class AttentionPool(nn.Module):
    """PRIOR's: separate projections, eight heads, a table of positions for maps and none for sentences."""

    def __init__(self, width: int, n_places: int = 0, heads: int = 8):
        super().__init__()
        self.heads = heads
        if n_places:
            self.positional_embedding = nn.Parameter(torch.randn(n_places + 1, width) / width**0.5)
        self.k_proj, self.q_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.c_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, places: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, D) of (B, P, D); `mask` (B, P) is False on padding."""
        if mask is None:
            mask = torch.ones(places.shape[:2], dtype=torch.bool, device=places.device)
        mean = (places * mask[..., None]).sum(dim=1, keepdim=True) / mask.sum(dim=1)[:, None, None].clamp(min=1)
        tokens = torch.cat([mean, places], dim=1)
        if hasattr(self, "positional_embedding"):
            tokens = tokens + at_grid(self.positional_embedding, round(places.shape[1] ** 0.5))
        asked = self._split(self.q_proj(tokens[:, :1]))
        seen = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)[:, None, None]
        attended = F.scaled_dot_product_attention(asked, self._split(self.k_proj(tokens)), self._split(self.v_proj(tokens)), attn_mask=seen)
        return self.c_proj(attended.transpose(1, 2).flatten(2))[:, 0]

    def _split(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)
