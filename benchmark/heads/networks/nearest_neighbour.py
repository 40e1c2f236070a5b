"""A memory of normalised embeddings with their labels, and the weighted vote of the nearest. Nothing in it is trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.cards import POOLED
from benchmark.heads.base import Head, HeadRequest, Targets, require_numbers

NEIGHBOURS = 20  # DINO's k
TEMPERATURE = 0.07  # DINO's, of the cosine
LEAST = 1e-6  # a vote without a single neighbour is no certainty: its logarithm stays finite


class NearestNeighbour(Head):
    """Predicts (B, C) shares of the neighbours' weight that show a finding. Loss, for validation alone: binary cross-entropy."""

    kept: Tensor
    kept_labels: Tensor

    def __init__(self, request: HeadRequest):
        super().__init__()
        self.strides = (POOLED,)
        self.register_buffer("kept", torch.zeros(0, request.embed_dim))
        self.register_buffer("kept_labels", torch.zeros(0, request.n_classes))

    def forward(self, pyramid: Mapping[int, Tensor], images: Tensor | None = None) -> Tensor:
        """(B, D) float32 embeddings of length 1 in training mode, to be kept; else the (B, C) vote, one half where nobody votes.

        Raises:
            TrainingError: an embedding is not finite. Its vote would be one half, and kept it would be nearest to every image.
        """
        require_numbers("Embeddings", (pyramid[POOLED],), finite=True)
        embeddings = F.normalize(pyramid[POOLED].flatten(1).float(), dim=1)
        return embeddings if self.training else self.vote(embeddings)

    def learn_at_once(self, outputs: Tensor, targets: Targets) -> None:
        self.kept, self.kept_labels = outputs, targets.true_labels

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs):
        """A state brings as many images as were kept."""
        for name in ("kept", "kept_labels"):
            if (stored := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    def vote(self, embeddings: Tensor) -> Tensor:
        """(B, C) of (B, D) embeddings of length 1. Of equally near images the earlier in the training split may stand for the later."""
        if not len(self.kept):
            return embeddings.new_full((len(embeddings), self.kept_labels.shape[1]), 0.5)
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines, nearest = (embeddings @ self.kept.T).topk(min(NEIGHBOURS, len(self.kept)), dim=1)
        # The largest weight is 1: the share is the same, and nothing overflows.
        weights = ((cosines - cosines[:, :1]) / TEMPERATURE).exp()[:, :, None]
        labels = self.kept_labels[nearest]
        known = (labels >= 0) * weights
        total = known.sum(dim=1)
        return torch.where(total > 0, (known * labels).sum(dim=1) / total.clamp(min=torch.finfo(total.dtype).tiny), 0.5)

    def sums(self, outputs: Tensor, targets: Targets) -> Tensor:
        """(2,): cross-entropy over known labels, and how many labels are known."""
        labels = targets.true_labels
        known = labels >= 0
        each = F.binary_cross_entropy(outputs.float().clamp(LEAST, 1 - LEAST), labels.clamp(min=0).float(), reduction="none")
        return torch.stack([torch.where(known, each, 0).sum(), known.sum().to(each.dtype)])

    def loss_of(self, sums: Tensor, n_images: int) -> Tensor:
        wrong, n_known = sums.unbind()
        return wrong / n_known.clamp(min=1)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.float()
