"""One linear layer on every cell of the deepest map; the mean of a finding's cells is its logit, and the cells are its map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.heads.base import HeadRequest, Targets, at_least_float32
from benchmark.heads.networks.classifier import Classifier
from benchmark.heads.networks.linear import grid_of
from benchmark.metrics.class_maps import Cut


class ClassMap(Classifier):
    """Predicts (B, C, g, g) logits. Loss: binary cross-entropy of their means over known labels, as of the linear classifier.

    Where each finding's maps are cut is a part of the state, chosen on validation (`keep_cuts`): a restored head cuts as its epoch did.
    20,490 parameters for ten classes at 2,048 channels.
    """

    grid: int
    cuts: Tensor

    def __init__(self, request: HeadRequest):
        deepest = max(request.channels)
        super().__init__(replace(request, embed_dim=request.channels[deepest]))
        self.strides = (deepest,)
        self.grid = grid_of(request, deepest)
        self.register_buffer("cuts", torch.full((request.n_classes, len(Cut._fields)), torch.nan, dtype=torch.float64))

    def forward(self, pyramid: Mapping[int, Tensor], images: Tensor | None = None) -> Tensor:
        """(B, C, g, g) float32 (or more) logits."""
        features = pyramid[self.strides[0]]
        if features.shape[-1] != self.grid:
            features = F.adaptive_avg_pool2d(features, self.grid)
        return at_least_float32(self.classify(features.movedim(1, -1)).movedim(-1, 1))

    def sums(self, outputs: Tensor, targets: Targets) -> Tensor:
        return super().sums(pooled(outputs), targets)

    def predict(self, outputs: Tensor) -> Tensor:
        """(B, C, g, g) float32 logits."""
        return outputs.float()

    def keep_cuts(self, cuts: Sequence[Cut | None]) -> None:
        """Keeps where each class's maps are cut; None where validation does not tell."""
        values = [(torch.nan, torch.nan) if cut is None else tuple(cut) for cut in cuts]
        self.cuts.copy_(torch.tensor(values, dtype=self.cuts.dtype))

    def kept_cuts(self) -> list[Cut | None]:
        """As `keep_cuts` took them."""
        return [None if row[0] != row[0] else Cut(*row) for row in self.cuts.tolist()]


def pooled(maps: Tensor) -> Tensor:
    """(B, C) logits of whole images."""
    return maps.mean(dim=(2, 3))
