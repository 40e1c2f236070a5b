"""LoVT's linear head (docs/sources.md, LoVT)."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from benchmark.cards import Switches
from benchmark.heads.base import HeadRequest, Targets, seeded_init
from benchmark.heads.networks import linear, linear_stack


def _request(channels, n_classes=1, frame_size=64, **switches):
    return HeadRequest(channels=channels, n_classes=n_classes, frame_size=frame_size, switches=Switches(**switches))


@pytest.mark.parametrize(("n_classes", "expected"), [(1, 2_049), (8, 16_392)])
def test_parameter_count_is_the_papers(n_classes, expected):
    head = linear.Linear(_request({32: 2048}, n_classes, 224))
    assert sum(p.numel() for p in head.parameters()) == expected


def test_each_logit_is_a_weighted_sum_of_its_position_upsampled_without_aligned_corners():
    head = linear.Linear(_request({16: 3, 32: 5}, n_classes=2))
    features = torch.randn(3, 5, 2, 2)
    by_hand = torch.einsum("kc,nchw->nkhw", head.classify.weight[:, :, 0, 0], features) + head.classify.bias.view(1, 2, 1, 1)
    expected = F.interpolate(by_hand, size=(64, 64), mode="bilinear", align_corners=False)
    assert head.strides == (32,)
    assert torch.allclose(head({32: features}), expected, atol=1e-6)
    assert torch.allclose(head.predict(head({32: features})), expected.sigmoid(), atol=1e-6)


def test_finer_deepest_level_is_averaged_to_the_stride_32_grid():
    head = linear.Linear(_request({16: 4}))
    features = torch.randn(1, 4, 4, 4)
    expected = F.interpolate(head.classify(F.avg_pool2d(features, 2)), size=(64, 64), mode="bilinear", align_corners=False)
    assert torch.allclose(head({16: features}), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "frame_size", "stride", "grid"),
    [
        ("stride-32", 224, 16, 7),
        ("stride-32", 448, 16, 14),
        ("stride-32", 448, 64, 7),
        ("native", 224, 16, 14),
        ("native", 224, 14, 16),
        ("native", 448, 32, 14),
        ("7x7", 224, 16, 7),
        ("7x7", 224, 14, 7),
        ("7x7", 448, 8, 7),
        ("7x7", 448, 128, 3),  # averaging makes no cells
    ],
)
def test_the_protocol_says_what_a_map_is_averaged_to(rule, frame_size, stride, grid):
    head = linear.Linear(_request({stride: 4}, frame_size=frame_size, linear_grid=rule))
    side = frame_size // stride
    features = torch.randn(2, 4, side, side)
    assert head.grid == grid
    edges = [(i * side // grid, -(-(i + 1) * side // grid)) for i in range(grid)]
    by_hand = torch.stack([torch.stack([features[:, :, a:b, c:d].mean(dim=(2, 3)) for c, d in edges], -1) for a, b in edges], -2)
    assert torch.allclose(head.features({stride: features}), by_hand, atol=1e-6)
    assert head({stride: features}).shape == (2, 1, frame_size, frame_size)


@pytest.mark.parametrize("rule", ["native", "7x7"])
def test_a_map_of_seven_cells_gives_the_same_digits_by_every_rule(rule):
    made, earlier = linear.Linear(_request({32: 5}, 2, 224, linear_grid=rule)), linear.Linear(_request({32: 5}, 2, 224))
    earlier.load_state_dict(made.state_dict())
    features = torch.randn(3, 5, 7, 7)
    assert torch.equal(made({32: features}), earlier({32: features}))


def test_head_learns_to_point_at_the_marked_cell():
    head = seeded_init(lambda: linear.Linear(_request({32: 4})), 0)
    features = torch.zeros(2, 4, 2, 2)
    features[0, 1, 0, 1] = features[1, 1, 1, 0] = 5.0
    masks = torch.zeros(2, 1, 64, 64)
    masks[0, 0, :32, 32:] = masks[1, 0, 32:, :32] = 1
    optimiser = torch.optim.Adam(head.parameters(), lr=0.3)
    for _ in range(60):
        optimiser.zero_grad()
        head.loss(head({32: features}), Targets(masks=masks)).backward()
        optimiser.step()
    found = head.predict(head({32: features})) >= 0.5
    corners = found[:, 0, 16::32, 16::32]
    assert corners.tolist() == [[[False, True], [False, False]], [[False, False], [True, False]]]


def test_a_head_without_a_bias_is_not_stacked_with_others():
    head = linear.Linear(_request({32: 4}))
    assert linear_stack._bias(head) is head.classify.bias
    head.classify.bias = None
    with pytest.raises(TypeError, match="has no bias; a stack sums with one"):
        linear_stack._bias(head)


def test_initialisation_follows_the_seed_and_leaves_the_global_generator():
    state = torch.get_rng_state()
    first, again, other = (seeded_init(lambda: linear.Linear(_request({32: 8})), seed).classify.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
