"""GLoRIA's `MixedLoss` (docs/sources.md, GLoRIA)."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from benchmark.heads.networks.mixed_loss import mixed_loss_of, mixed_sums

LOGITS = torch.tensor([[[[2.0, -1.0], [0.5, -3.0]]]])
MASKS = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])


def mixed_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return mixed_loss_of(mixed_sums(logits, masks))


def test_the_references_vector() -> None:
    assert float(mixed_loss(LOGITS, MASKS)) == pytest.approx(1.329300, abs=1e-6)


def test_against_the_definition_written_out() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(3, 2, 8, 8, dtype=torch.float64) * 3, (torch.rand(3, 2, 8, 8) > 0.7).double()
    p = logits.sigmoid()
    p_true = torch.where(masks > 0, p, 1 - p)
    focal = ((1 - p_true) ** 2 * F.binary_cross_entropy(p, masks, reduction="none")).mean()
    dice = (2 * (p * masks).sum() + 1) / (p.sum() + masks.sum() + 1)
    assert torch.isclose(mixed_loss(logits, masks), 10 * focal - dice.log(), atol=1e-10)


def test_finite_with_a_gradient_where_probabilities_saturate_and_masks_are_empty() -> None:
    logits = torch.tensor([[[[200.0, -200.0], [60.0, 0.0]]]], requires_grad=True)
    loss = mixed_loss(logits, torch.zeros(1, 1, 2, 2))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 0, 0, 0] > 0
    assert mixed_loss(torch.full((1, 1, 2, 2), -200.0), torch.zeros(1, 1, 2, 2)) == pytest.approx(0, abs=1e-6)


def test_half_precision_logits_are_scored_in_float32() -> None:
    loss = mixed_loss(LOGITS.half(), MASKS)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(1.329300, abs=1e-6)
