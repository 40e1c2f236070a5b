"""Eight encoders made by hand, which no image trained: the demo's reference panel, a scale for its one ranked task.

Each looks at a radiograph in other ways. Three are poor on purpose: a scale needs a spread, and more than three spreads are off it.
Which eight was decided with the demo's images in sight, so that its rows lie on the scale: that they do is no finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from benchmark.cards import BackboneSpec
from benchmark.encoders.base import Backbone

STRIDE = 32
SCALE = 8.0  # so that a hundred steps of a linear head get somewhere


class Bank(Backbone):
    """Maps of an image on a grid of 32 pixels.

    Args:
        ways: names of functions below; each gives some channels.
    """

    def __init__(self, *ways: str):
        super().__init__()
        self.ways = ways
        self.register_buffer("chosen", torch.tensor([float(way in ways) for way in WAYS]))  # tells the weights of two banks apart
        self.factor = nn.Parameter(torch.tensor(SCALE))
        width = self._look(torch.zeros(1, 3, 2 * STRIDE, 2 * STRIDE)).shape[1]
        self.spec = BackboneSpec(name="-".join(ways), strides={STRIDE: width}, embed_dim=width, normalisation=None, pretraining=())

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        return {STRIDE: self._look(images)}

    def pooled(self, images: Tensor) -> Tensor:
        return self._look(images).mean(dim=(2, 3))

    def _look(self, images: Tensor) -> Tensor:
        grey = images.mean(dim=1, keepdim=True)
        return self.factor * torch.cat([channel for way in self.ways for channel in WAYS[way](grey)], dim=1)


def _brightness(grey: Tensor) -> list[Tensor]:
    cells = avg_pool2d(grey, STRIDE)
    return [cells, cells**2]


def _texture(grey: Tensor) -> list[Tensor]:
    """Logarithm of what is left of each cell without its means over squares of 2 to 16 pixels."""
    left = [grey - interpolate(avg_pool2d(grey, side), scale_factor=side) for side in (2, 4, 8, 16)]
    return [torch.log(avg_pool2d(one**2, STRIDE) + 1e-4) for one in left]


def _edges(grey: Tensor) -> list[Tensor]:
    return [avg_pool2d((grey - grey.roll(1, axis)).abs(), STRIDE) for axis in (2, 3)]


def _places(grey: Tensor) -> list[Tensor]:
    down, across = (torch.linspace(-1, 1, side // STRIDE, device=grey.device) for side in grey.shape[2:])
    place = torch.stack(torch.meshgrid(down, across, indexing="ij")).expand(len(grey), -1, -1, -1)
    return [place, place**2, place[:, :1] * place[:, 1:]]


def _mirrored(grey: Tensor) -> list[Tensor]:
    return [one - one.flip(3) for one in (avg_pool2d(grey, STRIDE), *_texture(grey))]


def _around(grey: Tensor) -> list[Tensor]:
    return [avg_pool2d(one, 3, 1, 1, count_include_pad=False) for one in (avg_pool2d(grey, STRIDE), *_texture(grey))]


WAYS = {"brightness": _brightness, "texture": _texture, "edges": _edges, "places": _places, "mirrored": _mirrored, "around": _around}


def brightness() -> Bank:
    return Bank("brightness")


def texture() -> Bank:
    return Bank("texture")


def edges() -> Bank:
    return Bank("edges")


def bright_places() -> Bank:
    return Bank("brightness", "places")


def mirrored_places() -> Bank:
    return Bank("brightness", "places", "mirrored")


def surroundings() -> Bank:
    return Bank("brightness", "places", "around")


def all_of_a_cell() -> Bank:
    return Bank("brightness", "texture", "places", "mirrored")


def everything() -> Bank:
    return Bank(*WAYS)


PANEL = (brightness, texture, edges, bright_places, mirrored_places, surroundings, all_of_a_cell, everything)


def names() -> list[str]:
    """As a request takes them."""
    return [f"{Path(__file__)}:{factory.__name__}" for factory in PANEL]
