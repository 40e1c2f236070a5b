"""LoVT's U-Net decoder (docs/sources.md, LoVT)."""

from __future__ import annotations

import pytest
import torch

from benchmark.cards import Switches
from benchmark.errors import ConformanceError, UsageError
from benchmark.heads.base import HeadRequest, Targets
from benchmark.heads.networks import unet

RESNET50 = {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}
SMALL = {2: 4, 4: 8, 8: 8, 16: 16, 32: 64}


def _request(channels, n_classes=1, frame_size=64):
    return HeadRequest(channels=channels, n_classes=n_classes, frame_size=frame_size, switches=Switches())


def _pyramid(channels, n=2, size=64):
    return {stride: torch.randn(n, width, size // stride, size // stride) for stride, width in channels.items()}


def test_parameter_count_on_resnet50_is_the_papers():
    with torch.device("meta"):
        head = unet.UNet(_request(RESNET50, frame_size=224))
    last = sum(p.numel() for p in head.classify.parameters())
    assert last == 65
    assert sum(p.numel() for p in head.parameters()) - last == 124_300_544


def test_widths_and_skips_on_resnet50_are_the_papers_table():
    with torch.device("meta"):
        head = unet.UNet(_request(RESNET50, frame_size=224))
    rows = [(up.upsample.in_channels, up.blocks[0][0].in_channels - up.upsample.out_channels, up.upsample.out_channels) for up in head.ups]
    assert rows == [(2048, 1024, 1024), (1024, 512, 512), (512, 256, 256), (256, 64, 128), (128, 3, 64)]


def test_narrow_encoders_keep_sixteen_channels_at_least():
    head = unet.UNet(_request(SMALL))
    assert [up.upsample.out_channels for up in head.ups] == [32, 16, 16, 16, 16]


def test_every_level_and_the_image_reach_the_output():
    head = unet.UNet(_request(SMALL, n_classes=2)).eval()
    pyramid, images = _pyramid(SMALL), torch.randn(2, 3, 64, 64)
    output = head(pyramid, images)
    assert output.shape == (2, 2, 64, 64)
    for stride in SMALL:
        changed = dict(pyramid) | {stride: pyramid[stride] + 1}
        assert not torch.equal(head(changed, images), output), stride
    assert not torch.equal(head(pyramid, images + 1), output)


def test_missing_stride_means_no_skip_at_that_level():
    channels = {8: 8, 32: 64}
    head = unet.UNet(_request(channels))
    assert head.strides == (8, 32)
    assert [up.blocks[0][0].in_channels - up.upsample.out_channels for up in head.ups] == [0, 8, 0, 0, 3]
    assert head(_pyramid(channels), torch.randn(2, 3, 64, 64)).shape == (2, 1, 64, 64)


def test_deepest_level_of_stride_sixteen_needs_four_doublings():
    head = unet.UNet(_request({16: 32}))
    assert len(head.ups) == 4
    assert head({16: torch.randn(1, 32, 4, 4)}, torch.randn(1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_initialisation_is_pytorchs_default():
    head = unet.UNet(_request(SMALL))
    for layer in (head.bridge[0][0], head.ups[0].blocks[0][0]):
        bound = layer.weight[0].numel() ** -0.5
        assert bound * 0.97 < layer.weight.abs().max() <= bound
        assert layer.bias.abs().max() <= bound


def test_loss_falls_when_trained_on_two_images():
    torch.manual_seed(0)
    head = unet.UNet(_request(SMALL))
    pyramid, images = _pyramid(SMALL), torch.randn(2, 3, 64, 64)
    masks = torch.zeros(2, 1, 64, 64)
    masks[:, :, 10:30, 20:50] = 1
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = head.loss(head(pyramid, images), Targets(masks=masks))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2


def test_frame_that_does_not_fit_is_refused_with_both_numbers():
    with pytest.raises(UsageError, match=r"32.*100"):
        unet.UNet(_request(SMALL, frame_size=100))


def test_stride_that_is_no_power_of_two_is_refused():
    with pytest.raises(ConformanceError, match="14"):
        unet.UNet(_request({14: 8}, frame_size=224))
