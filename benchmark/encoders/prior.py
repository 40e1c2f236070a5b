"""PRIOR: a ResNet-50 with one input channel, and for text a BERT whose tokens are averaged per sentence.

The encoder file is a bare ResNet; the full file also holds attention pools, projections and sentence prototypes.
Source: PRIOR's released code (docs/sources.md, PRIOR). The released local projection was trained on rows that mix channels and places (a
reshape without transposition); here it is applied to places, the only spatial reading, and says nothing about the paper's attention.
Prototypes are read without the Gumbel noise that the released code adds at test time too. Reports average the tokens of their sentences,
prompts read as released their [SEP] as well (`embed_prompts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import BertConfig

from benchmark.cards import BackboneSpec, Normalisation
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone, named_towers
from benchmark.encoders.text import Tokens, bert, bert_states, join_sentences, sentences
from benchmark.encoders.torchvision import ARCHITECTURES, resnet, run_levels
from benchmark.objectives.kit.pooling import AttentionPool

DEFAULT_LAYOUT = "prior"
MIMIC = Normalisation(mean=(0.4755,), std=(0.3011,))
JOINT, N_PROTOTYPES, TEMPERATURE = 768, 512, 0.9
MAX_TOKENS = 256
GRID = 7  # of the released table of positions


def build(model: str) -> Prior:
    """`resnet50` for the encoder file, `resnet50+text` for the full one.

    Raises:
        UnknownName: another architecture.
    """
    name, has_text = named_towers("prior", model, ("resnet50",))
    return Prior(name, BertConfig(vocab_size=28996) if has_text else None)


class Prior(VisionLanguageBackbone):
    """Reads the first of three equal channels: the harness gives grey images."""

    max_tokens = MAX_TOKENS
    network: nn.Module

    def __init__(self, model: str, text: BertConfig | None = None):
        super().__init__()
        self.has_text = text is not None
        self.levels = ARCHITECTURES[model]
        strides = {level.stride: level.channels for level in self.levels}
        encoder = resnet(model, channels=1)
        self.network = encoder if text is None else _Full(encoder, strides[32], text)
        self.spec = BackboneSpec(
            name=f"prior {model}", in_channels=1, strides=strides, embed_dim=strides[32], normalisation=MIMIC, pretraining=()
        )

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        encoder = self.network.image_encoder.encoder if isinstance(self.network, _Full) else self.network
        return run_levels(encoder, self.levels, images[:, :1], self.spec.strides if strides is None else strides)

    def pooled(self, images: Tensor) -> Tensor:
        """Mean pooling, as the encoder file allows no other; with the full file the attention pool."""
        deepest = self.pyramid(images, (32,))[32]
        if not isinstance(self.network, _Full):
            return deepest.mean(dim=(2, 3))
        return self.network.image_encoder.atten_pool(deepest.flatten(2).transpose(1, 2))

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        full, deepest = self._full, self.pyramid(images, (32,))[32]
        places = deepest.flatten(2).transpose(1, 2)
        local = full.local_image_projection(places).transpose(1, 2).unflatten(2, deepest.shape[-2:])
        return ImageEmbedding(full.global_image_projection(full.image_encoder.atten_pool(places)), local)

    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        """Local: one vector per sentence, the mean of its own tokens ([CLS] and [SEP] belong to none), replaced by its prototypes."""
        tokens, owner = join_sentences(self.required_tokenizer, [sentences(text) for text in texts], whole_only=False)
        return self._pooled_sentences(tokens, owner)

    def embed_prompts(self, texts: Sequence[str]) -> TextEmbedding:
        """As the released zero-shot code: each prompt is one sentence, and the mean covers its [SEP] too.

        It cuts off the first and the last of 256 positions and averages what is not padding, and [SEP] stands before the padding.
        """
        tokens = self.required_tokenizer(texts)
        owner = torch.full_like(tokens.ids, -1)
        owner[:, 1:][tokens.mask[:, 1:]] = 0
        owner[:, self.required_tokenizer.max_length - 1 :] = -1  # a prompt that fills all positions loses its [SEP]
        return self._pooled_sentences(tokens, owner)

    @property
    def _full(self) -> _Full:
        if not isinstance(self.network, _Full):
            raise self._images_alone("prior:resnet50+text")
        return self.network

    def _pooled_sentences(self, tokens: Tokens, owner: Tensor) -> TextEmbedding:
        """Means of the tokens of each sentence as their prototypes, and the report's pool; `owner` as `join_sentences` gives it."""
        network = self._full
        states = network.local_text_projection(bert_states(network.text_encoder.encoder, tokens)[0])
        n_sentences = max(1, int(owner.max()) + 1)
        belongs = owner[:, None] == torch.arange(n_sentences)[None, :, None]
        means = (belongs.float() @ states) / belongs.sum(dim=2, keepdim=True).clamp(min=1)
        prototypes = network.sentence_bank.embed.weight
        means = (means @ prototypes.T / TEMPERATURE).softmax(dim=-1) @ prototypes
        mask = belongs.any(dim=2)
        return TextEmbedding(network.global_text_attention(means, mask), means.transpose(1, 2), mask, tokens.n_truncated)


class _Full(nn.Module):
    def __init__(self, encoder: nn.Module, width: int, text: BertConfig):
        super().__init__()
        self.image_encoder = _ImageEncoder(encoder, width)
        self.text_encoder = _TextEncoder(text)
        self.global_text_attention = AttentionPool(JOINT)
        self.global_image_projection, self.local_image_projection = nn.Linear(width, JOINT), nn.Linear(width, JOINT)
        self.global_text_projection = nn.Linear(text.hidden_size, JOINT)  # in the file, and used by nothing
        self.local_text_projection = nn.Linear(text.hidden_size, JOINT)
        self.local_cross_attention = nn.Module()
        for side in (1, 2):
            for role in ("query", "key", "value"):
                setattr(self.local_cross_attention, f"{role}{side}", nn.Linear(JOINT, JOINT))
        self.sentence_bank = _SentenceBank()
        self.logit_scale, self.local_logit_scale = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))


class _ImageEncoder(nn.Module):
    def __init__(self, encoder: nn.Module, width: int):
        super().__init__()
        self.encoder = encoder
        self.atten_pool = AttentionPool(width, GRID**2)


class _TextEncoder(nn.Module):
    def __init__(self, text: BertConfig):
        super().__init__()
        self.encoder = bert(text)


class _SentenceBank(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(N_PROTOTYPES, JOINT)
