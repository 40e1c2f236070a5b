"""MGCA's losses equal the released code's in both branches, on the vectors of its reference."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from benchmark.objectives.kit.base import EncodedTexts, Widths
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.layers import clipped_weights
from benchmark.objectives.mgca import Mgca, Options, codes, losses, words_of
from tests.pretraining.numbers import RELATIVE, leaf, norm, r

RELEASED = Options(counted="all", aligned=False)
FOUR = Group.alone(4)
MASK = torch.arange(6)[None] < torch.tensor([6, 4, 3, 5])[:, None]
LOOKED = r(45, (4, 2, 10, 10)).softmax(dim=-1).mean(dim=1)[:, 0, 1:]


PROTOTYPES = F.normalize(r(46, (12, 8)), dim=1)


def inputs():
    return leaf(40, (4, 8)), leaf(41, (4, 9, 8)), leaf(42, (4, 8)), leaf(43, (4, 6, 8))


def found(options: Options = RELEASED, looked=None, prototypes=None):
    attention = 0.5 * r(44, (4, 6)).masked_fill(~MASK, float("-inf")).softmax(dim=1)
    given = inputs()
    return given, losses(*given, MASK, attention, PROTOTYPES if prototypes is None else prototypes, options, FOUR, looked)


def approx(expected):
    return pytest.approx(expected, rel=RELATIVE, abs=2e-6)


@pytest.mark.parametrize(
    ("looked", "patches", "total", "gradients"),
    [
        (None, 1.412715, 9.332846, [6.629683, 0.797763, 6.648161, 0.838799]),
        (LOOKED, 1.368217, 9.288347, [6.629683, 0.718127, 6.648161, 0.725231]),
    ],
    ids=["resnet", "vit"],
)
def test_all_losses(looked, patches, total, gradients):
    given, parts = found(looked=looked)
    assert [float(one) for one in parts.values()] == approx([4.270133, 0.535801, patches, 3.114197])
    sum(parts.values()).backward()
    assert float(sum(parts.values())) == approx(total)
    assert norm(*given) == approx(gradients)


@pytest.mark.parametrize(("looked", "total"), [(None, 7.191193), (LOOKED, 7.160044)], ids=["resnet", "vit"])
def test_weights_of_the_class(looked, total):
    _, parts = found(Options(counted="all", weights=(1.0, 0.7, 0.5)), looked)
    assert float(sum(parts.values())) == approx(total)


def test_the_gradient_of_prototypes_does_not_go_through_their_normalisation():
    """They are normalised in place, before use. 1.1271 is from the formula by hand; behind a normalisation it would be 0.850269."""
    prototypes = PROTOTYPES.clone().requires_grad_()
    _, parts = found(prototypes=prototypes)
    parts["prototypes"].backward()
    assert norm(prototypes) == approx([1.1271])
    along = (prototypes.grad * prototypes.detach()).sum(dim=1)
    assert float(along.abs().max()) > 0.1


def test_prototypes_have_length_one_from_the_start():
    layer = Mgca(Widths(maps={16: 6}, text=8), Options(stride=16, deepest=16, hidden=4, joint=4, prototypes=5)).prototype_layer
    assert layer.weight.norm(dim=1).tolist() == approx([1.0] * 5)


def test_prototypes_are_used_evenly():
    shares = codes(F.normalize(r(40, (4, 8)), dim=1) @ PROTOTYPES.T, FOUR)
    assert shares[0, :6].tolist() == pytest.approx([0.083942, 0.376443, 0.113030, 0.000004, 0.000106, 0.000013], rel=1e-4, abs=6e-7)
    assert shares.sum(dim=1).tolist() == approx([1.0] * 4)


def test_halves_of_a_group_are_evened_out_by_themselves():
    parts = []
    attention = 0.5 * r(44, (4, 6)).masked_fill(~MASK, float("-inf")).softmax(dim=1)
    for half in (slice(0, 2), slice(2, 4)):
        given = [one[half] for one in inputs()]
        parts.append(losses(*given, MASK[half], attention[half], PROTOTYPES, RELEASED, Group.alone(2))["prototypes"])
    assert float(sum(parts)) / 2 == approx(3.569514)


@pytest.mark.parametrize(("aligned", "expected"), [(False, [5.0, 4, 5]), (True, [3.0, 3, 4])])
def test_a_word_has_the_attention_of_its_own_pieces(aligned, expected):
    """[CLS] a ##b c [SEP] [PAD]: the released code takes each piece's attention one token late."""
    mask = torch.tensor([[True] * 5 + [False]])
    word = torch.tensor([[0, 1, 1, 2, 3, -1]])
    attention = torch.tensor([[0.0, 1, 2, 3, 4, 5]])
    _, there, looked = words_of(EncodedTexts(r(1, (1, 1, 6, 3)), mask, word, word, attention), Group.alone(1), aligned=aligned)
    assert there.tolist() == [[True] * 3]
    assert looked[0].tolist() == expected


def test_weights_are_clipped_to_quantiles_of_what_is_there():
    weights = clipped_weights(torch.tensor([[0.1, 0.2, 0.3, 0.4, 10.0, 0.0]]))
    assert float(weights.sum()) == pytest.approx(1)
    assert float(weights[0, 5]) == 0
    assert float(weights[0, 4] / weights[0, 3]) == pytest.approx((0.4 + 0.6 * 9.6) / 0.4)


def test_a_text_that_fills_its_slots_loses_its_last_word_and_its_end_as_released():
    """[CLS] a ##b c [SEP] in five slots, and [CLS] a [SEP]: the released walk over tokens ends one early, and only [SEP] ends a word."""
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    word = torch.tensor([[0, 1, 1, 2, 3], [0, 1, 2, -1, -1]])
    texts = EncodedTexts(r(1, (1, 2, 5, 3)), mask, word, word, r(2, (2, 5)).softmax(dim=1))
    vectors, there, looked = words_of(texts, Group.alone(2), aligned=False, slots=5)
    assert there.tolist() == [[True, False, False, False], [True, True, False, False]]
    assert not vectors[0, 1:].any()
    assert not looked[0, 1:].any()
    kept, all_there, _ = words_of(texts, Group.alone(2), aligned=False)
    assert all_there.tolist() == [[True] * 3, [True, True, False]]
    assert torch.equal(kept[1, :2], vectors[1, :2])
    longer = words_of(texts, Group.alone(2), aligned=False, slots=6)
    assert longer[1].tolist() == [[True, True, True, False, False], [True, True, False, False, False]]
