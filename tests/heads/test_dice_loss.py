"""Vectors of the LoVT reference, section 4.4 (Dice-1)."""

from __future__ import annotations

import pytest
import torch

from benchmark.heads.dice_loss import dice_loss

PROBABILITIES = torch.tensor([[[0.9, 0.5, 0.2], [0.1, 0.49, 0.7]], [[0.6, 0.1, 0.1], [0.2, 0.1, 0.1]], [[0.1, 0.2, 0.1], [0.1, 0.3, 0.9]]])[
    :, None
]
MASKS = torch.tensor([[[1.0, 1, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1]]])[:, None]


def test_batch_of_three_images_gives_the_reference_value():
    assert dice_loss(PROBABILITIES.logit(), MASKS).item() == pytest.approx(0.430031, abs=5e-7)


def test_batch_without_positive_pixel_gives_zero_and_no_gradient():
    logits = PROBABILITIES[1:2].logit().requires_grad_()
    loss = dice_loss(logits, MASKS[1:2])
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


def test_classes_share_one_numerator_and_denominator():
    logits, masks = torch.randn(2, 4, 5, 5), (torch.rand(2, 4, 5, 5) > 0.8).float()
    assert torch.equal(dice_loss(logits, masks), dice_loss(logits.view(8, 1, 5, 5), masks.view(8, 1, 5, 5)))


def test_perfect_prediction_gives_zero_and_opposite_gives_one():
    logits = 200 * MASKS - 100
    assert dice_loss(logits, MASKS).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(-logits, MASKS).item() == pytest.approx(1, abs=1e-6)


def test_loss_is_float32_inside_autocast_and_for_half_precision_logits():
    logits = PROBABILITIES.logit()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = dice_loss(logits, MASKS)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, dice_loss(logits, MASKS))
    assert dice_loss(logits.bfloat16(), MASKS).dtype == torch.float32
