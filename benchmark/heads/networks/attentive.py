"""Cross-attention of one learned query a class over the places of a map, and a linear layer for each class on what its query gathers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from benchmark.heads.base import HeadRequest, at_least_float32
from benchmark.heads.networks.classifier import Classifier

MOST_HEADS = 8  # of the attention; fewer where the channels cannot be divided so


class Attentive(Classifier):
    """Predicts (B, C) probabilities. Loss: binary cross-entropy over known labels, as of the linear classifier.

    At 2,048 channels and one class 8.4 million parameters, nearly all of them keys and values.
    """

    def __init__(self, request: HeadRequest):
        deepest = max(request.channels)
        width = request.channels[deepest]
        super().__init__(HeadRequest(request.channels, request.n_classes, request.frame_size, request.switches, embed_dim=width))
        self.strides = (deepest,)
        self.n_heads = math.gcd(width, MOST_HEADS)
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(request.n_classes, width) / math.sqrt(width))
        self.keys, self.values = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, pyramid: Mapping[int, Tensor], images: Tensor | None = None) -> Tensor:
        """(B, C) float32 (or more) logits."""
        gathered = self.gathered(pyramid[self.strides[0]])
        return at_least_float32((gathered * self.classify.weight).sum(dim=2) + self.classify.bias)

    def gathered(self, features: Tensor) -> Tensor:
        """(B, C, D): what each class's query takes from a (B, D, h, w) map."""
        places = self.norm(features.flatten(2).transpose(1, 2))
        keys, values = self._split(self.keys(places)), self._split(self.values(places))
        queries = self._split(self.queries[None]).to(keys.dtype)
        attention = (queries @ keys.transpose(2, 3) / math.sqrt(keys.shape[3])).softmax(dim=3)
        return (attention.to(values.dtype) @ values).transpose(1, 2).flatten(2)

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, heads, N, D / heads) of (B, N, D)."""
        return tokens.unflatten(2, (self.n_heads, -1)).transpose(1, 2)
