"""LoVT and its ConVIRT and CLIP baselines with both sides: attention-pooled regions and sentences, projected to one space.

`network` has the file's names (side `a` is the image, `b` the report); for images alone layout `lovt` fills a torchvision ResNet.
Source: LoVT's released code (docs/sources.md, LoVT). Whether a local projection was saved as a linear layer or a 1 x 1 convolution is not
known; both load. Sentences are split by LOBE's rule, not by Stanza.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from benchmark.cards import BackboneSpec
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone, mean_of_parts
from benchmark.encoders.text import bert, bert_states, join_sentences, sentences
from benchmark.encoders.torchvision import ARCHITECTURES, resnet, run_levels
from benchmark.errors import UnknownName

DEFAULT_LAYOUT = "lovt-text"
HIDDEN, JOINT, HEADS = 2048, 512, 8
MAX_TOKENS = 512


@dataclass(frozen=True)
class Variant:
    """What differs between the three methods trained in LoVT's repository.

    Attributes:
        attends_regions: the image is pooled by attention; else by the mean.
        attends_sentences: the report's sentences are pooled by attention; else the maximum over tokens.
        normed: BatchNorm inside the projections.
        local: local projections and the cross-modal attention.
    """

    attends_regions: bool = True
    attends_sentences: bool = True
    normed: bool = True
    local: bool = True


VARIANTS = {
    "lovt": Variant(),
    "clip": Variant(attends_sentences=False, local=False),
    "convirt": Variant(attends_regions=False, attends_sentences=False, normed=False, local=False),
}


def build(model: str) -> Lovt:
    """`lovt`, `clip` or `convirt`, each a ResNet-50 with Bio_ClinicalBERT.

    Raises:
        UnknownName: none of these.
    """
    if model not in VARIANTS:
        raise UnknownName("backbone", f"lovt:{model}", [f"lovt:{one}" for one in VARIANTS])
    return Lovt(model, "resnet50", BertConfig(vocab_size=28996))


class Lovt(VisionLanguageBackbone):
    max_tokens = MAX_TOKENS

    def __init__(self, variant: str, encoder: str, text: BertConfig):
        super().__init__()
        self.variant = VARIANTS[variant]
        self.levels = ARCHITECTURES[encoder]
        strides = {level.stride: level.channels for level in self.levels}
        self.network = _Network(self.variant, encoder, strides[32], text)
        self.spec = BackboneSpec(name=f"{variant} {encoder}", strides=strides, embed_dim=strides[32], pretraining=())

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        layers = self.network.model_a.encoder.feature_extractor.backbone_layers
        return run_levels(layers, self.levels, images, self.spec.strides if strides is None else strides)

    def pooled(self, images: Tensor) -> Tensor:
        return self._pool_regions(self.pyramid(images, (32,))[32])

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        """Local: (N, 512, h, w); without local projections the global one at every region."""
        maps, side = self.pyramid(images, (32,))[32], self.network.model_a
        places = side.project_places(maps.flatten(2))
        return ImageEmbedding(side.project_global(self._pool_regions(maps)), places.unflatten(2, maps.shape[-2:]))

    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        """Local: one vector per sentence."""
        side = self.network.model_b
        tokens, owner = join_sentences(self.required_tokenizer, [sentences(text) for text in texts], whole_only=True)
        states = bert_states(side.encoder.language_model, tokens)[0]
        belongs = owner[:, None] == torch.arange(max(1, int(owner.max()) + 1))[None, :, None]
        spread = states[:, None].masked_fill(~belongs[..., None], float("-inf"))
        mask = belongs.any(dim=2)
        each = spread.amax(dim=2).masked_fill(~mask[..., None], 0.0)
        aggregator = side.encoder.global_aggregator
        if aggregator is not None:
            # The released query is the mean over the padded axis, so that a text's vector would be that of its longest neighbour.
            query = each.sum(dim=1, keepdim=True) / mask.sum(dim=1).clamp(min=1)[:, None, None]
            pooled = aggregator.attention(query, each, each, key_padding_mask=~mask, need_weights=False)[0][:, 0]
        else:
            largest = each.masked_fill(~mask[..., None], float("-inf")).amax(dim=1)
            pooled = largest.masked_fill(~mask.any(dim=1)[:, None], 0.0)  # a text without a sentence has no largest value
        return TextEmbedding(side.project_global(pooled), side.project_places(each.transpose(1, 2)), mask, tokens.n_truncated)

    def among_places(self, text: TextEmbedding) -> Tensor:
        """The mean of its sentences where regions and sentences have projections of their own, which the local losses bring together."""
        return mean_of_parts(text) if self.variant.local else text.global_

    def _pool_regions(self, maps: Tensor) -> Tensor:
        regions = maps.flatten(2).transpose(1, 2)
        aggregator = self.network.model_a.encoder.global_aggregator
        if aggregator is None:
            return regions.mean(dim=1)
        return aggregator.attention(regions.mean(dim=1, keepdim=True), regions, regions, need_weights=False)[0][:, 0]


class _Network(nn.Module):
    def __init__(self, variant: Variant, encoder: str, width: int, text: BertConfig):
        super().__init__()
        # The networks come last: so random numbers are drawn in the order in which they always were.
        self.model_a = _Side(variant, width, _ImageEncoder(width, attends=variant.attends_regions))
        self.model_a.encoder.feature_extractor = _FeatureExtractor(encoder)
        self.model_b = _Side(variant, text.hidden_size, _TextEncoder(text.hidden_size, attends=variant.attends_sentences))
        self.model_b.encoder.language_model = bert(text)
        if variant.local:
            self.ll_attention = nn.Module()
            for role in ("key", "value", "output"):
                setattr(self.ll_attention, f"{role}_projection", nn.Linear(JOINT, JOINT))
            self.ll_attention.norm = nn.BatchNorm1d(JOINT)


class _Aggregator(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)


class _Encoder(nn.Module):
    """A side's pool, where it attends; without, `global_aggregator` is None."""

    def __init__(self, width: int, *, attends: bool):
        super().__init__()
        self.global_aggregator = _Aggregator(width) if attends else None


