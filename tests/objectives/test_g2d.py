"""G2D's losses, pool and pseudo masks equal the released code's, on the vectors of its reference; the paper's forms differ."""

from __future__ import annotations

import pytest
import torch

from benchmark.objectives.g2d import Options, bodies, mask_loss, pseudo_masks
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.layers import MeanFirstPool
from benchmark.objectives.kit.losses import contrast
from tests.pretraining.numbers import RELATIVE, fill, leaf, norm, of_linear, r

TWO = Group.alone(2)
RELEASED = Options(mask="released", loss="released", released_heads=4)
LOOKED = r(32, (2, 4, 65)).softmax(dim=-1)


def approx(expected):
    return pytest.approx(expected, rel=RELATIVE, abs=2e-6)


def blocks(masks: torch.Tensor) -> list[list[int]]:
    """Numbers of the 32-pixel blocks that are foreground."""
    assert torch.equal(masks, masks[:, :, ::32, ::32].repeat_interleave(32, 2).repeat_interleave(32, 3))
    return [row.nonzero()[:, 0].tolist() for row in masks[:, 0, ::32, ::32].flatten(1)]


def grey() -> torch.Tensor:
    """Two images of one bright square each."""
    images = torch.zeros(2, 3, 256, 256)
    images[:, :, 40:200, 40:200] = 1
    return images


def test_whole_images_and_reports():
    image, report = leaf(30, (8, 16)), leaf(31, (8, 16))
    total = sum(contrast(image, report, 1 / 0.07, Group.alone(8)))
    total.backward()
    assert total.item() == approx(9.714756)
    assert norm(image, report) == approx([2.643498, 3.273576])


def test_pairs_that_match_alone_cost_next_to_nothing():
    assert sum(contrast(torch.eye(4), torch.eye(4), 1 / 0.07, Group.alone(4))).item() == pytest.approx(3.64e-6, abs=5e-7)


def test_pseudo_masks_are_strictly_above_the_quantile():
    masks = pseudo_masks(LOOKED, grey(), RELEASED)
    assert blocks(masks) == [[3, 14, 29, 34, 38, 40, 46, 57, 60], [2, 20, 21, 28, 38, 48, 57, 60, 61]]
    assert masks.flatten(1).sum(dim=1).tolist() == [9216, 9216]


@pytest.mark.parametrize(("side", "n"), [(7, 7), (6, 5), (4, 2), (3, 1)])
def test_the_released_mask_has_as_many_blocks_as_its_grid_gives(side, n):
    looked = r(32, (1, 4, 1 + side**2)).softmax(dim=-1)
    masks = pseudo_masks(looked, torch.zeros(1, 3, 32 * side, 32 * side), RELEASED)
    assert masks.sum() == n * 32 * 32


def test_by_the_median_half_of_the_blocks_are_foreground():
    masks = pseudo_masks(LOOKED, grey(), Options(mask="released", released_heads=4, quantile=0.5))
    assert [len(one) for one in blocks(masks)] == [32, 32]


def test_a_grid_of_two_by_two_leaves_the_released_mask_empty():
    looked = r(32, (2, 4, 5)).softmax(dim=-1)
    assert not pseudo_masks(looked, grey(), RELEASED).any()
    assert pseudo_masks(looked, grey(), Options()).flatten(1).any(dim=1).all()


def test_the_papers_mask_stays_inside_the_body():
    masks = pseudo_masks(LOOKED, grey(), Options())
    assert masks.flatten(1).any(dim=1).all()
    around = torch.nn.functional.max_pool2d(bodies(grey()), 5, stride=1, padding=2)
    assert not (masks * (1 - around)).any()


def test_the_released_loss_takes_logits_for_probabilities():
    logits, masks = leaf(33, (2, 1, 16, 16)), (r(34, (2, 1, 16, 16)) > 1).float()
    loss = mask_loss(logits, masks, "released", TWO)
    loss.backward()
    assert loss.item() == approx(1.295187)
    assert norm(logits) == approx([0.215156])
    assert mask_loss(0.5 + r(33, (2, 1, 16, 16)).abs(), masks, "released", TWO).item() == approx(1.050722)


@pytest.mark.parametrize(("inside", "outside", "loss"), [(0.0, 0.0, 1.1386), (1.0, 0.0, 0.1006), (10.0, -10.0, -19.0)])
def test_the_released_loss_has_no_lower_bound(inside, outside, loss):
    """A map of 4 x 4 whose left half is foreground, and logits of it and of the rest."""
    masks = torch.zeros(1, 1, 4, 4)
    masks[..., :2] = 1
    logits = torch.where(masks > 0, inside, outside)
    assert mask_loss(logits, masks, "released", Group.alone(1)).item() == pytest.approx(loss, abs=1e-4)


def test_the_papers_loss():
    logits, masks = leaf(33, (2, 1, 16, 16)), (r(34, (2, 1, 16, 16)) > 1).float()
    loss = mask_loss(logits, masks, "paper", TWO)
    loss.backward()
    assert loss.item() == approx(0.825897)
    assert norm(logits) == pytest.approx([0.015363], rel=5e-5)


def test_the_mean_asks_all_places():
    pool = MeanFirstPool(16, 4, 2)
    asking = pool.mhsa
    first = [(pool.positional_embedding, False), (asking.in_proj_weight, False), (asking.in_proj_bias, False)]
    fill([*first, *of_linear(asking.out_proj, pool.c_proj)], 110)
    pooled, weights = pool(r(35, (2, 16, 2, 2)).flatten(2).transpose(1, 2), 2)
    assert weights[0, 0].tolist() == approx([0.199017, 0.238366, 0.113840, 0.216838, 0.231940])
    assert pooled[0, :6].tolist() == approx([-0.030814, 0.124775, 0.405963, 0.105532, -1.236441, 0.117301])
