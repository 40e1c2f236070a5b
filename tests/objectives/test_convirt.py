"""ConVIRT's loss equals that of two released modules, and MGCA's form of it, on the vectors of the reference."""

from __future__ import annotations

import pytest
import torch

from benchmark.objectives.convirt import ConVirt, Options
from benchmark.objectives.kit.base import Encoded, EncodedTexts, Widths, text_maxima
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.losses import contrast
from tests.pretraining.numbers import RELATIVE, r

FOUR = Group.alone(4)


def encoded(seed: int = 0) -> Encoded:
    mask = torch.ones(4, 5, dtype=torch.bool)
    sentence = torch.tensor([[-1, 0, 0, 1, -1]] * 4)
    texts = EncodedTexts(r(seed, (1, 4, 5, 6)), mask, sentence, sentence)
    return Encoded(r(seed + 1, (4, 3, 8, 8)), {32: r(seed + 2, (4, 8, 2, 2))}, texts, torch.arange(4))


def test_image_to_text_weighs_three_times_text_to_image():
    there, back = contrast(r(1, (4, 8)), r(2, (4, 8)), 10.0, FOUR)
    assert float(0.75 * there + 0.25 * back) == pytest.approx(0.820427, rel=RELATIVE)


def test_mgcas_form_adds_both_directions_at_another_temperature():
    assert float(sum(contrast(r(1, (4, 8)), r(2, (4, 8)), 1 / 0.07, FOUR))) == pytest.approx(2.288185, rel=RELATIVE)


def test_special_tokens_and_padding_are_not_among_what_is_pooled():
    texts = encoded().texts
    assert torch.equal(text_maxima(texts), texts.states[0, :, 1:4].amax(dim=1))
    nothing = EncodedTexts(texts.states, texts.mask, texts.word, torch.full_like(texts.sentence, -1))
    assert not text_maxima(nothing).any()


def test_both_sides_learn():
    objective = ConVirt(Widths({32: 8}, 6), Options(hidden=16, joint=4))
    sum(objective(encoded(), FOUR, 0.0).values()).backward()
    assert all(float(p.grad.abs().max()) > 0 for name, p in objective.named_parameters() if name.endswith("weight"))
