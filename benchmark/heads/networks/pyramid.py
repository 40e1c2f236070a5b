"""Feature levels for an encoder that has only one grid: a ViT's simple feature pyramid, trained as part of the head.

The layers belong to the head: they are trained in frozen tasks too, and counted among its parameters. A linear head
never gets them, so that its score stays the representation's.
Source: Li et al., Exploring plain vision transformer backbones for object detection (ViTDet), "simple feature pyramid": every level from
the last map alone, by transposed convolutions or pooling, then a 1 x 1 and a 3 x 3 convolution with layer norms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.cards import POOLED, HeadFacts
from benchmark.errors import ConformanceError
from benchmark.heads.base import Head, HeadRequest, ImageDetections, Targets

LEVELS = (4, 8, 16, 32)
WIDTH = 256  # ViTDet's


def on_one_grid(request: HeadRequest, build: Callable[[HeadRequest], Head], taps: int = 1) -> Head:
    """The head that `build` makes, with a pyramid before it where it reads several levels and the encoder offers one.

    Args:
        request: what the encoder offers.
        taps: equal groups of channels in the single map, one per level from fine to coarse; 1 = every level from all channels.
    """
    if len(request.channels) != 1:
        return build(request)
    inner = build(replace(request, channels=dict.fromkeys(LEVELS, WIDTH)))
    if len(inner.strides) == 1:
        return build(request)
    ((stride, channels),) = request.channels.items()
    return WithPyramid(SimpleFeaturePyramid(channels, stride, request.frame_size, taps, wanted=inner.strides), inner, stride)


def levels_read(facts: HeadFacts, channels: Collection[int]) -> tuple[int, ...]:
    """Strides of the head that `on_one_grid` would build, without building it; none where it says nothing or the encoder lacks one.

    Args:
        channels: strides that the encoder offers.
    """
    if facts.reads is None:
        return ()
    if facts.reads == "pooled":
        return (POOLED,)
    if facts.reads == "deepest" or len(channels) == 1:
        return (max(channels),)
    wanted = tuple(sorted(s for s in channels if s > 1)) if facts.reads == "every" else facts.reads
    return wanted if set(wanted) <= set(channels) else ()


class SimpleFeaturePyramid(nn.Module):
    """One map to `LEVELS`, each of `WIDTH` channels and of exactly frame / stride cells.

    A patch that is no power of two (14) gives maps a little finer than the level; they are resampled bilinearly.

    Args:
        channels: of the single map, all taps together.
        patch: stride of the single map.
        frame_size: side of the input in pixels.
        taps: see `on_one_grid`.
        wanted: levels to make; others would be parameters that nothing trains.

    Raises:
        ConformanceError: the channels cannot be split into so many taps.
    """

    def __init__(self, channels: int, patch: int, frame_size: int, taps: int = 1, wanted: tuple[int, ...] = LEVELS):
        super().__init__()
        if channels % taps or taps not in (1, len(LEVELS)):
            raise ConformanceError(f"A map of {channels} channels cannot be split into {taps} taps; use 1 or {len(LEVELS)} equal ones.")
        self.taps, self.frame_size = taps, frame_size
        width = channels // taps
        nearest = min(LEVELS, key=lambda level: abs(level - patch))
        self.levels = nn.ModuleDict({str(level): _level(width, nearest, level) for level in LEVELS if level in wanted})

    def forward(self, features: Tensor) -> dict[int, Tensor]:
        """(B, channels, S / patch, S / patch) to {stride: (B, WIDTH, S / stride, S / stride)}."""
        sources = dict(zip(LEVELS, features.chunk(self.taps, dim=1) if self.taps > 1 else (features,) * len(LEVELS), strict=True))
        made = {int(name): level(sources[int(name)]) for name, level in self.levels.items()}
        return {stride: _to_side(level, self.frame_size // stride) for stride, level in made.items()}


class WithPyramid(Head):
    """A head behind a trained pyramid. To the loop it is one head that reads one level."""

    def __init__(self, pyramid: SimpleFeaturePyramid, inner: Head, stride: int):
        super().__init__()
        self.pyramid, self.inner = pyramid, inner
        self.reads_image = inner.reads_image
        self.strides = (stride,)

    def forward(self, pyramid: Mapping[int, Tensor], images: Tensor | None = None) -> Any:
        return self.inner(self.pyramid(pyramid[self.strides[0]]), images)

    def sums(self, outputs: Any, targets: Targets) -> Tensor:
        return self.inner.sums(outputs, targets)

    def loss_of(self, sums: Tensor, n_images: int) -> Tensor:
        return self.inner.loss_of(sums, n_images)

    def predict(self, outputs: Any) -> Tensor | list[ImageDetections]:
        return self.inner.predict(outputs)


def _level(channels: int, patch: int, stride: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    at, width = patch, channels
    while at > stride:
        if layers:
            layers += [_norm(width), nn.GELU()]
        layers.append(nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2))
        at, width = at // 2, width // 2
    while at < stride:
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        at *= 2
    layers += [nn.Conv2d(width, WIDTH, kernel_size=1, bias=False), _norm(WIDTH)]
    layers += [nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1, bias=False), _norm(WIDTH)]
    return nn.Sequential(*layers)


class _Permute(nn.Module):
    """What torchvision's `ops.Permute` does. Every job imports this module, and `torchvision.ops` brings torch's whole compiler."""

    def __init__(self, dims: tuple[int, ...]):
        super().__init__()
        self.dims = dims

    def forward(self, features: Tensor) -> Tensor:
        return features.permute(self.dims)


def _norm(channels: int) -> nn.Sequential:
    """Layer norm over the channels of each position."""
    return nn.Sequential(_Permute((0, 2, 3, 1)), nn.LayerNorm(channels, eps=1e-6), _Permute((0, 3, 1, 2)))


def _to_side(features: Tensor, side: int) -> Tensor:
    if features.shape[-1] == side:
        return features
    return F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)