class _ImageEncoder(_Encoder):
    feature_extractor: _FeatureExtractor


class _TextEncoder(_Encoder):
    language_model: BertModel


class _FeatureExtractor(nn.Module):
    def __init__(self, encoder: str):
        super().__init__()
        self.backbone_layers = resnet(encoder)


SideEncoder = TypeVar("SideEncoder", bound=_Encoder)


class _Side(nn.Module, Generic[SideEncoder]):
    encoder: SideEncoder

    def __init__(self, variant: Variant, width: int, encoder: SideEncoder):
        super().__init__()
        self.encoder = encoder
        self.project_global = _Projection(width, normed=variant.normed)
        self.project_local = _Projection(width, normed=variant.normed) if variant.local else None

    def project_places(self, values: Tensor) -> Tensor:
        """(N, D, P) places or sentences to (N, 512, P), by the global projection where there is no local one."""
        return (self.project_global if self.project_local is None else self.project_local)(values)


class _Projection(nn.Module):
    """Of (N, D) vectors, or of (N, D, P) places each alone."""

    def __init__(self, width: int, *, normed: bool):
        super().__init__()
        self.projection_before = nn.Linear(width, HIDDEN)
        self.norm = nn.BatchNorm1d(HIDDEN) if normed else nn.Identity()
        self.projection_after = nn.Linear(HIDDEN, JOINT)

    def forward(self, values: Tensor) -> Tensor:
        if values.dim() == 2:
            return self.projection_after(self.norm(self.projection_before(values)).relu())
        hidden = self.norm(self.projection_before(values.transpose(1, 2)).transpose(1, 2)).relu()
        return self.projection_after(hidden.transpose(1, 2)).transpose(1, 2)
