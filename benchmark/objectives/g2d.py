"""G2D: whole images and reports find each other, and where the image's pool looked is what a U-Net learns to segment.

Source: G2D's released code at 30364bd and, where it differs, the paper (docs/sources.md, G2D).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.objectives.kit.base import Encoded, EncodedTexts, Objective, Widths, as_map, places, said
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.layers import Counted, MeanFirstPool, NormedHead
from benchmark.objectives.kit.losses import contrast_sum, dice_and_bce, dice_loss

DECODER = (256, 128, 64, 32, 16)  # channels after each block, the last ones where the map is less deep
SMOOTHED = (5, 25.0, 25.0)  # width and both sigmas of the bilateral filter; the paper gives no numbers, these are LOBE's


@dataclass(frozen=True)
class Options:
    """
    Attributes:
        stride: of the deepest map, which is pooled and from which the U-Net climbs.
        begins: share of the budget after which masks are learned too; 1 never.
        released_heads: number that the sum over heads is divided by where the code has it written in; None: by the heads there are.
        mask: `released` is strictly above the quantile; `paper` also takes the quantile itself, inside the body, smoothed.
        loss: `released` takes Dice of logits and a fifth of cross-entropy; `paper` half the sum of both, of probabilities.
        counted: whether padded tokens count in the text's BatchNorm.
    """

    stride: int = 32
    side: int = 8
    joint: int = 128
    heads: int = 4
    temperature: float = 0.07
    quantile: float = 0.85
    begins: float = 0.01
    released_heads: int | None = None
    mask: Literal["released", "paper"] = "paper"
    loss: Literal["released", "paper"] = "paper"
    counted: Counted = "valid"


def build(widths: Widths, options: Options) -> Objective:
    return G2D(widths, options)


def turns(options: Options) -> tuple[float, ...]:
    """When masks are learned."""
    return (options.begins,)


class G2D(Objective):
    def __init__(self, widths: Widths, options: Options):
        super().__init__()
        self.options = options
        self.strides = tuple(stride for stride in sorted(widths.maps) if stride <= options.stride)
        channels = [widths.maps[stride] for stride in self.strides]
        depth = len(channels)
        self.decoder = UnetDecoder([3, *channels], DECODER[-depth:], n_blocks=depth)
        self.segmentation_head = nn.Conv2d(DECODER[-1], 1, kernel_size=3, padding=1)
        self.attnpool = MeanFirstPool(options.joint, options.heads, options.side)
        self.proj_v, self.proj_t = (
            NormedHead(width, options.joint, options.joint, options.counted, bias=False, affine=False, ends_in_norm=False)
            for width in (channels[-1], widths.text)
        )

    def forward(self, encoded: Encoded, group: Group, done: float) -> dict[str, Tensor]:
        options = self.options
        image, attention = self._pooled(encoded.maps, group)
        report = self.text_vectors(encoded.texts, encoded.keys, group, done)
        losses = {"images and reports": contrast_sum(image, report, 1 / options.temperature, group)}
        if done >= options.begins:
            masks = pseudo_masks(attention, encoded.images, options)
            logits = self.segmentation_head(self.decoder([encoded.images, *(encoded.maps[stride] for stride in self.strides)]))
            losses["pseudo masks"] = mask_loss(logits, masks, options.loss, group)
        return losses

    def image_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        return self._pooled(maps, group)[0]

    def text_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> Tensor:
        return self.proj_t(texts.states[-1], group, texts.mask)[:, 0]

    def place_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        return as_map(self.proj_v(places(maps[self.options.stride]), group), maps[self.options.stride])

    def part_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> tuple[Tensor, Tensor]:
        return self.proj_t(texts.states[-1], group, texts.mask), said(texts)

    def _pooled(self, maps: Mapping[int, Tensor], group: Group) -> tuple[Tensor, Tensor]:
        """(b, D) images, and (b, heads, 1 + N) where their pool looked."""
        deepest = maps[self.options.stride]
        image, attention = self.attnpool(self.proj_v(places(deepest), group), deepest.shape[2])
        return image, attention


def pseudo_masks(attention: Tensor, images: Tensor, options: Options) -> Tensor:
    """(b, 1, H, W) float, 1 where the pool looked most: by each image's own quantile of the enlarged attention. Detached.

    Args:
        attention: (b, heads, 1 + N) of the mean and the places of a square grid.
        images: (b, channels, H, W), whose body the paper's masks stay inside.
    """
    looked = attention.detach().float()[:, :, 1:]
    looked = looked.sum(dim=1) / (options.released_heads or looked.shape[1])
    side = round(looked.shape[1] ** 0.5)
    looked = F.interpolate(looked.unflatten(1, (1, side, side)), size=images.shape[2:], mode="nearest")
    if options.mask == "paper":
        looked = looked * bodies(images)
    threshold = torch.stack([torch.quantile(one, options.quantile) for one in looked.flatten(1)])[:, None, None, None]
    if options.mask == "released":
        return (looked > threshold).to(images.dtype)
    found = ((looked >= threshold) & (looked > 0)).cpu().numpy().astype(np.uint8) * 255
    smooth = [cv2.bilateralFilter(one[0], *SMOOTHED) for one in found]
    return (torch.from_numpy(np.stack(smooth))[:, None].to(images.device) >= 128).to(images.dtype)


def bodies(images: Tensor) -> Tensor:
    """(b, 1, H, W) float, 1 inside the body: brighter than Otsu's threshold of the image's histogram."""
    grey = images.detach().float().mean(dim=1)
    least, most = grey.amin(dim=(1, 2), keepdim=True), grey.amax(dim=(1, 2), keepdim=True)
    levels = ((grey - least) / (most - least).clamp(min=1e-6) * 255).round().to(torch.uint8).cpu().numpy()
    found = [cv2.threshold(one, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1] for one in levels]
    return torch.from_numpy(np.stack(found))[:, None].to(images)


def mask_loss(logits: Tensor, masks: Tensor, form: str, group: Group) -> Tensor:
    """See `Options.loss`. The released form has no lower bound: its Dice part divides by a sum of logits."""
    if form == "paper":
        return dice_and_bce(logits, masks, group)
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean(dim=(1, 2, 3))
    return group.mean(dice_loss(logits, masks) + 0.2 * entropy)
