"""The attentive probe is PyTorch's own attention with one query a class, and looks at places, not at their order."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from benchmark.cards import Switches
from benchmark.heads.attentive import build
from benchmark.heads.base import HeadRequest, Targets, seeded_init

WIDTH, SIDE, C = 12, 3, 2


@pytest.fixture
def head():
    return seeded_init(lambda: build(HeadRequest({8: 4, 32: WIDTH}, C, 96, Switches(), embed_dim=5)), 0)


def maps(n: int = 2) -> torch.Tensor:
    return torch.randn(n, WIDTH, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def test_it_is_multi_head_attention_then_one_linear_layer_a_class(head):
    """Against torch's own function: 12 channels are 4 heads, the largest divisor of 8."""
    features = maps()
    assert (head.strides, head.n_heads) == ((32,), 4)
    places = head.norm(features.flatten(2).transpose(1, 2)).transpose(0, 1)
    eye, zero = torch.eye(WIDTH), torch.zeros(WIDTH)
    gathered, _ = F.multi_head_attention_forward(
        head.queries[:, None].expand(-1, len(features), -1), places, places, WIDTH, head.n_heads, None,
        torch.cat([zero, head.keys.bias, head.values.bias]), None, None, False, 0.0, eye, zero,
        use_separate_proj_weight=True, q_proj_weight=eye, k_proj_weight=head.keys.weight, v_proj_weight=head.values.weight,
    )  # fmt: skip
    expected = torch.stack([gathered[c] @ head.classify.weight[c] + head.classify.bias[c] for c in range(C)], dim=1)
    torch.testing.assert_close(head({32: features}), expected)


def test_places_in_another_order_give_the_same(head):
    features = maps()
    moved = features.flatten(2)[:, :, torch.randperm(SIDE**2, generator=torch.Generator().manual_seed(0))].unflatten(2, (SIDE, SIDE))
    torch.testing.assert_close(head({32: features}), head({32: moved}))


def test_a_finding_at_one_place_is_learned_where_the_mean_over_places_hides_it(head):
    """The sign of one channel at a random place says it; its opposite at another place cancels it in the mean."""
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.zeros(64, WIDTH, SIDE**2), torch.zeros(64, C)
    for i in range(64):
        here, there = torch.randperm(SIDE**2, generator=generator)[:2]
        sign = 1.0 if i % 2 else -1.0
        features[i, 0, here], features[i, 1, here] = sign, 3.0  # channel 1 marks the place that counts
        features[i, 0, there] = -sign
        labels[i] = float(i % 2)
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(150):
        loss = head.loss(head({32: features.unflatten(2, (SIDE, SIDE))}), Targets(labels=labels))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert features.mean(dim=2)[:, 0].abs().max() == 0
    assert ((head.predict(head({32: features.unflatten(2, (SIDE, SIDE))})) > 0.5) == (labels > 0.5)).all()
