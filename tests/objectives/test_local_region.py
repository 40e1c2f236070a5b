"""LOBE's reconstruction: its losses on the vectors of the reference, and which regions it keeps."""

from __future__ import annotations

import math

import pytest
import torch

from benchmark.objectives.kit.base import EncodedTexts, Widths
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.losses import contrast_sum
from benchmark.objectives.local_region import LocalRegion, Options
from tests.pretraining.numbers import RELATIVE, leaf, norm, r

FOUR = Group.alone(4)


def made(**options) -> LocalRegion:
    torch.manual_seed(0)
    return LocalRegion(Widths({32: 8}, 6), Options(joint=4, heads=2, **options))


def test_both_losses_are_halves_of_both_directions():
    image, text, found = leaf(1, (4, 8)), leaf(2, (4, 8)), leaf(18, (4, 8))
    whole, pairs = (contrast_sum(one, text, 1 / 0.07, FOUR) / 2 for one in (image, found))
    (whole + pairs).backward()
    assert [whole.item(), pairs.item()] == pytest.approx([1.144092, 2.637093], rel=RELATIVE)
    assert norm(image, text, found) == pytest.approx([2.173825, 5.050602, 2.510146], rel=RELATIVE)


def test_the_regions_most_looked_at_are_kept():
    objective, regions = made(regions=3), r(1, (2, 9, 8))
    _, weights = objective.pool(regions)
    _, kept = objective.chosen(regions)
    assert torch.equal(kept, torch.stack([row[most] for row, most in zip(regions, weights.topk(3, dim=1).indices, strict=True)]))
    assert made(regions=99).chosen(regions)[1].shape == (2, 9, 8)


def test_padded_words_find_nothing():
    objective, regions, states = made(), r(2, (2, 5, 8)), r(3, (1, 2, 4, 6))
    mask, nothing = torch.tensor([[True] * 4, [True, True, False, False]]), torch.zeros(2, 4, dtype=torch.int64)
    found = objective.found(regions, EncodedTexts(states, mask, nothing, nothing))
    other = states.clone()
    other[0, 1, 2:] = 7.0
    assert torch.equal(found, objective.found(regions, EncodedTexts(other, mask, nothing, nothing)))


def test_the_scale_ends_at_a_hundred():
    objective = made(log_scale=9.0)
    objective.after_step()
    assert float(objective.logit_scale.exp().detach()) == pytest.approx(100)
    assert math.exp(made().logit_scale.item()) == pytest.approx(1 / 0.07)
