"""LoVT's losses and layers equal the released code's, on the vectors of its reference."""

from __future__ import annotations

import pytest
import torch

from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.layers import AttentionMean, Projection
from benchmark.objectives.kit.losses import contrast
from benchmark.objectives.lovt import CrossAttention, local_losses, neighbourhood
from tests.pretraining.numbers import RELATIVE, fill, leaf, norm, of_linear, of_norm, r

FOUR, TWO = Group.alone(4), Group.alone(2)
MASK = torch.tensor([[True] * 4, [True, True, False, False]])
EVERYWHERE = torch.ones(2, 9, dtype=torch.bool)


def approx(expected):
    return pytest.approx(expected, rel=RELATIVE, abs=2e-6)


def region_losses(weights, targets=None):
    own, found = leaf(3, (2, 9, 8)), leaf(4, (2, 9, 8))
    targets = neighbourhood(3, 3, 0.5, 1.0) if targets is None else targets
    there, back = local_losses(own, found, targets, weights, EVERYWHERE, 0.3)
    return own, found, there.mean(), back.mean()


def sentence_losses():
    own, found = leaf(6, (2, 4, 8)), leaf(7, (2, 4, 8))
    weights = r(8, (2, 4)).masked_fill(~MASK, float("-inf")).softmax(dim=1)
    there, back = local_losses(own, found, torch.eye(4), weights, MASK, 0.3)
    return own, found, there.mean(), back.mean()


def test_whole_images_and_reports():
    image, report = leaf(1, (4, 8)), leaf(2, (4, 8))
    there, back = contrast(image, report, 10.0, FOUR)
    assert (float(there), float(back)) == (approx(0.659874), approx(1.302083))
    total = 0.75 * there + 0.25 * back
    total.backward()
    assert float(total) == approx(0.820427)
    assert norm(image, report) == approx([1.238347, 2.107277])


def test_regions_with_their_weights_and_neighbours():
    own, found, there, back = region_losses(r(5, (2, 9)).softmax(dim=1))
    assert (float(there), float(back)) == (approx(2.828278), approx(2.704162))
    (0.375 * (there + back)).backward()
    assert norm(own, found) == approx([0.068975, 0.096304])


def test_regions_without_weights():
    _, _, there, back = region_losses(torch.full((2, 9), 1 / 9))
    assert (float(there), float(back)) == (approx(2.737675), approx(2.696491))


def test_regions_whose_neighbours_share_evenly():
    _, _, there, _ = region_losses(r(5, (2, 9)).softmax(dim=1), neighbourhood(3, 3, 0.5, 0.0))
    assert float(there) == approx(2.818985)


def test_shares_of_neighbours():
    targets = neighbourhood(7, 7, 0.5, 1.0)
    assert targets[0, :4].tolist() == approx([0.060408, 0.054604, 0.049358, 0.044615])
    assert targets[24, [24, 0]].tolist() == approx([0.026546, 0.017293])
    assert [int((row > 0).sum()) for row in targets[[0, 3, 24]]] == [22, 33, 49]
    entropies = torch.special.entr(targets).sum(dim=1)
    assert [float(one) for one in (entropies[0], entropies[24], entropies.mean())] == pytest.approx([3.083, 3.887, 3.525], abs=5e-4)
    assert sorted({int((row > 0).sum()) for row in neighbourhood(3, 3, 0.5, 1.0)}) == [6, 7, 9]


def test_sentences_without_padding_among_the_negatives():
    own, found, there, back = sentence_losses()
    assert (float(there), float(back)) == (approx(1.735268), approx(1.660526))
    (0.375 * (there + back)).backward()
    assert norm(own, found) == approx([0.533646, 0.576353])


def test_the_sum_of_all_losses():
    image, report = contrast(r(1, (4, 8)), r(2, (4, 8)), 10.0, FOUR)
    local = [*region_losses(r(5, (2, 9)).softmax(dim=1))[2:], *sentence_losses()[2:]]
    assert float(0.75 * image + 0.25 * report + 0.375 * sum(local)) == approx(4.168515)


def test_regions_and_sentences_read_each_other():
    layer = CrossAttention(8, "all")
    fill([*of_linear(layer.key_projection, layer.value_projection, layer.output_projection), *of_norm(layer.norm)], 50)
    regions, each = r(3, (2, 9, 8)), r(6, (2, 4, 8))
    assert layer.attention(regions, each, MASK)[0][1, 0].tolist() == approx([0.381771, 0.618229, 0, 0])
    heard, seen = layer(regions, each, MASK, TWO)
    assert heard[0, 0, :6].tolist() == approx([-0.839793, -0.355616, 0.692483, -0.884282, 0.892545, 0.613636])
    assert seen[1, 3, :6].tolist() == approx([0.488123, 0.378863, 0.966911, 1.425124, -1.155339, 0.112112])


def test_a_report_is_pooled_by_what_the_mean_asks():
    layer = AttentionMean(16, 8, "all")
    attention = layer.attention
    fill([(attention.in_proj_weight, False), (attention.in_proj_bias, False), *of_linear(attention.out_proj)], 70)
    pooled, weights = layer(r(9, (2, 4, 16)), MASK)
    assert pooled[1, :6].tolist() == approx([-0.668826, 0.416477, -0.218550, -0.132560, 0.159745, 0.047217])
    assert weights[1].tolist() == approx([0.538196, 0.461804, 0, 0])


@pytest.mark.parametrize(
    ("rows", "seed", "expected"),
    [
        (r(10, (5, 8)), 80, [-0.565855, 0.239422, -0.489406, 0.056528]),
        (r(11, (2, 4, 8)), 90, [-0.042401, -0.192342, -0.173761, -0.034836]),
    ],
)
def test_projections_into_the_joint_space(rows, seed, expected):
    layer = Projection(8, 16, 4, "all")
    fill([*of_linear(layer.projection_before, layer.projection_after), *of_norm(layer.norm)], seed)
    assert layer(rows, Group.alone(len(rows))).flatten(0, -2)[0].tolist() == approx(expected)
