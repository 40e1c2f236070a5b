"""LoVT's linear segmentation head: one 1 x 1 convolution on the deepest features, logits upsampled to the frame.

No trained layer stands between encoder and convolution, so the score is the representation's. Frozen features can be cached: the head
reads one level and nothing of the image. Loss: `dice_loss`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.heads.base import Head, HeadRequest, Targets
from benchmark.heads.networks.dice_loss import dice_loss_of, dice_sums

GRID_STRIDE = 32  # 7 x 7 at 224 px; a finer grid would win by geometry alone (docs: tracks)


class Linear(Head):
    """Predicts (B, C, S, S) probabilities. A deepest level finer than stride 32 is average-pooled to the stride-32 grid first.

    2,049 parameters at 2,048 channels and one class, 16,392 at eight.
    """

    grid: int

    def __init__(self, request: HeadRequest):
        super().__init__()
        deepest = max(request.channels)
        self.strides = (deepest,)
        self.frame_size = request.frame_size
        self.grid = request.frame_size // max(GRID_STRIDE, deepest)
        self.classify = nn.Conv2d(request.channels[deepest], request.n_classes, kernel_size=1)

    def forward(self, pyramid: Mapping[int, Tensor], images: Tensor | None = None) -> Tensor:
        """(B, C, S, S) float32 logits."""
        logits = self.classify(self.features(pyramid)).float()
        return F.interpolate(logits, size=(self.frame_size, self.frame_size), mode="bilinear", align_corners=False)

    def features(self, pyramid: Mapping[int, Tensor]) -> Tensor:
        """(B, D, g, g): what the convolution sees."""
        features = pyramid[self.strides[0]]
        return features if features.shape[-1] == self.grid else F.adaptive_avg_pool2d(features, self.grid)

    def sums(self, outputs: Tensor, targets: Targets) -> Tensor:
        return dice_sums(outputs, targets.true_masks)

    def loss_of(self, sums: Tensor, n_images: int) -> Tensor:
        return dice_loss_of(sums)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.float().sigmoid()
