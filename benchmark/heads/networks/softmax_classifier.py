"""One linear layer on the encoder's pooled embedding, for classes of which every image has exactly one."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from benchmark.heads.base import Targets
from benchmark.heads.networks.classifier import Classifier


class SoftmaxClassifier(Classifier):
    """Predicts (B, C) probabilities that add up to 1. Loss: cross-entropy, unweighted."""

    exclusive = True

    def sums(self, outputs: Tensor, targets: Targets) -> Tensor:
        """(1,): cross-entropy."""
        return F.cross_entropy(outputs, targets.true_labels.argmax(dim=1), reduction="sum")[None]

    def loss_of(self, sums: Tensor, n_images: int) -> Tensor:
        return sums[0] / n_images

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.float().softmax(dim=1)
