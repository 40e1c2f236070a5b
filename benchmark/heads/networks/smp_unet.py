"""The U-Net decoder of segmentation_models_pytorch on any feature pyramid, with GLoRIA's loss: what GLoRIA, MGCA and G2D segment with.

Decoder, initialisation and names of parameters are the library's own (its defaults: two 3 x 3 convolutions with BatchNorm a level, nearest
upsampling, skips by concatenation, none at full resolution). The library's encoders are not used: the levels are the backbone's.
LoVT's U-Net is another network; it is the head `unet`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor

from benchmark.errors import ConformanceError, UsageError
from benchmark.heads._sizes import SMP_WIDTHS
from benchmark.heads.base import Head, HeadRequest, Targets
from benchmark.heads.networks.mixed_loss import mixed_loss_of, mixed_sums

DEEPEST = 32
IMAGE_CHANNELS = 3  # of the library's first level, the image, which its decoder leaves out


class SmpUNet(Head):
    """Predicts (B, C, S, S) probabilities. Outputs: (B, C, S, S) logits.

    9,012,928 parameters and 145 of the last convolution at ResNet-50's channels and one class. A stride the encoder does not offer means no
    skip at that level; an encoder that ends at stride 16 starts one level later.

    Raises:
        ConformanceError: a stride is no power of two, deeper than 32, or there is none above 1.
        UsageError: the frame is no multiple of the deepest stride.
    """

    def __init__(self, request: HeadRequest):
        super().__init__()
        _check(request)
        self.strides = tuple(sorted(stride for stride in request.channels if stride > 1))
        self.frame_size = request.frame_size
        deepest = self.strides[-1]
        self.levels = [2**k for k in range(deepest.bit_length())]  # 1, 2, ..., deepest
        channels = [IMAGE_CHANNELS, *(request.channels.get(stride, 0) for stride in self.levels[1:])]
        widths = [width for stride, width in SMP_WIDTHS.items() if stride < deepest]
        self.decoder = UnetDecoder(encoder_channels=channels, decoder_channels=widths, n_blocks=len(widths))
        self.segmentation_head = SegmentationHead(widths[-1], request.n_classes, kernel_size=3)
        initialize_decoder(self.decoder)
        initialize_head(self.segmentation_head)

    def forward(self, pyramid: Mapping[int, Tensor], images: Tensor | None = None) -> Tensor:
        deepest = pyramid[self.strides[-1]]
        # The library reads sizes from its maps: an empty one of no channels stands where the encoder has no level, and for the image.
        features = [
            pyramid[stride] if stride in self.strides else deepest.new_zeros(len(deepest), 0, *[self.frame_size // stride] * 2)
            for stride in self.levels
        ]
        return self.segmentation_head(self.decoder(features))

    def sums(self, outputs: Tensor, targets: Targets) -> Tensor:
        return mixed_sums(outputs, targets.true_masks)

    def loss_of(self, sums: Tensor, n_images: int) -> Tensor:
        return mixed_loss_of(sums)

    def predict(self, outputs: Tensor) -> Tensor:
        return torch.sigmoid(outputs.float())


def _check(request: HeadRequest) -> None:
    deepest = max(request.channels)
    odd = sorted(stride for stride in request.channels if stride < 1 or stride & (stride - 1))
    if odd or not 1 < deepest <= DEEPEST:
        what = f"cannot use stride {odd[0]}" if odd else f"cannot start at stride {deepest}"
        raise ConformanceError(f"The smp U-Net head doubles the grid at each level and {what}: offer strides 2, 4, 8, 16, 32.")
    if request.frame_size % deepest:
        raise UsageError(f"The smp U-Net head needs a frame that stride {deepest} divides; {request.frame_size} px leaves a remainder.")
