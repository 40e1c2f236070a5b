"""PRIOR's losses equal the released code's in all three stages, on the vectors of its reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.objectives.kit.base import Encoded, EncodedTexts, Widths
from benchmark.objectives.kit.decoders import matched
from benchmark.objectives.kit.group import Group
from benchmark.objectives.prior import Options, Prior
from tests.pretraining.numbers import RELATIVE, fill, of_linear, of_norm, r

RELEASED = Options(
    side=7,
    joint=16,
    prototypes=12,
    queries=8,
    decoder_layers=1,
    decoder_heads=2,
    log_scale=math.log(100),
    laid_out="raw",
    put_back="assignment",
    causal=True,
    is_clamped=False,
)
TWO = Group.alone(2)
MASK = torch.arange(6)[None] < torch.tensor([4, 6])[:, None]


class Drawn(nn.Module):
    """What stands for the sentence decoder in the vectors: queries and the mean of all places."""

    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(r(161, (1, 8, 16)))

    def forward(self, places):
        return self.queries + places.mean(dim=1, keepdim=True)


class Given(Prior):
    """The noise of the vectors, drawn for ten sentences one after the other."""

    def noise(self, mask, keys, use):
        drawn = torch.zeros(2, mask.shape[1], 12)
        drawn[mask] = torch.from_numpy(-np.log(np.random.default_rng(200 + use).standard_exponential((10, 12))).astype(np.float32))
        return drawn


def objective(options: Options = RELEASED) -> Prior:
    one = Given(Widths({32: 16}, 16), options)
    one.sentence_decoder = Drawn()
    attention, pool, bank = one.local_cross_attention, one.global_text_attention, one.sentence_bank.embed
    fill(of_linear(*(getattr(attention, f"{role}{side}") for side in (1, 2) for role in ("query", "key", "value"))), 120)
    fill(of_linear(one.predictor[0], one.predictor[2]), 140)
    fill(of_linear(pool.k_proj, pool.q_proj, pool.v_proj, pool.c_proj), 150)
    with torch.no_grad():
        bank.weight.copy_(r(160, (12, 16)))
    decoder = one.image_decoder
    blocks = []
    for block in decoder.blocks:
        blocks += [(block[0].weight, False), *of_norm(block[1]), (block[3].weight, False), *of_norm(block[4])]
    fill([*of_linear(decoder.head), *blocks], 170)
    one.dropped = nn.Identity()
    return one


def found(stage: int, one: Prior) -> dict[str, torch.Tensor]:
    each = torch.zeros(2, 6, 16)
    each[0, :4], each[1] = r(62, (4, 16)), r(63, (6, 16))
    nothing = torch.zeros(2, 1, dtype=torch.int64)
    texts = EncodedTexts(torch.zeros(1, 2, 1, 16), nothing > -1, nothing, nothing)
    encoded = Encoded(r(64, (2, 1, 224, 224)), {}, texts, torch.arange(2))
    return one.losses(r(61, (2, 16)), r(60, (2, 49, 16)), each, MASK, encoded, TWO, stage)


def approx(expected):
    return pytest.approx(expected, rel=RELATIVE, abs=2e-6)


def test_places_and_sentences_read_each_other_with_weights_that_need_not_sum_to_one():
    one = objective()
    each = torch.zeros(2, 6, 16)
    each[0, :4] = r(62, (4, 16))
    heard, _ = one.local_cross_attention(r(60, (2, 49, 16)), each, MASK)
    assert heard[0, 0, :4].tolist() == approx([-0.243987, 2.329844, -1.237523, -0.139556])
    assert one.global_text_attention(each, MASK)[0, :4].tolist() == approx([-0.415852, -0.281041, -1.038947, 0.343417])


def test_places_attend_to_sentences_by_sigmoids():
    attention, each = objective().local_cross_attention, r(62, (1, 4, 16))
    asked, answered = attention.query1(r(60, (2, 49, 16))[:1]), attention.key2(each)
    assert (asked @ answered.transpose(1, 2) / 4).sigmoid()[0, 0].tolist() == approx([0.289799, 0.593103, 0.784027, 0.631085])


def test_the_decoder_makes_the_released_image():
    one, seen = objective(), []
    one.image_decoder.register_forward_hook(lambda module, given, made: seen.append(made))
    found(3, one)
    assert seen[0][0, 0, 0, :4].tolist() == approx([0.263911, 0.432711, 0.066769, 0.066769])


@pytest.mark.parametrize(("put_back", "distance"), [("assignment", 6.0), ("inverse", 0.0)])
def test_the_assignment_of_three_in_a_circle_is_not_its_own_inverse(put_back, distance):
    wanted = torch.eye(3)[None]
    drawn = wanted[:, [1, 2, 0]]
    assert (drawn[:, matched(drawn, wanted, put_back)[0]] - wanted).abs().sum() == distance


def test_the_first_stage_contrasts():
    parts = found(1, objective())
    assert [parts[name].item() for name in ("regions", "sentences", "images and reports")] == approx([0.032828, 24.957088, 0.189066])
    assert sum(parts.values()).item() == approx(25.178982)


def test_the_second_stage_sees_prototypes_alone():
    one = objective()
    parts = found(2, one)
    names = ("regions", "sentences", "images and reports", "prototypes")
    assert [parts[name].item() for name in names] == approx([0.078714, 20.431911, 25.008837, 7.962780])
    total = sum(parts.values())
    total.backward()
    assert total.item() == approx(53.482243)
    assert float(one.sentence_bank.embed.weight.grad.norm()) == approx(18.187973)
    assert float(one.logit_scale.grad) == approx(24.963858)


def test_the_third_stage_makes_image_and_report_anew():
    one = objective()
    parts = found(3, one)
    names = ("image anew", "report anew", "prototypes anew", "reports anew", "prototypes")
    assert [parts[name].item() for name in names] == approx([1.662197, 9.621834, 4.553756, 11.782269, 7.962780])
    assert parts["images and reports"].item() == approx(250.08837)
    total = sum(parts.values())
    total.backward()
    assert total.item() == approx(306.181793)
    gradients = [one.sentence_bank.embed.weight, one.sentence_decoder.queries, one.logit_scale]
    assert [float(p.grad.norm()) for p in gradients] == approx([174.004593, 8.468966, 261.420807])
    # Signs of differences near zero turn with rounding: in float64 it is 1.479047.
    assert float(one.image_decoder.head.weight.grad.norm()) == pytest.approx(1.478907, rel=2e-4)


def test_decoded_sentences_take_the_places_they_were_matched_to():
    corrected = Options(**{**vars(RELEASED), "put_back": "inverse"})
    parts = found(3, objective(corrected))
    assert [parts[name].item() for name in ("report anew", "prototypes anew", "reports anew")] == approx([8.602832, 4.081835, 2.940304])


def test_noise_is_drawn_in_an_evaluation_only_as_released():
    each = torch.zeros(2, 6, 16)
    each[0, :4], each[1] = r(62, (4, 16)), r(63, (6, 16))
    made = {}
    for noise in ("training", "always"):
        one = objective(Options(**{**vars(RELEASED), "noise": noise})).eval()
        made[noise] = [one.prototypes(each, MASK, torch.arange(2), use) for use in (0, 1)]
    assert torch.equal(*made["training"])
    assert not torch.equal(*made["always"])
    table = r(160, (12, 16))
    assert torch.allclose(made["training"][0], ((each @ table.T / 0.9).softmax(dim=2) @ table) * MASK[..., None], atol=1e-5)
