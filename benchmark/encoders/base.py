"""What a backbone owes, and the sealed wrapper through which the harness uses it.

An author writes a `Backbone` that returns feature maps. Everything that can be silently wrong (normalisation, channels, freezing with its
BatchNorm mode, device, precision) is applied by `SealedEncoder` and cannot be forgotten.
Module `benchmark/encoders/<family>.py` offers `build(model) -> Backbone`; weights are loaded by `checkpoints`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from benchmark.cards import BackboneSpec


class Backbone(nn.Module):
    """An image encoder.

    Attributes:
        spec: name, channels by stride, own normalisation, pretraining data.
        network (optional): the library's model inside, whose tensors a weights file names; default the backbone itself.
        input_multiple (optional): side of a patch; inputs are resized to the nearest multiple.
    """

    spec: BackboneSpec

    @abstractmethod
    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        """Feature maps.

        Args:
            images: (N, 3, H, W) float, already resized and normalised by the harness.
            strides: levels wanted; None = all. Stages deeper than the deepest wanted level are not run.

        Returns:
            stride -> (N, C, H / stride, W / stride).
        """

    @abstractmethod
    def pooled(self, images: Tensor) -> Tensor:
        """(N, embed_dim) image embedding."""
