"""LoVT's U-Net decoder on any feature pyramid, the normalised image as its last skip.

The paper defines it for ResNet-50; here the width at level k is max(16, deepest channels / 2^k), which equals the paper's table at 2,048.
A stride the encoder does not offer means no skip at that level. Loss: `dice_loss`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from benchmark.errors import ConformanceError, UsageError
from benchmark.heads._sizes import IMAGE_CHANNELS, UNET_LEAST_WIDTH
from benchmark.heads.base import Head, HeadRequest, Targets
from benchmark.heads.networks.dice_loss import DiceLoss


class UNet(Head):
    """Predicts (B, C, S, S) probabilities. PyTorch's default initialisation throughout, as in the paper's code.

    At channels {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048} and one class: 124,300,544 parameters plus 65 of the last convolution.

    Raises:
        ConformanceError: a stride is no power of two.
        UsageError: the frame is no multiple of the deepest stride, so that maps and skips would not fit.
    """

    reads_image = True

    def __init__(self, request: HeadRequest):
        super().__init__()
        _check(request)
        deepest = max(request.channels)
        self.strides = tuple(sorted(stride for stride in request.channels if stride > 1))
        width = request.channels[deepest]
        self.bridge = nn.Sequential(_conv_block(width, width), _conv_block(width, width))
        self.ups = nn.ModuleList()
        self.skip_strides: list[int] = []
        stride, level, incoming = deepest, 0, width
        while stride > 1:
            stride, level = stride // 2, level + 1
            outgoing = max(UNET_LEAST_WIDTH, width // 2**level)
            skip = IMAGE_CHANNELS if stride == 1 else request.channels.get(stride, 0)
            self.ups.append(_Up(incoming, skip, outgoing))
            self.skip_strides.append(stride)
            incoming = outgoing
        self.dice = DiceLoss.asked_by(request.switches, request.n_classes)
        self.classify = nn.Conv2d(incoming, request.n_classes, kernel_size=1)

    def forward(self, pyramid: Mapping[int, Tensor], images: Tensor | None = None) -> Tensor:
        """(B, C, S, S) logits."""
        decoded = self.bridge(pyramid[self.strides[-1]])
        for up, stride in zip(self.ups, self.skip_strides, strict=True):
            decoded = up(decoded, images if stride == 1 else pyramid.get(stride))
        return self.classify(decoded)

    def sums(self, outputs: Tensor, targets: Targets) -> Tensor:
        return self.dice.sums(outputs, targets.true_masks)

    def loss_of(self, sums: Tensor, n_images: int) -> Tensor:
        return self.dice.loss_of(sums)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.float().sigmoid()


class _Up(nn.Module):
    """Doubles the grid, concatenates [upsampled, skip], two convolution blocks."""

    def __init__(self, incoming: int, skip: int, outgoing: int):
        super().__init__()
        self.upsample = nn.ConvTranspose2d(incoming, outgoing, kernel_size=2, stride=2)
        self.blocks = nn.Sequential(_conv_block(outgoing + skip, outgoing), _conv_block(outgoing, outgoing))

    def forward(self, decoded: Tensor, skip: Tensor | None) -> Tensor:
        upsampled = self.upsample(decoded)
        return self.blocks(upsampled if skip is None else torch.cat([upsampled, skip], dim=1))


def _conv_block(incoming: int, outgoing: int) -> nn.Sequential:
    # The bias before BatchNorm does nothing, but the paper's code has it and its parameter count includes it.
    return nn.Sequential(nn.Conv2d(incoming, outgoing, kernel_size=3, padding=1), nn.BatchNorm2d(outgoing), nn.ReLU(inplace=True))


def _check(request: HeadRequest) -> None:
    deepest = max(request.channels)
    odd = sorted(stride for stride in request.channels if stride & (stride - 1))
    if odd:
        raise ConformanceError(
            f"The U-Net head doubles the grid at each level and cannot use stride {odd[0]}: offer strides 2, 4, 8, 16, 32."
        )
    if request.frame_size % deepest:
        raise UsageError(f"The U-Net head needs a frame that stride {deepest} divides; {request.frame_size} px leaves a remainder.")
