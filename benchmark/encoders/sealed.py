"""The sealed encoder: everything between a stored grey image and a feature map that could be silently wrong.

It owns normalisation, channels, resizing to the patch size, and freezing with its BatchNorm mode; `.train()` of a surrounding module
cannot undo it. Device and autocast are the caller's. The contract of the backbone inside is checked by `benchmark.encoders.conformance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import cv2
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.cards import POOLED, Normalisation
from benchmark.encoders.base import Backbone, ImageEmbedding, VisionLanguageBackbone
from benchmark.errors import UsageError

CHANNELS = 3


class Mode(StrEnum):
    """How the encoder runs.

    FROZEN: eval mode, no gradient; BatchNorm uses its running statistics and leaves them alone.
    TRAINING: train mode, gradients.
    UNFROZEN: gradients, but still eval mode: LoVT's encoder between unfreezing and the next epoch (`batchnorm_at_unfreezing`).
    EVAL: eval mode, no gradient, for validation and test of an encoder that is being trained.
    """

    FROZEN = "frozen"
    TRAINING = "training"
    UNFROZEN = "unfrozen"
    EVAL = "eval"


class SealedEncoder(nn.Module):
    """A backbone that takes grey images as stored.

    Starts frozen. Images are (N, S, S) or (N, 1, S, S), uint8 in 0..255 or float in [0, 1].

    Args:
        backbone: returns feature maps of normalised images.
        normalisation: mean and std on the [0, 1] scale, one value or one per channel. Which one is the protocol's decision.
        channels_last: memory format of weights and images; faster on most devices, and sums may differ in the last bits.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, normalisation: Normalisation, *, channels_last: bool = False):
        super().__init__()
        self.backbone = backbone
        self.normalisation = normalisation
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        # Not part of the state: the statistics are the job's, not the weights'.
        self.register_buffer("mean", _per_channel(normalisation.mean), persistent=False)
        self.register_buffer("std", _per_channel(normalisation.std), persistent=False)
        if channels_last:
            self.backbone.to(memory_format=torch.channels_last)
        self.mode = Mode.FROZEN
        self.set_mode(Mode.FROZEN)

    def set_mode(self, mode: Mode | Literal["frozen", "training", "unfrozen", "eval"]) -> None:
        """Sets gradients and BatchNorm together; see `Mode`."""
        self.mode = Mode(mode)
        self.backbone.train(self.mode is Mode.TRAINING)

    def train(self, mode: bool = True) -> SealedEncoder:
        """Leaves the encoder as `set_mode` put it: head and loop may call train() and eval() as they like."""
        return self

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        """Feature maps of stored images: stride -> (N, C, S / stride, S / stride). None = every level."""
        return self.pyramid_of(self.normalise(images), strides)

    def pyramid_of(self, normalised: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        """Feature maps of images that `normalise` returned, for callers that need both; the pooled embedding under POOLED, if asked for."""
        side = normalised.shape[-1]
        with torch.set_grad_enabled(self._takes_gradients and torch.is_grad_enabled()):
            fitted = self.fit_to_patches(normalised)
            whole = {POOLED: self.backbone.pooled(fitted)[:, :, None, None]} if strides and POOLED in strides else {}
            levels = None if strides is None else tuple(s for s in strides if s != POOLED)
            maps = {} if levels == () else self.backbone.pyramid(fitted, levels)
            return whole | {stride: _resample(features, side // stride) for stride, features in maps.items()}

    def pooled(self, images: Tensor) -> Tensor:
        """(N, embed_dim) embedding of stored images."""
        with torch.set_grad_enabled(self._takes_gradients and torch.is_grad_enabled()):
            return self.backbone.pooled(self.fit_to_patches(self.normalise(images)))

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        """Stored images in the joint space of a vision-language backbone.

        Raises:
            UsageError: the backbone has no text side.
        """
        if not isinstance(self.backbone, VisionLanguageBackbone):
            raise UsageError(f"{self.backbone.spec.name} has no text side.")
        with torch.set_grad_enabled(self._takes_gradients and torch.is_grad_enabled()):
            return self.backbone.embed_images(self.fit_to_patches(self.normalise(images)))

    def normalise(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) float32: (x - mean) / std. With one value for all channels the three are one memory, expanded as a view.

        Raises:
            UsageError: not a batch of square grey images, or neither uint8 nor float in [0, 1].
        """
        grey = images[:, None] if images.dim() == 3 else images
        if grey.dim() != 4 or grey.shape[1] != 1 or grey.shape[2] != grey.shape[3]:
            raise UsageError(f"The encoder takes grey squares, (N, S, S) or (N, 1, S, S); it was given {tuple(images.shape)}.")
        if grey.dtype == torch.uint8:
            if self.mean.shape[1] == 1:
                return self._three_channels(self._grey_levels(grey))
            grey = grey.float().div_(255)
        elif not grey.is_floating_point():
            raise UsageError(f"The encoder takes uint8 (0..255) or float (0..1) images; it was given {images.dtype}.")
        elif grey.max() > 1:  # waits for the device, but stored images are uint8 and do not come here
            raise UsageError(
                f"The encoder takes float images in [0, 1]; the largest value given is {grey.max():.0f}. Divide by 255, or give uint8."
            )
        return self._three_channels((grey.float() - self.mean) / self.std)

    def _grey_levels(self, stored: Tensor) -> Tensor:
        """(N, 1, S, S) uint8 to float32, with one mean and one deviation for all channels."""
        values = torch.arange(256, dtype=torch.uint8)[None, None, None] if stored.device.type == "cpu" else stored
        normalised = values.float().div_(255).sub_(self.mean).div_(self.std)
        if values is stored:  # pragma: no cover: needs CUDA; `make gpu` runs it
            return normalised
        # Every value there is, normalised once and looked up: the memory is passed once instead of four times, and the bits are the same.
        return torch.from_numpy(cv2.LUT(stored.reshape(-1, stored.shape[-1]).numpy(), normalised.flatten().numpy())).view(stored.shape)

    def _three_channels(self, normalised: Tensor) -> Tensor:
        expanded = normalised.expand(-1, CHANNELS, -1, -1)
        return expanded if self.memory_format is torch.contiguous_format else expanded.contiguous(memory_format=self.memory_format)

    def fit_to_patches(self, normalised: Tensor) -> Tensor:
        """Resized to the nearest multiple of the backbone's patch, where it has one that does not divide the side."""
        multiple, side = getattr(self.backbone, "input_multiple", 1), normalised.shape[-1]
        if side % multiple == 0:
            return normalised
        fitting = max(1, round(side / multiple)) * multiple
        return F.interpolate(normalised, size=(fitting, fitting), mode="bilinear", align_corners=False)

    @property
    def _takes_gradients(self) -> bool:
        return self.mode in (Mode.TRAINING, Mode.UNFROZEN)


def _per_channel(values: tuple[float, ...]) -> Tensor:
    if len(values) not in (1, CHANNELS):
        raise UsageError(f"A normalisation has one value or three, one per channel; this one has {len(values)}.")
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


def _resample(features: Tensor, side: int) -> Tensor:
    """Maps of a resized input, back on the frame's grid."""
    if features.shape[-1] == side:
        return features
    return F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)
