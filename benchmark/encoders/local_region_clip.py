"""LOBE's own adapter of a CLIP ViT: it selects image regions and lets text and regions look at each other.

Of LRCLR only the abstract is public. This is a reconstruction of the idea, not of the paper: every size and loss below is LOBE's choice
(docs/sources.md, LRCLR), and nothing of it is listed or ranked under that name.
Feature levels are the CLIP encoder's own: the new layers serve text tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.cards import BackboneSpec
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.clip import MODELS, VOCABULARY, ClipBackbone, ClipBlock, ClipShape
from benchmark.errors import UnknownName

DEFAULT_LAYOUT = "clip-text"
Scorer = Literal["cls_last", "rollout", "learned"]
N_REGIONS = 12  # of 49 at 224 pixels and patch 32
GREATEST_LOG_SCALE = math.log(100)


def build(model: str) -> LocalRegionClip:
    """`vit-b-32` or `vit-b-16`.

    Raises:
        UnknownName: none of these.
    """
    known = ("vit-b-32", "vit-b-16")
    if model not in known:
        raise UnknownName("backbone", f"local_region_clip:{model}", [f"local_region_clip:{one}" for one in known])
    return LocalRegionClip(ClipShape(**{**vars(MODELS[model]), "vocabulary": VOCABULARY}))


class LocalRegionClip(VisionLanguageBackbone):
    """`network` is the CLIP inside, whose file is loaded; the new layers are `adapter`.

    Args:
        shape: of the CLIP, text tower included.
        scorer: how patches are scored: the class token's attention in the last block, its product over all blocks, or a learned layer.
        n_regions: patches kept; more than there are keeps all.
    """

    def __init__(self, shape: ClipShape, scorer: Scorer = "cls_last", n_regions: int = N_REGIONS):
        super().__init__()
        self.clip = ClipBackbone("clip", shape)
        self.network = self.clip.network
        self.scorer, self.n_regions = scorer, n_regions
        self.adapter = _Adapter(shape, learned=scorer == "learned")
        self.input_multiple, self.max_tokens = shape.patch, shape.context
        self.spec = BackboneSpec(**{**self.clip.spec.model_dump(), "name": "local_region_clip"})

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        return self.clip.pyramid(images, strides)

    def pooled(self, images: Tensor) -> Tensor:
        return self.clip.pooled(images)

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        """Global: the class token after one more block with the selected regions. Local: CLIP's patches."""
        chosen = self.adapter.block(self.regions(images)[0])[0]
        final = self.network.visual.ln_post(chosen[:, 0])
        return ImageEmbedding(final @ self.network.visual.proj, self.clip.embed_images(images).local)

    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        self.clip.tokenizer = self.tokenizer
        return self.clip.embed_texts(texts)

    def regions(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1 + k, width) class token and selected patches, in falling score, and (N, k) their numbers; ties go to the lower number."""
        tokens, attention = self.network.visual(images, with_attention=True)
        order = self.scores(tokens, attention).argsort(dim=1, descending=True, stable=True)[:, : self.n_regions]
        chosen = tokens[:, 1:].gather(1, order[..., None].expand(-1, -1, tokens.shape[-1]))
        return torch.cat([tokens[:, :1], chosen], dim=1), order

    def scores(self, tokens: Tensor, attention: Sequence[Tensor]) -> Tensor:
        """(N, patches) score of each patch."""
        if self.scorer == "learned":
            return self.adapter.score(tokens[:, 1:])[..., 0]
        return (attention[-1].mean(dim=1) if self.scorer == "cls_last" else rollout(attention))[:, 0, 1:]

    def interact(self, images: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What each side says of the other, (N, joint) each, for N pairs of image and text.

        Args:
            ids: (N, T) int64 tokens.
            mask: (N, T) bool, False on padding.
        """
        found = self.adapter.block(self.regions(images)[0])[0]
        return self.adapter.interact(found, self.clip.text_states(ids), mask)

    def loss(self, image: Tensor, text: Tensor, text_of_regions: Tensor, local_weight: float = 1.0) -> Tensor:
        """Symmetric InfoNCE of pooled pairs plus `local_weight` times that of texts and what they found in the image."""
        scale = self.network.logit_scale.clamp(max=GREATEST_LOG_SCALE).exp()
        return _info_nce(image, text, scale) + local_weight * _info_nce(text_of_regions, text, scale)


class _Adapter(nn.Module):
    def __init__(self, shape: ClipShape, *, learned: bool):
        super().__init__()
        heads = max(1, shape.width // shape.head_width)
        self.block = ClipBlock(shape.width, heads)
        if learned:
            self.score = nn.Linear(shape.width, 1)
        self.words = nn.Linear(shape.text_width, shape.width)
        self.text_asks = nn.MultiheadAttention(shape.width, heads, batch_first=True)
        self.image_asks = nn.MultiheadAttention(shape.width, heads, batch_first=True)
        self.to_joint = nn.Linear(shape.width, shape.joint)

    def interact(self, regions: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        words = self.words(words)
        found = self.text_asks(words, regions[:, 1:], regions[:, 1:], need_weights=False)[0]
        heard = self.image_asks(regions[:, 1:], words, words, key_padding_mask=~mask, need_weights=False)[0]
        mean = (found * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        return self.to_joint(mean), self.to_joint(heard.mean(dim=1))


def rollout(attention: Sequence[Tensor]) -> Tensor:
    """(N, T, T) product over the blocks of half identity and half mean attention; rows sum to one."""
    rolled = torch.eye(attention[0].shape[-1], device=attention[0].device).expand(len(attention[0]), -1, -1)
    for weights in attention:
        mixed = 0.5 * torch.eye(weights.shape[-1], device=weights.device) + 0.5 * weights.mean(dim=1)
        rolled = mixed / mixed.sum(dim=-1, keepdim=True) @ rolled
    return rolled


def _info_nce(one: Tensor, other: Tensor, scale: Tensor) -> Tensor:
    logits = scale * F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).T
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
