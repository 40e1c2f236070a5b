"""A single grid becomes levels by layers that belong to the head, and only where a head reads several levels."""

from __future__ import annotations

import pytest
import torch

from benchmark.cards import Switches
from benchmark.errors import ConformanceError
from benchmark.heads.base import HeadRequest
from benchmark.heads.networks.pyramid import LEVELS, WIDTH, SimpleFeaturePyramid, WithPyramid, levels_read, on_one_grid
from benchmark.registry import head, heads, plugin

SIZE = 112


def _request(channels, size=SIZE):
    return HeadRequest(channels=channels, n_classes=1, frame_size=size, switches=Switches())


def _built(name, channels, taps=1, size=SIZE):
    return on_one_grid(_request(channels, size), plugin("heads", name).build, taps)


@pytest.mark.parametrize(("patch", "grid"), [(16, 14), (14, 16), (32, 7), (8, 28)])
def test_levels_have_exactly_frame_over_stride_cells_for_every_patch_size(patch, grid):
    levels = SimpleFeaturePyramid(24, patch, 224)(torch.randn(1, 24, grid, grid))
    assert {stride: tuple(level.shape) for stride, level in levels.items()} == {s: (1, WIDTH, 224 // s, 224 // s) for s in LEVELS}


def test_parameters_are_those_of_the_published_layers():
    """ViTDet at a width of 768: two, one and no transposed convolutions, then 1 x 1 and 3 x 3 without bias, each with a layer norm."""
    half, quarter = 384, 192
    up4 = 768 * half * 4 + half + 2 * half + half * quarter * 4 + quarter
    up8 = 768 * half * 4 + half
    after = {4: quarter, 8: half, 16: 768, 32: 768}
    smooth = sum(width * WIDTH + 2 * WIDTH + WIDTH * WIDTH * 9 + 2 * WIDTH for width in after.values())
    assert sum(p.numel() for p in SimpleFeaturePyramid(768, 16, 224).parameters()) == up4 + up8 + smooth


@pytest.mark.parametrize("name", ["unet", "smp_unet", "yolov3", "faster_rcnn"])
def test_head_of_several_levels_reads_one_and_trains_the_pyramid(name):
    head = _built(name, {16: 24}, size=64)
    assert isinstance(head, WithPyramid)
    assert head.strides == (16,)
    outputs = head({16: torch.randn(2, 24, 4, 4)}, torch.randn(2, 3, 64, 64) if head.reads_image else None)
    total = outputs.square().mean() if isinstance(outputs, torch.Tensor) else sum(o.square().mean() for o in outputs)
    total.backward()
    assert all(parameter.grad is not None for parameter in head.pyramid.parameters())


def test_linear_head_gets_no_trained_layer_and_pools_to_its_grid():
    head = _built("linear", {14: 24})
    assert not isinstance(head, WithPyramid)
    assert sum(p.numel() for p in head.parameters()) == 24 + 1
    assert head.grid == SIZE // 32


def test_encoder_with_stages_gets_no_pyramid():
    assert not isinstance(_built("unet", {8: 8, 16: 16}), WithPyramid)


def test_each_tap_feeds_its_own_level():
    pyramid = SimpleFeaturePyramid(4 * 8, 16, 64, taps=4).eval()
    features = torch.randn(1, 32, 4, 4)
    before = pyramid(features)
    features[:, :8] += 1  # the shallowest tap
    after = pyramid(features)
    assert [stride for stride in LEVELS if not torch.equal(before[stride], after[stride])] == [4]


def test_taps_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ConformanceError, match="30 channels"):
        SimpleFeaturePyramid(30, 16, 64, taps=4)


STAGES = {2: 8, 4: 8, 8: 8, 16: 16, 32: 16}


@pytest.mark.parametrize("channels", [STAGES, {1: 4} | STAGES, {16: 24}, {14: 24}], ids=["stages", "with the frame", "ViT", "patch 14"])
@pytest.mark.parametrize("name", sorted(heads()))
def test_a_head_says_the_levels_that_it_reads_once_it_is_built(name, channels):
    facts = head(name)
    if not facts.trains:
        assert levels_read(facts, channels) == ()
        return
    request = HeadRequest(channels=channels, n_classes=2, frame_size=224, switches=Switches(), embed_dim=16)
    assert levels_read(facts, channels) == on_one_grid(request, plugin("heads", name).build).strides


def test_levels_that_the_encoder_lacks_or_nobody_named_are_nobodys():
    assert levels_read(head("yolov3"), {8: 4, 32: 4}) == ()
    assert levels_read(head("yolov3").model_copy(update={"reads": None}), STAGES) == ()
    assert sum(facts.reads is not None for facts in heads().values()) >= 8
