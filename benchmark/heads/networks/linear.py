"""LoVT's linear segmentation head: one 1 x 1 convolution on the deepest features, logits upsampled to the frame.

No trained layer stands between encoder and convolution, so the score is the representation's. Frozen features can be cached: the head
reads one level and nothing of the image. Loss: `dice_loss`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.heads.base import Head, HeadRequest, Targets
from benchmark.heads.networks.dice_loss import DiceLoss

GRID_STRIDE = 32  # LoVT's: 7 x 7 at 224 px
CONTROLLED_GRID = 7  # cells per side in any frame: a finer grid would win by geometry alone


class Linear(Head):
    """Predicts (B, C, S, S) probabilities, from the encoder's deepest level averaged to the grid that the protocol asks for (`grid_of`).

    2,049 parameters at 2,048 channels and one class, 16,392 at eight.
    """

    grid: int

    def __init__(self, request: HeadRequest):
        super().__init__()
        deepest = max(request.channels)
        self.strides = (deepest,)
        self.frame_size = request.frame_size
        self.grid = grid_of(request, deepest)
        self.dice = DiceLoss.asked_by(request.switches, request.n_classes)
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
        return self.dice.sums(outputs, targets.true_masks)

    def loss_of(self, sums: Tensor, n_images: int) -> Tensor:
        return self.dice.loss_of(sums)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.float().sigmoid()


def grid_of(request: HeadRequest, stride: int) -> int:
    """Cells per side of what the convolution sees (`Switches.linear_grid`): of stride 32, seven, or the map's own.

    A map that is coarser than what is asked for stays as it is: averaging makes no cells.
    """
    own = request.frame_size // stride
    most = {"stride-32": request.frame_size // GRID_STRIDE, "7x7": CONTROLLED_GRID, "native": own}
    return min(own, most[request.switches.linear_grid])
