"""What heads say of their size, for a forecast of memory, is what their networks hold."""

from __future__ import annotations

import pytest
import torch

from benchmark import registry
from benchmark.cards import Switches
from benchmark.execute.memory import ENCODERS
from benchmark.heads.base import HeadRequest
from tests.peaks import kept_for_backward

SIZED = sorted(name for name in registry.plugins("heads") if hasattr(registry.plugin("heads", name), "size"))


def test_the_heads_of_the_paper_say_what_they_hold():
    assert {"linear", "unet", "yolov3"} <= set(SIZED)


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50"])
@pytest.mark.parametrize("name", SIZED)
def test_a_size_is_that_of_the_network(name: str, encoder: str):
    channels, side, n_classes, n_images = ENCODERS[encoder].channels, 96, 2, 4
    width = channels[max(channels)]
    with torch.device("meta"):
        request = HeadRequest(channels=channels, n_classes=n_classes, frame_size=side, switches=Switches(), embed_dim=width)
        head = registry.plugin("heads", name).build(request)
        pyramid = {0: torch.empty(n_images, width, 1, 1)} | {s: torch.empty(n_images, c, side // s, side // s) for s, c in channels.items()}
        images = torch.empty(n_images, 3, side, side) if head.reads_image else None
    size = registry.plugin("heads", name).size(channels, n_classes, side)
    assert size.strides == head.strides
    assert size.reads_image == head.reads_image
    assert size.parameters == sum(p.numel() for p in head.parameters())
    kept = kept_for_backward(head, lambda: head({s: pyramid[s] for s in head.strides}, images))
    # The size counts what a loss keeps too: much where there is little else.
    assert 4 * n_images * size.kept >= kept
    if name not in ("linear", "classifier", "softmax_classifier"):
        assert 4 * n_images * size.kept <= 1.2 * kept
