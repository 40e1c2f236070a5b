"""Adds up what a head's layers hold, for the `size` of its module, and the widths that a network and its size both read.

No torch here: a forecast is made before any framework is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmark.cards import HeadSize

IMAGE_CHANNELS = 3
UNET_LEAST_WIDTH = 16
# The default widths (256, 128, 64, 32, 16) of segmentation_models_pytorch, written by the stride of the grid that a level makes.
SMP_WIDTHS = {16: 256, 8: 128, 4: 64, 2: 32, 1: 16}
YOLO_STRIDES = (8, 16, 32)
YOLO_WIDTHS = (512, 256, 128)  # from the deepest level
LOSS_MAPS = 3  # of a map of logits, that a loss on pixels keeps beside it: its probabilities, and two products


class Tally:
    """Layers of a head, one after the other; every method gives the channels that come out.

    Args:
        strides: levels of features that are read; they are kept, as what the first layers see.
        channels: stride -> channels the encoder offers.
        frame_size: side of the input in pixels.
        reads_image: the normalised image is kept too.
    """

    def __init__(self, strides: tuple[int, ...], channels: Mapping[int, int], frame_size: int, *, reads_image: bool = False):
        self.strides, self.reads_image = strides, reads_image
        self.parameters = self.multiplications = 0
        self.kept = sum(channels[stride] * (frame_size // stride) ** 2 for stride in strides)
        self.kept += IMAGE_CHANNELS * frame_size**2 if reads_image else 0
        self._largest = 0

    def layer(self, incoming: int, outgoing: int, side: int, kernel: int = 1) -> int:
        """A convolution with bias that ends in `outgoing` maps of `side` x `side`."""
        self.parameters += (kernel**2 * incoming + 1) * outgoing
        self.multiplications += kernel**2 * incoming * outgoing * side**2
        self.kept += outgoing * side**2
        return outgoing

    def block(self, incoming: int, outgoing: int, side: int, kernel: int = 3, *, bias: bool = False) -> int:
        """Convolution, BatchNorm, and an activation in place: BatchNorm keeps what it sees, the next layer what the activation leaves."""
        self.parameters += (kernel**2 * incoming + (3 if bias else 2)) * outgoing
        self.multiplications += kernel**2 * incoming * outgoing * side**2
        self.kept += 2 * outgoing * side**2
        return outgoing

    def recomputed(self, incoming: int, outgoing: int, side: int, kernel: int = 3) -> int:
        """As `block`, whose activation is made again for the backward pass (`networks.recomputed`): one of them is there at a time."""
        self.block(incoming, outgoing, side, kernel)
        self.kept -= outgoing * side**2
        self._largest = max(self._largest, outgoing * side**2)
        return outgoing

    def doubled(self, incoming: int, outgoing: int, side: int) -> int:
        """A transposed convolution with bias from maps of half the side; what it makes is kept as part of what it is joined with."""
        self.parameters += (4 * incoming + 1) * outgoing
        self.multiplications += incoming * outgoing * side**2
        return outgoing

    def joined(self, channels: int, side: int) -> int:
        """Maps that are copied side by side."""
        self.kept += channels * side**2
        return channels

    @property
    def size(self) -> HeadSize:
        return HeadSize(self.strides, self.parameters, self.kept + self._largest, self.reads_image, self.multiplications)
