"""A backbone of your own: copy this file, change it, and run it.

    lobe check-backbone mine.py:build
    lobe run --backbone mine.py:build --suite lovt-18 --data DATA

You return feature maps. The harness gives you images that are already resized, in three channels and normalised, and it owns freezing,
BatchNorm mode, device and precision: do none of that here.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmark.cards import BackboneSpec
from benchmark.encoders.base import Backbone

WIDTHS = {2: 16, 4: 32, 8: 64, 16: 128, 32: 256}  # stride of a level: its channels


class MyBackbone(Backbone):
    def __init__(self):
        super().__init__()
        self.spec = BackboneSpec(
            name="my-backbone",
            strides=WIDTHS,
            embed_dim=WIDTHS[32],
            normalisation=None,  # of your pretraining, as {"mean": (0.5,), "std": (0.25,)} on the scale 0 to 1; without it: not ranked
            pretraining=None,  # names of your pretraining sets, () for none; None counts as contaminated
            contamination={},  # dataset -> "none", "source", "images" or "labels", as {"rsna": "none"}; one left out counts as seen
        )
        incoming = 3
        self.stages = nn.ModuleDict()
        for stride, width in WIDTHS.items():
            self.stages[str(stride)] = nn.Sequential(
                nn.Conv2d(incoming, width, kernel_size=3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
            incoming = width

    def pyramid(self, images, strides=None):
        """(N, 3, H, W) normalised images to {stride: (N, C, H / stride, W / stride)}."""
        wanted = set(self.spec.strides if strides is None else strides)
        maps, features = {}, images
        for stride in WIDTHS:
            features = self.stages[str(stride)](features)
            if stride in wanted:
                maps[stride] = features
            if stride >= max(wanted):  # deeper stages are not needed
                break
        return maps

    def pooled(self, images):
        """(N, 3, H, W) normalised images to (N, embed_dim)."""
        return self.pyramid(images, (32,))[32].mean(dim=(2, 3))


def build():
    torch.manual_seed(0)  # a Python backbone is identified by its tensors: the same call must give the same ones
    backbone = MyBackbone()
    # Your weights go here, from beside this file (a worker is started elsewhere), for example:
    # backbone.load_state_dict(safetensors.torch.load_file(pathlib.Path(__file__).with_name("mine.safetensors")))
    return backbone
