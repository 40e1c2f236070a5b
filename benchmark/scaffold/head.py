"""A head to start from: a module that trains as it stands."""

from __future__ import annotations

from pathlib import Path

from benchmark.scaffold.own_files import Started, module_name, start

_MODULE = '''\
"""A head: what is trained on the features of a backbone. This one is a 3 x 3 and a 1 x 1 convolution on its deepest level.

What a head owes: `FACTS`, which planning reads, and `build(request)`. Helpers lie beside it in files whose names begin with an underscore
(`_layers.py`), and are imported as `import _layers`. This file and what it imports from its folder is part of every key: change a line, and
the jobs of this head are computed again. Interface: benchmark/heads/base.py.
"""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from benchmark.cards import HeadFacts
from benchmark.heads.base import Head, HeadRequest

# Plain values: LOBE reads them without running this file. All facts: benchmark/cards/heads.py.
FACTS = HeadFacts(
    title="@NAME@",  # in tables
    target="masks",  # ground truth it learns from: masks, boxes or labels
    smoke_steps=20,  # training steps of `lobe run --profile smoke`
    reads="deepest",  # levels of the encoder: "deepest", "pooled", "every", or strides such as (8, 16, 32)
)


def build(request: HeadRequest) -> Head:
    """Called with the run's seed: weights may be drawn at random."""
    return Convolutions(request)


class Convolutions(Head):
    def __init__(self, request: HeadRequest):
        super().__init__()
        deepest = max(request.channels)  # stride -> channels that the encoder offers
        self.strides = (deepest,)  # only these levels are computed
        self.frame_size = request.frame_size
        self.layers = nn.Sequential(
            nn.Conv2d(request.channels[deepest], 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, request.n_classes, 1),
        )

    def forward(self, pyramid, images=None):
        """(B, C, S, S) logits, from stride -> (B, channels, S / stride, S / stride)."""
        logits = self.layers(pyramid[self.strides[0]]).float()
        return F.interpolate(logits, size=(self.frame_size, self.frame_size), mode="bilinear", align_corners=False)

    def sums(self, outputs, targets):
        """(k,) sums over images, from which `loss_of` makes the loss: a batch may be split over processes, and then these are added."""
        each = F.binary_cross_entropy_with_logits(outputs, targets.true_masks, reduction="none")
        return each.mean(dim=(1, 2, 3)).sum()[None]

    def loss_of(self, sums, n_images):
        """Scalar loss of a whole batch."""
        return sums[0] / n_images

    def predict(self, outputs):
        """(B, C, S, S) probabilities; boxes are lists of `ImageDetections`, labels (B, C) probabilities."""
        return outputs.float().sigmoid()
'''


def new(name: str, folder: Path) -> Started:
    """Writes `heads/<name>.py`. Raises UsageError where the name cannot be one, is taken, or the file is there."""
    module = module_name("heads", name)
    then = f"lobe --include {{folder}} new task my-{module.replace('_', '-')} --head {module} --out {{folder}}"
    return start(folder, {f"heads/{module}.py": _MODULE.replace("@NAME@", module)}, then)
