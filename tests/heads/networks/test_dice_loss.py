"""Vectors of LoVT's Dice loss, computed with segmentation_models_pytorch 0.2.1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.cards import Switches
from benchmark.heads.networks.dice_loss import DiceLoss, class_dice_loss_of, class_dice_sums, dice_loss_of, dice_sums

PROBABILITIES = torch.tensor([[[0.9, 0.5, 0.2], [0.1, 0.49, 0.7]], [[0.6, 0.1, 0.1], [0.2, 0.1, 0.1]], [[0.1, 0.2, 0.1], [0.1, 0.3, 0.9]]])[
    :, None
]
MASKS = torch.tensor([[[1.0, 1, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1]]])[:, None]


def dice_loss(logits, masks):
    return dice_loss_of(dice_sums(logits, masks))


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


batches = given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.01, 0.3, 1.0]), n_classes=st.sampled_from([1, 1, 8]))


def random_batch(seed, share, n_classes):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, n_classes, 6, 5, generator=generator)
    return logits, (torch.rand(2, n_classes, 6, 5, generator=generator) < share).float()


@batches
def test_loss_equals_the_formula_in_double_precision(seed, share, n_classes):
    logits, masks = random_batch(seed, share, n_classes)
    assert dice_loss(logits, masks).item() == pytest.approx(_soft_dice_loss(logits.sigmoid().numpy(), masks.bool().numpy()), abs=1e-6)


def _soft_dice_loss(probabilities, masks):
    """1 - 2 sum(p y) / max(sum(p + y), 1e-7) over a batch; 0 without a positive pixel. Source: LoVT's released code."""
    p, y = probabilities.astype(np.float64), masks.astype(np.float64)
    return float(1 - 2 * (p * y).sum() / max((p + y).sum(), 1e-7)) if masks.any() else 0.0


@batches
def test_loss_and_gradient_equal_those_of_the_library_behind_the_published_numbers(seed, share, n_classes):
    smp = pytest.importorskip("segmentation_models_pytorch")
    ours, masks = random_batch(seed, share, n_classes)
    theirs = ours.clone().requires_grad_()
    ours.requires_grad_()
    # Its binary mode flattens channels itself; the newer version asks for one channel, the released one took any.
    expected = smp.losses.DiceLoss(mode="binary", from_logits=True, smooth=0.0, eps=1e-7)(theirs.view(2, 1, -1), masks.view(2, 1, -1))
    loss = dice_loss(ours, masks)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    loss.backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)


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


# ---------------------------------------------------------------------------------------------------------- of each class


@batches
def test_loss_of_each_class_equals_the_librarys_for_several_labels(seed, share, n_classes):
    smp = pytest.importorskip("segmentation_models_pytorch")
    ours, masks = random_batch(seed, share, n_classes)
    masks[:, 0] = 0  # a class that the batch does not show
    theirs = ours.clone().requires_grad_()
    ours.requires_grad_()
    expected = smp.losses.DiceLoss(mode="multilabel", from_logits=True, smooth=0.0, eps=1e-7)(theirs, masks)
    loss = class_dice_loss_of(class_dice_sums(ours, masks))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)


def test_sums_of_parts_of_a_batch_add_up_to_its_loss():
    logits, masks = random_batch(4, 0.3, 8)
    parts = class_dice_sums(logits[:1], masks[:1]) + class_dice_sums(logits[1:], masks[1:])
    assert class_dice_loss_of(parts).item() == pytest.approx(class_dice_loss_of(class_dice_sums(logits, masks)).item(), abs=1e-6)


def test_of_one_class_both_rules_are_the_same_to_the_bit():
    logits, masks = random_batch(5, 0.3, 1)
    rules = [DiceLoss.asked_by(Switches(dice_loss=rule), 1) for rule in ("pooled", "per-class")]
    assert torch.equal(*(rule.loss_of(rule.sums(logits, masks)) for rule in rules))


def test_a_small_class_weighs_as_much_as_a_large_one():
    """Both perfectly wrong or perfectly right: half of the loss, whatever their sizes."""
    masks = torch.zeros(1, 2, 10, 10)
    masks[0, 0, :9], masks[0, 1, 0, 0] = 1, 1
    logits = 200 * masks - 100
    logits[0, 1] *= -1
    rules = [DiceLoss.asked_by(Switches(dice_loss=rule), 2) for rule in ("pooled", "per-class")]
    pooled, each = (rule.loss_of(rule.sums(logits, masks)).item() for rule in rules)
    assert each == pytest.approx(0.5, abs=1e-6)
    assert pooled == pytest.approx(1 - 2 * 90 / (90 + 99 + 91), abs=1e-6)
