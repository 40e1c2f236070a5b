"""CLIP's two towers under OpenAI's own names, so that a flat CLIP dict loads strictly.

`network` holds `visual.*`, and with text also the text tower. Images give the last block after the final norm, at the stride of the patch;
positions are interpolated bicubically to the input. Source of the layout: docs/sources.md, CLIP (302 tensors of a ViT-B/32).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from benchmark.cards import BackboneSpec, Normalisation
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone, named_towers

DEFAULT_LAYOUT = "clip"
Activation = Literal["quick_gelu", "gelu"]
# OpenAI's statistics, on the [0, 1] scale.
NORMALISATION = Normalisation(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class ClipShape:
    """Sizes of both towers; `heads` follow from a width of 64 each, as in CLIP.

    Attributes:
        image_size: side for which the table of positions was made.
        joint: width of the joint space; 0 leaves out the image projection.
        vocabulary: 0 builds no text tower.
        text_heads: None = as many as follow from `head_width`.
        activation: OpenAI's fast GELU, or the exact one, as in most of open_clip's models.
    """

    patch: int
    width: int = 768
    layers: int = 12
    image_size: int = 224
    joint: int = 512
    head_width: int = 64
    vocabulary: int = 0
    context: int = 77
    text_width: int = 512
    text_layers: int = 12
    text_heads: int | None = None
    activation: Activation = "quick_gelu"


MODELS = {
    "vit-b-32": ClipShape(patch=32),
    "vit-b-16": ClipShape(patch=16),
    "vit-b-16-11-blocks": ClipShape(patch=16, layers=11, joint=0),
}
VOCABULARY = 49408


def build(model: str) -> ClipBackbone:
    """A randomly initialised image tower; `MODEL+text` adds the text tower.

    Raises:
        UnknownName: not one of `MODELS`.
    """
    name, has_text = named_towers("clip", model, MODELS)
    shape = MODELS[name]
    return ClipBackbone(model, shape if not has_text else ClipShape(**{**vars(shape), "vocabulary": VOCABULARY}))


class ClipBackbone(VisionLanguageBackbone):
    """Global image embedding: the class token after the last norm, projected. Local: every patch likewise."""

    def __init__(self, name: str, shape: ClipShape):
        super().__init__()
        self.shape, self.max_tokens = shape, shape.context
        self.network = _Clip(shape)
        self.input_multiple = shape.patch
        self.spec = BackboneSpec(
            name=name, strides={shape.patch: shape.width}, embed_dim=shape.width, normalisation=NORMALISATION, pretraining=()
        )

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        side = images.shape[-1] // self.shape.patch
        tokens = self.network.visual.ln_post(self.network.visual(images)[0])
        return {self.shape.patch: tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))}

    def pooled(self, images: Tensor) -> Tensor:
        return self.network.visual.ln_post(self.network.visual(images)[0][:, 0])

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        side = images.shape[-1] // self.shape.patch
        tokens = self.network.visual.ln_post(self.network.visual(images)[0])
        joint = tokens @ self.network.visual.proj if self.shape.joint else tokens
        return ImageEmbedding(joint[:, 0], joint[:, 1:].transpose(1, 2).unflatten(2, (side, side)))

    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        tokens = self.tokenise(texts)
        states = self.text_states(tokens.ids)
        joint = states @ self.network.text_projection
        last = tokens.ids.argmax(dim=1)  # the end token has the largest number of the vocabulary
        return TextEmbedding(joint[torch.arange(len(joint)), last], joint.transpose(1, 2), tokens.words, tokens.n_truncated)

    def text_states(self, ids: Tensor) -> Tensor:
        """(M, T, text width) states of the text tower after its last norm; a position sees those before it."""
        network = self.network
        states = network.token_embedding(ids) + network.positional_embedding[: ids.shape[1]]
        future = torch.full((ids.shape[1],) * 2, -math.inf, device=ids.device).triu(1)
        return network.ln_final(network.transformer(states, future)[0])


class _Clip(nn.Module):
    def __init__(self, shape: ClipShape):
        super().__init__()
        self.visual = _Visual(shape)
        if not shape.vocabulary:
            return
        width = shape.text_width
        self.token_embedding = nn.Embedding(shape.vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(shape.context, width) * 0.01)
        self.transformer = _Transformer(width, shape.text_layers, shape.text_heads or max(1, width // shape.head_width), shape.activation)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, shape.joint) * width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))


class _Visual(nn.Module):
    def __init__(self, shape: ClipShape):
        super().__init__()
        width, scale = shape.width, shape.width**-0.5
        self.conv1 = nn.Conv2d(3, width, kernel_size=shape.patch, stride=shape.patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn((shape.image_size // shape.patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = _Transformer(width, shape.layers, max(1, width // shape.head_width), shape.activation)
        self.ln_post = nn.LayerNorm(width)
        if shape.joint:
            self.proj = nn.Parameter(scale * torch.randn(width, shape.joint))

    def forward(self, images: Tensor, *, with_attention: bool = False) -> tuple[Tensor, list[Tensor]]:
        """(B, 1 + patches, width) tokens of the last block before the last norm, and (B, heads, T, T) attention of each block if asked."""
        maps = self.conv1(images)
        tokens = maps.flatten(2).transpose(1, 2)
        positions = resample_abs_pos_embed(self.positional_embedding[None], list(maps.shape[-2:]), num_prefix_tokens=1)
        tokens = torch.cat([self.class_embedding.expand(len(tokens), 1, -1), tokens], dim=1) + positions
        return self.transformer(self.ln_pre(tokens), None, with_attention=with_attention)


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, activation: Activation):
        super().__init__()
        self.resblocks = nn.ModuleList(ClipBlock(width, heads, activation) for _ in range(layers))

    def forward(self, tokens: Tensor, mask: Tensor | None, *, with_attention: bool = False) -> tuple[Tensor, list[Tensor]]:
        attention: list[Tensor] = []
        for block in self.resblocks:
            tokens, weights = block(tokens, mask, with_attention=with_attention)
            attention += [weights] if with_attention else []
        return tokens, attention


class ClipBlock(nn.Module):
    """One pre-norm block, by default with CLIP's fast GELU."""

    def __init__(self, width: int, heads: int, activation: Activation = "quick_gelu"):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", _QuickGelu() if activation == "quick_gelu" else nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None, *, with_attention: bool = False) -> tuple[Tensor, Tensor | None]:
        seen = self.ln_1(tokens)
        attended, weights = self.attn(seen, seen, seen, attn_mask=mask, need_weights=with_attention, average_attn_weights=False)
        tokens = tokens + attended
        return tokens + self.mlp(self.ln_2(tokens)), weights


class _QuickGelu(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values * torch.sigmoid(1.702 * values)
