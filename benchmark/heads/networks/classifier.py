"""One linear layer on the encoder's pooled embedding: findings that may occur together, one sigmoid each."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.cards import POOLED
from benchmark.heads.base import Head, HeadRequest, Targets, at_least_float32


class Classifier(Head):
    """Predicts (B, C) probabilities. Loss: binary cross-entropy, unweighted, over labels that are known.

    embed_dim x classes weights and a bias per class: 2,049 parameters for one class on ResNet-50.
    """

    def __init__(self, request: HeadRequest):
        super().__init__()
        self.strides = (POOLED,)
        self.classify = nn.Linear(request.embed_dim, request.n_classes)

    def forward(self, pyramid: Mapping[int, Tensor], images: Tensor | None = None) -> Tensor:
        """(B, C) float32 (or more) logits."""
        return at_least_float32(self.classify(pyramid[POOLED].flatten(1)))

    def sums(self, outputs: Tensor, targets: Targets) -> Tensor:
        """(2,): cross-entropy over known labels, and how many labels are known, which differs between images."""
        labels = targets.true_labels
        known = labels >= 0
        each = F.binary_cross_entropy_with_logits(outputs, labels.clamp(min=0).to(outputs.dtype), reduction="none")
        return torch.stack([torch.where(known, each, 0).sum(), known.sum().to(each.dtype)])

    def loss_of(self, sums: Tensor, n_images: int) -> Tensor:
        wrong, n_known = sums.unbind()
        return wrong / n_known.clamp(min=1)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.float().sigmoid()
