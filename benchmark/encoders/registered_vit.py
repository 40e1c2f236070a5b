"""DINOv2's ViT with registers, for files that keep its own table of positions: timm has registers, and another table.

Positions are of the class token and of the patches; registers come between the two afterwards and have none. timm folds the class token's
position into the token when it converts a file, which no list of names can say.
"""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from timm.layers import SwiGLUPacked, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class VitOptions(TypedDict, total=False):
    """What is said of a ViT; the rest is timm's default."""

    img_size: int
    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    init_values: float
    num_classes: int
    dynamic_img_size: bool


class RegisteredVit(VisionTransformer):
    """timm's ViT with DINOv2's positions.

    Args:
        n_registers: tokens between the class token and the patches.
        gated: SwiGLU of DINOv2's width in place of the two layers of a block.
    """

    def __init__(self, n_registers: int, *, gated: bool, **options: Any):
        width = options["embed_dim"]
        # Two thirds of four widths, rounded up to a multiple of eight; both gates are one layer. timm rounds the product down.
        inner = 2 * ((int(8 * width / 3) + 7) // 8 * 8)
        block: dict[str, Any] = {"mlp_ratio": (inner + 0.5) / width, "mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU} if gated else {}
        super().__init__(reg_tokens=n_registers, no_embed_class=True, **block, **options)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + self.patch_embed.num_patches, width) * 0.02)

    def _pos_embed(self, x: Tensor) -> Tensor:
        """(N, 1 + registers + patches, width) tokens; `x`: (N, h, w, width) of a `dynamic_img_size`."""
        assert self.cls_token is not None
        assert self.reg_token is not None
        assert self.pos_embed is not None
        n_images, height, width, channels = x.shape
        positions = resample_abs_pos_embed(self.pos_embed, [height, width], num_prefix_tokens=1)
        tokens = torch.cat([self.cls_token.expand(n_images, -1, -1), x.reshape(n_images, -1, channels)], dim=1) + positions
        return torch.cat([tokens[:, :1], self.reg_token.expand(n_images, -1, -1), tokens[:, 1:]], dim=1)
