"""Blocks that make their activations again: the same bits as mmcv's blocks, and half of what those keep."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from benchmark.cards import Switches
from benchmark.heads.base import HeadRequest, Targets
from benchmark.heads.networks.recomputed import Recomputed, convolved, keep_less
from benchmark.heads.networks.yolov3 import YoloV3
from tests.peaks import kept_for_backward

ConvModule = Recomputed.__mro__[1]
BOXES = Targets(
    boxes_xywh=torch.tensor([[[8.0, 12.0, 30.0, 25.0]], [[3.0, 3.0, 9.0, 9.0]]]),
    box_labels=torch.zeros(2, 1, dtype=torch.int64),
    box_valid=torch.ones(2, 1, dtype=torch.bool),
)


class Stack(nn.Module):
    """One activation is read twice, once by a convolution that is no block's, as in the neck of YOLOv3."""

    def __init__(self):
        super().__init__()
        leaky = {"type": "LeakyReLU", "negative_slope": 0.1}
        self.first, self.second, self.third = (ConvModule(n, 6, 3, padding=1, norm_cfg={"type": "BN"}, act_cfg=leaky) for n in (3, 6, 6))
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shared = self.first(images)
        return convolved(self.last, self.second(shared)) + convolved(self.last, self.third(shared)) + convolved(self.last, shared)


@pytest.fixture
def stack() -> Stack:
    torch.manual_seed(0)
    made = Stack()
    keep_less(made)
    return made


def as_mmcv(module: nn.Module) -> nn.Module:
    plain = copy.deepcopy(module)
    for block in plain.modules():
        if type(block) is Recomputed:
            block.__class__ = ConvModule
    return plain


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.state_dict()), **{f"gradient of {name}": p.grad for name, p in module.named_parameters() if p.grad is not None}}


def assert_same_bits(one: nn.Module, other: nn.Module) -> None:
    found, expected = state(one), state(other)
    assert found.keys() == expected.keys()
    assert [name for name, tensor in found.items() if not torch.equal(tensor, expected[name])] == []


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_gradients_and_running_statistics_have_the_same_bits(stack: Stack, layout: torch.memory_format):
    plain, generator = as_mmcv(stack), torch.Generator().manual_seed(1)
    assert any(type(block) is Recomputed for block in stack.modules())
    images = torch.randn(4, 3, 16, 16, generator=generator).contiguous(memory_format=layout)
    given, same = images.clone().requires_grad_(), images.clone().requires_grad_()
    for _ in range(2):
        one, other = stack(given), plain(same)
        assert torch.equal(one, other)
        weights = torch.randn(one.shape, generator=generator)
        (one * weights).sum().backward()
        (other * weights).sum().backward()
    assert_same_bits(stack, plain)
    assert given.grad is not None
    assert same.grad is not None
    assert torch.equal(given.grad, same.grad)


def test_a_step_of_yolov3_has_the_bits_of_mmdets():
    torch.manual_seed(0)
    head = YoloV3(HeadRequest(channels={8: 4, 16: 4, 32: 4}, n_classes=1, frame_size=64, switches=Switches()))
    plain, pyramid = as_mmcv(head), {stride: torch.randn(2, 4, 64 // stride, 64 // stride) for stride in (8, 16, 32)}
    assert sum(type(block) is Recomputed for block in head.modules()) == 20
    for one in (head, plain):
        one.loss(one(pyramid), BOXES).backward()
    assert_same_bits(head, plain)


def test_what_is_kept_for_the_backward_pass_is_half():
    with torch.device("meta"):
        made, images = Stack(), torch.empty(2, 3, 16, 16)
    before = kept_for_backward(made, lambda: made(images))
    keep_less(made)
    after = kept_for_backward(made, lambda: made(images))
    one_map = 2 * 6 * 16 * 16 * 4
    assert before - after == pytest.approx(3 * one_map, rel=0.01)  # of three blocks, each its activation


def test_an_activation_goes_when_its_block_is_done(stack: Stack):
    found = stack.first(torch.randn(2, 3, 8, 8))
    again = found.made_again_by
    assert again.tensor() is again.tensor()
    assert torch.equal(again.tensor(), found)
    found.sum().backward()
    assert again._made is None


def test_evaluation_half_precision_and_no_gradient_go_the_way_of_mmcv(stack: Stack):
    plain, images = as_mmcv(stack), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(stack(images), plain(images))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = stack.first(images), plain.first(images)
    assert torch.equal(found, expected)
    assert not hasattr(found, "made_again_by")
    stack.eval()
    plain.eval()
    assert torch.equal(stack(images), plain(images))
    assert not hasattr(stack.first(images), "made_again_by")
    assert_same_bits(stack, plain)
